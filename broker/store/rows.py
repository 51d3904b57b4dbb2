"""What readers get: plain rows, times UTC ns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.annotation import Annotation, Review, ReviewVerdict
from schemas.anomaly import Anomaly
from schemas.evidence import Evidence
from schemas.status import quality


@dataclass(frozen=True, slots=True)
class Window:
    """Stored rows of one tag in order of time: int64[n], float64[n] (NaN without a number), uint32[n]."""

    source_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]


class RecordRow(NamedTuple):
    """
    One stored record. ``value_int`` and ``value_text`` hold what a float cannot; text of arrays and structures is
    JSON, of bytes base64, of integers beyond int64 decimal. ``tag`` is the stable id; ``meaning`` what the map said of
    its values when the record was stored (:mod:`broker.store.meanings`).
    """

    seq: int
    path: str
    unit: str
    source_ns: int
    server_ns: int | None
    received_ns: int
    value: float | None
    value_int: int | None
    value_text: str | None
    status: int
    flags: int
    revision: int
    tag: str = ""
    meaning: str | None = None

    @property
    def quality(self) -> str:
        """``good``, ``uncertain`` or ``bad``."""
        return quality(self.status).name.lower()


@dataclass(frozen=True, slots=True)
class CurrentRow:
    """The newest record of a tag, and the oldest gap that is open for it: the record is then no present value."""

    record: RecordRow
    gap_cause: str | None
    gap_from_ns: int | None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Rows in order of ``seq``; go on after ``next_after``, which may lie behind the last row of a filtered page."""

    rows: list[RecordRow]
    next_after: int
    has_more: bool


class TagRow(NamedTuple):
    """One tag as the newest map that had it says; ``in_map`` False: no map in force has it now."""

    tag_id: int
    id: str
    path: str
    source: str
    address: str
    type: str | None
    unit: str
    role: str | None
    equipment: str
    range_low: float | None
    range_high: float | None
    enum: dict[int, str] | None
    description: str
    in_map: bool


class TrendPoint(NamedTuple):
    """
    One bucket of a trend: ``n`` rows, ``n_good`` good, ``n_bad`` bad; numbers are None where no row had one.

    ``at_ns`` is the begin of the bucket, ``first_ns`` and ``last_ns`` the times of the first and last number.
    """

    at_ns: int
    n: int
    n_good: int
    n_bad: int
    min: float | None
    max: float | None
    first: float | None
    first_ns: int | None
    last: float | None
    last_ns: int | None


class GapRow(NamedTuple):
    """
    A hole in the data; ``path`` None: every tag of the source. ``source`` empty: every source. ``to_ns`` None: still
    open. ``scope`` is ``samples``, or ``events`` where events of the source are missing and no sample. ``tag`` is the
    stable id, ``changed`` the place of its last change among those of all gaps.
    """

    gap_id: int
    source: str
    path: str | None
    cause: str
    from_ns: int
    to_ns: int | None
    backfilled: bool
    detail: str
    scope: str = "samples"
    tag: str | None = None
    changed: int = 0


@dataclass(frozen=True, slots=True)
class GapPage:
    """Gaps in the order of their changes; go on after ``next_after``, which may lie behind the last row."""

    rows: list[GapRow]
    next_after: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class Trend:
    """
    Points of one tag in order of time, without empty buckets; ``resolution`` says what they were computed from.

    ``gaps`` are the holes in the span: a line must not be drawn across them.
    """

    path: str
    unit: str
    from_ns: int
    to_ns: int
    bucket_ns: int
    resolution: str
    points: list[TrendPoint]
    gaps: list[GapRow]


class QuarantineRow(NamedTuple):
    """What could not become a record, and why."""

    quarantine_id: int
    source: str
    place: str
    reason: str
    raw: bytes
    received_ns: int


