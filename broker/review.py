"""
A person's decision on an annotation, and what follows from it.

An approval binds to the hash of what the person saw (``annotation_id``). It makes the documents in the same
transaction; a maintenance request exists once an anomaly, and only after this.

What was released can still be rejected, whoever released it: the documents follow once more, withdrawn. What a policy
released a person can confirm or correct as well, because nobody has looked at it.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from broker.documents.build import annotation_document, maintenance_request, superseded_ids
from broker.documents.sendings import sendings, standing
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

    def document_by_id(self, document_id: str) -> Document | None:
        """One document, or None where the outbox does not have it."""
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


def decide(ledger: Ledger, review: Review, site: str, *, withdraw: bool = True) -> list[Document]:
    """
    Record *review* and return the documents it caused: released, or withdrawn where it rejects what was released.

    *withdraw*: whether a rejection may withdraw what a person released; without it, who rejects did not know of that.

    Raises:
        Refused: the annotation is unknown, advisory, or was decided before, another annotation of the anomaly is
            released, a reason or a change is missing, the changed text cites what is not there, or a policy would
            release what a person has rejected.
    """
    annotation = ledger.annotation_by_id(review.annotation_id)
    if annotation is None:
        raise Refused("this annotation does not exist; reload the page")
    if annotation.origin == "advisory":
        why = annotation.provenance.advisory_reason
        raise Refused(f"this text is advisory ({why}); decide on the rules' annotation, edit it to take words over")
    # what stands in a document is the revision that was explained and shown, not what it has grown to since
    anomaly = ledger.anomaly_at(annotation.anomaly_id, annotation.anomaly_revision)
    evidence = ledger.evidence_by_id(annotation.evidence_id)
    if anomaly is None or evidence is None:
        raise Refused("the anomaly or the evidence of this annotation is no longer kept")
    earlier = ledger.reviews_of(annotation.anomaly_id)
    _check_open(earlier, review, withdraw=withdraw)
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
    sent = sendings([*earlier, review])
    if not sent or sent[-1].review is not review:
        return []
    sending = sent[-1]
    equipment = ledger.equipment_by_path(anomaly.equipment)
    told: Document | None = None
    asked: Document | None = None
    if sending.withdraws:
        told, asked = (ledger.document_by_id(one) for one in superseded_ids(anomaly.anomaly_id, sending))
    documents = [
        annotation_document(site, anomaly, evidence, annotation, sending, told),
        maintenance_request(site, anomaly, evidence, annotation, sending, equipment, asked),
    ]
    for document in documents:
        ledger.document(document)
        place = {"type": document.type, **{name: document.data[name] for name in ("revision", "supersedes")}}
        ledger.audit(review.person, f"document_{document.data['status']}", document.id, place)
    return documents


def review_sha256(review: Review) -> str:
    """What the audit keeps of a decision: SHA-256 of its canonical JSON, as it is stored."""
    return hashlib.sha256(canonical(review.model_dump(mode="json")).encode()).hexdigest()


def _check_open(earlier: list[Review], review: Review, *, withdraw: bool) -> None:
    in_force = standing(earlier)
    before = in_force.pop(review.annotation_id, None)
    if before is not None and not _may_follow(before, review):
        raise Refused(f"{before.person} has {before.verdict} this annotation already")
    if before is not None and not before.by_policy and not withdraw:
        how = "reload, and reject it again to withdraw what was sent (`withdraw`)"
        raise Refused(f"{before.person} has {before.verdict} this annotation already; {how}")
    for one in in_force.values():
        if one.verdict != "rejected":
            how = "; reject that one to withdraw it" if review.verdict == "rejected" else "; one request an anomaly"
            raise Refused(
                f"{one.person} has released another annotation ({one.annotation_id}) of this anomaly already{how}"
            )
        if review.by_policy:
            raise Refused(f"{one.person} has rejected an annotation of this anomaly: no policy releases another")


def _may_follow(before: Review, review: Review) -> bool:
    """Whether a decision in force leaves room for another on the same annotation."""
    if before.verdict == "rejected" or review.by_policy:
        return False
    return review.verdict == "rejected" or before.by_policy


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
