"""Anomalies of chosen detectors, and what people said of them."""

from __future__ import annotations

from collections.abc import Sequence

from broker.store import Transaction
from schemas.annotation import RejectReason, Review, ReviewVerdict
from schemas.anomaly import Anomaly, Cause
from tests.broker.store.plant import PUMP, S, annotation, anomaly, evidence

PERSON = "a.moreau"


def episode(
    name: str, detectors: Sequence[str], onset_ns: int, revision: int = 0, suppressed: Cause | None = None
) -> Anomaly:
    """One revision whose members are of *detectors*, the first one moved first."""
    made = anomaly(name, revision, onset_ns=onset_ns)
    members = tuple(
        made.members[0].model_copy(update={"detector": detector, "onset_ns": onset_ns + place})
        for place, detector in enumerate(detectors)
    )
    return made.model_copy(update={"members": members, "suppressed": suppressed})


def find(
    tx: Transaction,
    name: str,
    detector: str,
    onset_ns: int,
    *said: ReviewVerdict | RejectReason,
    person: str = PERSON,
    equipment: str = PUMP,
) -> None:
    """An anomaly of one detector, and what *person* said of it, one word after the other; a reason is a rejection."""
    of = episode(name, [detector], onset_ns).model_copy(update={"equipment": equipment})
    seen = evidence(of)
    tx.anomaly(of)
    tx.evidence(seen)
    note = annotation(seen)
    tx.annotation(note)
    for place, word in enumerate(said):
        verdict: ReviewVerdict = "approved" if word == "approved" else "edited" if word == "edited" else "rejected"
        tx.review(
            Review(
                annotation_id=note.annotation_id,
                verdict=verdict,
                person=person,
                at_ns=onset_ns + (place + 1) * S,
                reason=None if word in ("approved", "edited") else word,  # type: ignore[arg-type]
                text="Another text [E1]." if word == "edited" else None,
            )
        )