class EventRow(NamedTuple):
    """
    One event of a server as :class:`schemas.alarms.Event` describes it; ``event_id`` is hexadecimal.

    ``revision`` above 0: a correction of the row with the same source, time and ``fingerprint``.

    ``condition_id`` None: it is no alarm, and everything behind it is None, too. ``fields`` are JSON-like.
    """

    seq: int
    source: str
    equipment: str
    time_ns: int
    server_ts: int | None
    received_ts: int
    notifier: str
    event_id: str
    event_type: str
    type_name: str
    source_node: str
    source_name: str
    severity: int
    message: str
    flags: int
    condition_id: str | None
    condition_name: str | None
    branch_id: str | None
    retain: bool | None
    enabled: bool | None
    acked: bool | None
    confirmed: bool | None
    active: bool | None
    state: str | None
    last_severity: int | None
    quality: int | None
    comment: str | None
    user_name: str | None
    fields: dict[str, Any]
    fingerprint: int
    revision: int


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order of ``seq``; go on after ``next_after``, which may lie behind the last row of a filtered page."""

    rows: list[EventRow]
    next_after: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class EventTail:
    """The last events, oldest first; ``looked_from``: none before that ``seq`` was looked at, None: enough were."""

    rows: list[EventRow]
    looked_from: int | None


class ReplayRow(NamedTuple):
    """
    A replay; ``state`` is running, done, failed or interrupted.

    ``from_ns`` and ``to_ns`` are times of reception, ``at_ns`` how far in it the journal was read; ``sources`` empty:
    all. ``entries`` were looked at, ``rows`` written under this revision.
    """

    revision: int
    state: str
    actor: str
    reason: str
    sources: tuple[str, ...]
    from_ns: int
    to_ns: int
    map_revision: bytes
    started_ns: int
    ended_ns: int | None
    at_ns: int | None
    entries: int
    rows: int
    detail: str


class SourceRow(NamedTuple):
    """
    A source as the stream last saw it; ``up`` None: no link message yet.

    ``rows``, ``events`` and ``rejected`` count what ever came, ``quarantined`` the rejects that are still kept.
    """

    source: str
    up: bool | None
    reason: str
    since_ns: int | None
    rows: int
    last_received_ns: int | None
    rejected: int
    quarantined: int
    events: int = 0


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


class UserRow(NamedTuple):
    """A person who may sign in. Never show ``password_hash``."""

    name: str
    roles: tuple[str, ...]
    password_hash: str
    disabled: bool


class AuditRow(NamedTuple):
    """One link of the audit chain; ``hash`` covers every other column, ``prev_hash`` the row before."""

    audit_id: int
    at_ns: int
    actor: str
    action: str
    object_id: str
    detail: str
    prev_hash: str
    hash: str


class AuditFault(NamedTuple):
    """The first row at which the audit chain does not hold."""

    audit_id: int
    reason: str


class ManualRow(NamedTuple):
    """One imported file; see :class:`schemas.manuals.Manual`."""

    manual_id: int
    name: str
    kind: str
    state: str
    sha256: str
    size: int
    pages: int | None
    passages: int
    equipment: tuple[str, ...]
    classes: tuple[str, ...]
    actor: str
    imported_ns: int


class PassageRow(NamedTuple):
    """A passage that was found, with the name of its file; ``words`` are those that a search compares."""

    passage_id: int
    manual_id: int
    name: str
    kind: str
    page: int | None
    line: int | None
    heading: str
    text: str
    equipment: str
    words: frozenset[str]


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


@dataclass(frozen=True, slots=True)
class Counts:
    """
    Figures of the whole store; ``records`` counts rows ever stored, the others what is there now.

    ``anomalies_open`` are those that ask for attention, ``anomalies_suppressed`` those open ones that do not;
    ``suppressions`` of people are in force.
    """

    records: int
    first_seq: int | None
    gaps_open: int
    quarantine: int
    anomalies_open: int
    anomalies_suppressed: int
    suppressions: int
    pending_review: int
    documents: int
    tags: int
    epoch: int
    seq: int
    bytes: int
    wal_bytes: int
