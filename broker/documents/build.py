"""
Build documents from a reviewed annotation; ids are stable, so that building twice is the same document.

A withdrawal is the document that was released, with the next revision, its status and who took it back: what ERP has
was sent, and is never altered. What stands in the map or the configuration, and may have changed since, it takes from
the released one; where retention has removed that, from what is in force.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, Literal

from broker.documents.sendings import Sending
from schemas.annotation import UNKNOWN, Annotation, Cause, Review, citations, phrase, render
from schemas.anomaly import Anomaly, Severity
from schemas.documents import (
    AnomalyAnnotationV1,
    CitedFact,
    Document,
    DocumentStatus,
    DocumentType,
    MaintenanceRequestV1,
    NamedCause,
    ReviewMark,
    rfc3339,
)
from schemas.evidence import Evidence
from schemas.tagmap import Equipment

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:fairlead:documents")


def annotation_document(
    site: str,
    anomaly: Anomaly,
    evidence: Evidence,
    annotation: Annotation,
    sending: Sending,
    released: Document | None = None,
) -> Document:
    """The ``anomaly.annotation.v1`` document of a reviewed annotation, or the withdrawal of *released*."""
    review = sending.release
    assert review.verdict != "rejected"
    revision, key = sending.annotation_revision, annotation.annotation_id
    body = AnomalyAnnotationV1(
        revision=revision,
        status=_status(sending),
        supersedes=identity("anomaly.annotation.v1", key, revision - 1) if revision else None,
        anomaly_id=anomaly.anomaly_id,
        anomaly_revision=annotation.anomaly_revision,
        annotation_id=annotation.annotation_id,
        equipment=anomaly.equipment,
        tags=tuple(dict.fromkeys(member.path for member in anomaly.members)),
        kind=anomaly.kind,
        severity=int(anomaly.severity),
        ne107=anomaly.ne107,
        start=rfc3339(anomaly.onset_ns),
        end=None if anomaly.closed_ns is None else rfc3339(anomaly.closed_ns),
        evidence=tuple(CitedFact(id=fact.id, text=phrase(fact)) for fact in evidence.facts),
        causes=tuple(
            NamedCause(
                cause=cause.id,
                text=cause.text,
                mechanism=cause.mechanism,
                probability=None if cause.probability is None else round(cause.probability, 4),
                evidence=cause.cites,
            )
            for cause in _causes(evidence, annotation, review)
        ),
        text=render(_text(annotation, review), evidence),
        actions=_actions(annotation, review),
        detector_score=anomaly.detector_score,
        origin=_origin(annotation, review),
        model_sha256=annotation.provenance.model_sha256,
        prompt_sha256=annotation.provenance.prompt_sha256,
        review=_mark(sending.review),
    )
    document_id = identity("anomaly.annotation.v1", key, revision)
    source = released.source if released is not None else _source(site)
    return _envelope(source, "anomaly.annotation.v1", document_id, anomaly, sending, body.model_dump(mode="json"))


def maintenance_request(
    site: str,
    anomaly: Anomaly,
    evidence: Evidence,
    annotation: Annotation,
    sending: Sending,
    equipment: Equipment | None,
    released: Document | None = None,
) -> Document:
    """The one ``maintenance.request.v1`` of an anomaly, as this sending tells it; *released*: what it withdraws."""
    review = sending.release
    assert review.verdict != "rejected"
    first = _causes(evidence, annotation, review)[0]
    actions = _actions(annotation, review)
    name = anomaly.equipment.rsplit("/", 1)[-1]
    changed_cause = review.verdict == "edited" and review.cause_id not in {None, annotation.causes[0].id}
    namer = "a person" if changed_cause else annotation.origin
    lines = [
        *([taken_back(_mark(sending.review))] if sending.withdraws else []),
        f"{first.text} ({first.mechanism}), named by {namer}.",
        render(_text(annotation, review), evidence),
        *(f"- {fact.id}: {phrase(fact)}" for fact in evidence.facts),
        *(f"Proposed: {action}" for action in actions),
        f"Approved by {review.person} at {rfc3339(review.at_ns)}.",
    ]
    revision, key = sending.request_revision, anomaly.anomaly_id
    body = MaintenanceRequestV1(
        revision=revision,
        status=_status(sending),
        supersedes=identity("maintenance.request.v1", key, revision - 1) if revision else None,
        request_id=identity("maintenance.request.v1", key),
        anomaly_id=anomaly.anomaly_id,
        annotation_id=annotation.annotation_id,
        external_reference=sending.reference,
        equipment=anomaly.equipment,
        **_sap(equipment, released),
        short_text=f"{'Withdrawn: ' if sending.withdraws else ''}{name}: {first.text}"[:40],
        long_text="\n".join(lines),
        priority=_priority(anomaly.severity),
        breakdown=anomaly.ne107 == "F" and anomaly.severity == Severity.CRITICAL,
        malfunction_start=rfc3339(anomaly.onset_ns),
        malfunction_end=None if anomaly.closed_ns is None else rfc3339(anomaly.closed_ns),
        requested_by=review.person,
        withdrawn=_mark(sending.review) if sending.withdraws else None,
    )
    document_id = identity("maintenance.request.v1", key, revision)
    source = released.source if released is not None else _source(site)
    return _envelope(source, "maintenance.request.v1", document_id, anomaly, sending, body.model_dump(mode="json"))


def document_ids(anomaly_id: str, sending: Sending) -> tuple[str, str]:
    """Ids of the documents of a sending: annotation and maintenance request."""
    return (
        identity("anomaly.annotation.v1", sending.review.annotation_id, sending.annotation_revision),
        identity("maintenance.request.v1", anomaly_id, sending.request_revision),
    )


def superseded_ids(anomaly_id: str, sending: Sending) -> tuple[str, str]:
    """Ids of the documents that a withdrawal follows, in the same order."""
    return document_ids(
        anomaly_id,
        sending._replace(
            annotation_revision=sending.annotation_revision - 1, request_revision=sending.request_revision - 1
        ),
    )


def identity(document_type: DocumentType, key: str, revision: int = 0) -> str:
    """``id`` of a document of this annotation or anomaly; that of revision 0 names the thing in B2MML."""
    following = f"/{revision}" if revision else ""
    return str(uuid.uuid5(_NAMESPACE, f"{document_type}/{key}{following}"))


def taken_back(mark: ReviewMark) -> str:
    """The sentence that tells of a rejection, in the texts of what it withdraws."""
    comment = f": {mark.comment}" if mark.comment else "."
    return f"Withdrawn: rejected by {mark.by} at {mark.at} ({mark.reason.replace('_', ' ')}){comment}"


def _priority(severity: Severity) -> Any:
    return str(int(severity))


def _status(sending: Sending) -> DocumentStatus:
    return "withdrawn" if sending.withdraws else "released"


def _mark(review: Review) -> ReviewMark:
    at = rfc3339(review.at_ns)
    return ReviewMark(state=review.verdict, by=review.person, at=at, comment=review.comment, reason=review.reason or "")


def _sap(equipment: Equipment | None, released: Document | None) -> dict[str, Any]:
    if released is not None:
        return {name: released.data[name] for name in ("sap_object", "sap_object_kind", "sap_plant")}
    return {
        "sap_object": equipment.sap_object if equipment else None,
        "sap_object_kind": equipment.sap_kind if equipment and equipment.sap_object else None,
        "sap_plant": equipment.sap_plant if equipment else None,
    }


def _source(site: str) -> str:
    return f"urn:fairlead:{site}"


def _envelope(
    source: str, document_type: DocumentType, document_id: str, anomaly: Anomaly, sending: Sending, data: dict[str, Any]
) -> Document:
    return Document(
        id=document_id,
        source=source,
        type=document_type,
        subject=anomaly.equipment,
        time=rfc3339(sending.review.at_ns),
        dataschema=f"urn:fairlead:schema:{document_type}",
        data=data,
    )


def _causes(evidence: Evidence, annotation: Annotation, review: Review) -> tuple[Cause, ...]:
    if review.verdict != "edited" or review.cause_id in {None, annotation.causes[0].id}:
        return annotation.causes
    # the old citations argued for another cause; what the person rests on stands in the text
    cites = tuple(dict.fromkeys(citations(review.text or "")))
    option = next((cause for cause in evidence.causes if cause.id == review.cause_id), None)
    if option is None:
        return (Cause(id=UNKNOWN, text="Unknown", mechanism="unknown", probability=1.0, cites=cites),)
    return (Cause(id=option.id, text=option.text, mechanism=option.mechanism, probability=1.0, cites=cites),)


def _origin(annotation: Annotation, review: Review) -> Literal["model", "rules", "person"]:
    """Whose cause and text stand in the document; other actions alone do not make them a person's."""
    if annotation.origin == "advisory":
        raise ValueError("no document is made of an advisory annotation")
    return "person" if review.corrects(annotation.causes[0].id, annotation.text) else annotation.origin


def _text(annotation: Annotation, review: Review) -> str:
    return review.text if review.verdict == "edited" and review.text is not None else annotation.text


def _actions(annotation: Annotation, review: Review) -> tuple[str, ...]:
    return review.actions if review.verdict == "edited" and review.actions is not None else annotation.actions
