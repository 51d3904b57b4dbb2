"""Build documents from a reviewed annotation; ids are stable, so that building twice is the same document."""

from __future__ import annotations

import uuid
from typing import Any, Final, Literal

from schemas.annotation import UNKNOWN, Annotation, Cause, Review, citations, phrase, render
from schemas.anomaly import Anomaly, Severity
from schemas.documents import (
    AnomalyAnnotationV1,
    CitedFact,
    Document,
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
    site: str, anomaly: Anomaly, evidence: Evidence, annotation: Annotation, review: Review
) -> Document:
    """The ``anomaly.annotation.v1`` document of a reviewed annotation."""
    assert review.verdict != "rejected"
    body = AnomalyAnnotationV1(
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
                probability=round(cause.probability, 4),
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
        review=ReviewMark(state=review.verdict, by=review.person, at=rfc3339(review.at_ns), comment=review.comment),
    )
    return _envelope(
        site, "anomaly.annotation.v1", annotation.annotation_id, anomaly, review, body.model_dump(mode="json")
    )


def maintenance_request(
    site: str,
    anomaly: Anomaly,
    evidence: Evidence,
    annotation: Annotation,
    review: Review,
    equipment: Equipment | None,
) -> Document:
    """The one ``maintenance.request.v1`` document of an anomaly."""
    assert review.verdict != "rejected"
    first = _causes(evidence, annotation, review)[0]
    actions = _actions(annotation, review)
    name = anomaly.equipment.rsplit("/", 1)[-1]
    changed_cause = review.verdict == "edited" and review.cause_id not in {None, annotation.causes[0].id}
    namer = "a person" if changed_cause else annotation.origin
    lines = [
        f"{first.text} ({first.mechanism}), named by {namer}.",
        render(_text(annotation, review), evidence),
        *(f"- {fact.id}: {phrase(fact)}" for fact in evidence.facts),
        *(f"Proposed: {action}" for action in actions),
        f"Approved by {review.person} at {rfc3339(review.at_ns)}.",
    ]
    body = MaintenanceRequestV1(
        request_id=_identity("maintenance.request.v1", anomaly.anomaly_id),
        anomaly_id=anomaly.anomaly_id,
        annotation_id=annotation.annotation_id,
        equipment=anomaly.equipment,
        sap_object=equipment.sap_object if equipment else None,
        sap_object_kind=equipment.sap_kind if equipment and equipment.sap_object else None,
        sap_plant=equipment.sap_plant if equipment else None,
        short_text=f"{name}: {first.text}"[:40],
        long_text="\n".join(lines),
        priority=_priority(anomaly.severity),
        breakdown=anomaly.ne107 == "F" and anomaly.severity == Severity.CRITICAL,
        malfunction_start=rfc3339(anomaly.onset_ns),
        malfunction_end=None if anomaly.closed_ns is None else rfc3339(anomaly.closed_ns),
        requested_by=review.person,
    )
    return _envelope(site, "maintenance.request.v1", anomaly.anomaly_id, anomaly, review, body.model_dump(mode="json"))


def document_ids(anomaly_id: str, annotation_id: str) -> tuple[str, str]:
    """Ids of the documents that the release of an annotation makes: annotation and maintenance request."""
    return _identity("anomaly.annotation.v1", annotation_id), _identity("maintenance.request.v1", anomaly_id)


def _priority(severity: Severity) -> Any:
    return str(int(severity))


def _identity(document_type: DocumentType, key: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{document_type}/{key}"))


def _envelope(
    site: str, document_type: DocumentType, key: str, anomaly: Anomaly, review: Review, data: dict[str, Any]
) -> Document:
    return Document(
        id=_identity(document_type, key),
        source=f"urn:fairlead:{site}",
        type=document_type,
        subject=anomaly.equipment,
        time=rfc3339(review.at_ns),
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
    changed = review.cause_id not in {None, annotation.causes[0].id} or review.text not in {None, annotation.text}
    return "person" if review.verdict == "edited" and changed else annotation.origin


def _text(annotation: Annotation, review: Review) -> str:
    return review.text if review.verdict == "edited" and review.text is not None else annotation.text


def _actions(annotation: Annotation, review: Review) -> tuple[str, ...]:
    return review.actions if review.verdict == "edited" and review.actions is not None else annotation.actions
