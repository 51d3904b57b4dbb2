"""Rows of anomalies: what is said of them, what waits for the model, and what people suppressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from schemas.annotation import Annotation, Review, ReviewVerdict
from schemas.anomaly import Anomaly
from schemas.evidence import Evidence


@dataclass(frozen=True, slots=True)
class AnomalyRow:
    """
    One episode for a list. ``cursor`` goes on behind it.

    ``annotation_id``, ``origin``, ``cause`` and ``probability`` are of the newest annotation that is not advisory;
    ``verdict`` and ``person`` of the newest review of any annotation of the episode, which is that of
    ``reviewed_annotation_id``; ``advisory_id`` is the newest advisory annotation. ``withdrawn``: documents of it were
    released, and a person has rejected it since.
    """

    cursor: int
    anomaly: Anomaly
    annotation_id: str | None
    origin: str | None
    cause_id: str | None
    cause: str | None
    probability: float | None
    verdict: str | None
    person: str | None
    advisory_id: str | None = None
    reviewed_annotation_id: str | None = None
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class AnnotationEntry:
    """
    An annotation with its reviews; ``superseded``: a newer one of the same anomaly exists, where this one is advisory
    also a newer evidence.

    ``reason``: why the model's last attempt at this evidence brought no answer; empty when it was not asked, or
    answered.
    """

    annotation: Annotation
    superseded: bool
    reviews: list[Review]
    reason: str


@dataclass(frozen=True, slots=True)
class AnomalyDetail:
    """
    Everything that is known of one episode.

    ``revisions`` oldest first, ``evidence`` oldest first, ``annotations`` newest first, advisory ones after all others.
    ``evidence_changed``: the newest evidence is not the one that the newest annotation saw.
    """

    anomaly: Anomaly
    revisions: list[Anomaly]
    evidence: list[Evidence]
    annotations: list[AnnotationEntry]
    reviews: list[Review]
    evidence_changed: bool

    def advisory_to(self, annotation: Annotation) -> AnnotationEntry | None:
        """What a model without a passing score card said of the same evidence; it counts for nothing."""
        return next(
            (
                entry
                for entry in self.annotations
                if entry.annotation.origin == "advisory" and entry.annotation.evidence_id == annotation.evidence_id
            ),
            None,
        )


class PendingRow(NamedTuple):
    """Evidence that waits for the model; ``ordinal`` grows with its age in the store."""

    evidence_id: str
    severity: int
    ordinal: int
    detector_score: float


@dataclass(frozen=True, slots=True)
class PastEpisode:
    """
    A closed episode and what the newest review said of it; without one everything but ``anomaly`` is None or empty.

    ``cause_id`` and ``cause`` are what the verdict is about: approved, the cause that holds; rejected, the one that
    does not, which is that of the decision that it withdraws; edited, the one that the person named, or the proposed
    one where only words were changed.
    """

    anomaly: Anomaly
    verdict: ReviewVerdict | None = None
    cause_id: str | None = None
    cause: str | None = None
    reason: str | None = None
    comment: str = ""


class SuppressionRow(NamedTuple):
    """
    What a person suppressed: ``mode`` is shelf or maintenance, ``kind`` empty for every kind of finding.

    ``until_ns`` None: until a person ends it. ``ended_ns`` None: in force; ``ended_by`` empty: time ended it.
    ``findings`` are those that it held.
    """

    suppression_id: str
    mode: str
    target: str
    kind: str
    actor: str
    reason: str
    from_ns: int
    until_ns: int | None
    ended_ns: int | None
    ended_by: str | None
    findings: int
