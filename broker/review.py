"""
A person's decision on an annotation, and what follows from it.

An approval binds to the hash of what the person saw (``annotation_id``). It makes the documents in the same
transaction; a maintenance request exists once an anomaly, and only after this.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from broker.documents.build import annotation_document, maintenance_request
from broker.store.text import canonical
from schemas.annotation import UNKNOWN, Annotation, Review, citations
from schemas.anomaly import Anomaly
from schemas.documents import Document
from schemas.errors import Refused
from schemas.evidence import Evidence
from schemas.tagmap import Equipment


class Ledger(Protocol):
    """The reads and writes that a review needs from the writer's transaction."""

    def annotation_by_id(self, annotation_id: str) -> Annotation | None:
        """The annotation, or None."""
        ...

    def anomaly_at(self, anomaly_id: str, revision: int) -> Anomaly | None:
        """One revision of an anomaly, or None."""
        ...

    def evidence_by_id(self, evidence_id: str) -> Evidence | None:
        """The evidence, or None."""
        ...

    def reviews_of(self, anomaly_id: str) -> list[Review]:
        """All reviews of all annotations of an anomaly, oldest first."""
        ...

    def equipment_by_path(self, path: str) -> Equipment | None:
        """The equipment as the newest map has it, or None."""
        ...

    def review(self, review: Review) -> None:
        """Store the review."""
        ...

    def document(self, document: Document) -> int:
        """Store the document and put it into the outbox; returns its place."""
        ...

    def audit(self, actor: str, action: str, object_id: str, detail: dict[str, object]) -> None:
        """Add a row to the audit chain."""
        ...


def decide(ledger: Ledger, review: Review, site: str) -> list[Document]:
    """
    Record *review* and return the documents it caused.

    Raises:
        Refused: the annotation is unknown, was decided before, the anomaly has a released annotation already, a
            reason or a change is missing, or the changed text cites what is not there.
    """
    annotation = ledger.annotation_by_id(review.annotation_id)
    if annotation is None:
        raise Refused("this annotation does not exist; reload the page")
    # what stands in a document is the revision that was explained and shown, not what it has grown to since
    anomaly = ledger.anomaly_at(annotation.anomaly_id, annotation.anomaly_revision)
    evidence = ledger.evidence_by_id(annotation.evidence_id)
    if anomaly is None or evidence is None:
        raise Refused("the anomaly or the evidence of this annotation is no longer kept")
    _check_open(ledger.reviews_of(annotation.anomaly_id), review)
    if review.verdict == "rejected" and review.reason is None:
        raise Refused("a rejection needs a reason")
    if review.verdict == "edited":
        _check_edit(review, annotation, evidence)
    ledger.review(review)
    detail: dict[str, object] = {
        "anomaly_id": annotation.anomaly_id,
        "evidence_id": annotation.evidence_id,
        "reason": review.reason or "",
        "review_sha256": review_sha256(review),
    }
    ledger.audit(review.person, f"annotation_{review.verdict}", review.annotation_id, detail)
    if review.verdict == "rejected":
        return []
    equipment = ledger.equipment_by_path(anomaly.equipment)
    documents = [
        annotation_document(site, anomaly, evidence, annotation, review),
        maintenance_request(site, anomaly, evidence, annotation, review, equipment),
    ]
    for document in documents:
        ledger.document(document)
        ledger.audit(review.person, "document_released", document.id, {"type": document.type})
    return documents


def review_sha256(review: Review) -> str:
    """What the audit keeps of a decision: SHA-256 of its canonical JSON, as it is stored."""
    return hashlib.sha256(canonical(review.model_dump(mode="json")).encode()).hexdigest()


def _check_open(earlier: list[Review], review: Review) -> None:
    for one in earlier:
        if one.annotation_id == review.annotation_id:
            raise Refused(f"{one.person} has {one.verdict} this annotation already")
        if one.verdict in {"approved", "edited"}:
            raise Refused(f"{one.person} has released an annotation of this anomaly already; one request an anomaly")


def _check_edit(review: Review, annotation: Annotation, evidence: Evidence) -> None:
    if review.cause_id is None and review.text is None and review.actions is None:
        raise Refused("an edit changes the cause, the text or the actions")
    known = {cause.id for cause in evidence.causes} | {UNKNOWN}
    if review.cause_id is not None and review.cause_id not in known:
        raise Refused(f"cause {review.cause_id!r} is not in the catalogue of this equipment")
    if review.cause_id not in {None, annotation.causes[0].id} and review.text in {None, annotation.text}:
        raise Refused("another cause needs a text of its own: the present one argues for the cause that was proposed")
    for fact_id in citations(review.text or ""):
        if evidence.fact(fact_id) is None:
            raise Refused(f"the text cites {fact_id}, which this evidence does not have")
