"""Anomalies with their annotations, and the decisions of people on them."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from broker.api.cursor import MAX_PLACE
from broker.api.services import PersonOf, ReaderOf, ServicesOf
from broker.documents.shapes import shaped
from broker.review import decide
from broker.store.rows.episodes import AnnotationEntry, AnomalyRow
from schemas.annotation import RejectReason, Review, ReviewVerdict, phrase, render
from schemas.documents import rfc3339
from schemas.evidence import Evidence


class Decision(BaseModel):
    """Body of a review; see :class:`schemas.annotation.Review`."""

    model_config = ConfigDict(extra="forbid")

    verdict: ReviewVerdict
    reason: RejectReason | None = None
    comment: str = Field(default="", max_length=2000)
    cause_id: str | None = Field(default=None, max_length=64)
    text: str | None = Field(default=None, max_length=600)
    actions: tuple[str, ...] | None = Field(default=None, max_length=10)
    withdraw: bool = Field(default=False, description="A rejection may withdraw what a person has released.")


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/anomalies")(anomalies)
    app.get("/api/v1/anomalies/{anomaly_id}")(anomaly)
    app.post("/api/v1/annotations/{annotation_id}/review")(review)


def _row(row: AnomalyRow) -> dict[str, Any]:
    anomaly_now = row.anomaly
    return {
        "cursor": str(row.cursor),
        "anomaly_id": anomaly_now.anomaly_id,
        "revision": anomaly_now.revision,
        "equipment": anomaly_now.equipment,
        "title": anomaly_now.title,
        "state": anomaly_now.state,
        "kind": anomaly_now.kind,
        "severity": int(anomaly_now.severity),
        "ne107": anomaly_now.ne107,
        "onset": rfc3339(anomaly_now.onset_ns),
        "closed": None if anomaly_now.closed_ns is None else rfc3339(anomaly_now.closed_ns),
        "detector_score": anomaly_now.detector_score,
        "annotation_id": row.annotation_id,
        "origin": row.origin,
        "cause": row.cause,
        "probability": row.probability,
        "suppressed": anomaly_now.suppressed,
        "review": row.verdict,
        "reviewed_by": row.person,
        "reviewed_annotation_id": row.reviewed_annotation_id,
        "withdrawn": row.withdrawn,
    }


def anomalies(
    reader: ReaderOf,
    state: Literal["open", "closed"] | None = None,
    review: Annotated[
        Literal["pending", "approved", "rejected", "edited", "policy"] | None,
        Query(description="Newest review; `policy`: a written policy released it, and nobody has looked at it."),
    ] = None,
    suppressed: Annotated[
        bool | None, Query(description="Only those that ask nobody for attention, or only the others.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        int | None, Query(ge=0, le=MAX_PLACE, description="`cursor` of the last row of the page before.")
    ] = None,
) -> dict[str, Any]:
    """
    Episodes, newest first, each with its newest annotation and review; ``pending`` ones have no review yet.

    The review may be of an earlier annotation than the newest: ``reviewed_annotation_id`` says of which.
    Suppressed ones are among them, and say why.
    """
    found = reader.anomalies(state=state, review=review, suppressed=suppressed, limit=limit, before=before)
    return {"anomalies": [_row(row) for row in found]}


def annotation_json(entry: AnnotationEntry, evidence: Evidence | None) -> dict[str, Any]:
    """An annotation with its provenance; ``rendered`` has the measured facts put in by code."""
    note = entry.annotation
    return {
        "annotation_id": note.annotation_id,
        "evidence_id": note.evidence_id,
        "anomaly_revision": note.anomaly_revision,
        "origin": note.origin,
        "superseded": entry.superseded,
        "created": rfc3339(note.created_ns),
        "causes": [cause.model_dump(mode="json") for cause in note.causes],
        "actions": note.actions,
        "text": note.text,
        "rendered": render(note.text, evidence) if evidence else note.text,
        "detector_score": note.detector_score,
        "provenance": note.provenance.model_dump(mode="json"),
        "reviews": [
            {**one.model_dump(mode="json", exclude={"at_ns"}), "at": rfc3339(one.at_ns)} for one in entry.reviews
        ],
    }


def anomaly(reader: ReaderOf, anomaly_id: str) -> Any:
    """One episode with all its revisions, evidence, annotations and reviews."""
    found = reader.anomaly(anomaly_id)
    if found is None:
        return JSONResponse({"detail": "no such anomaly"}, 404)
    by_id = {item.evidence_id: item for item in found.evidence}
    return {
        "anomaly": found.anomaly.model_dump(mode="json") | {"title": found.anomaly.title},
        "revisions": [one.model_dump(mode="json") for one in found.revisions],
        "evidence": [
            {
                "evidence_id": item.evidence_id,
                "anomaly_revision": item.anomaly_revision,
                "at": rfc3339(item.at_ns),
                "facts": [fact.model_dump(mode="json") | {"rendered": phrase(fact)} for fact in item.facts],
            }
            for item in found.evidence
        ],
        "annotations": [annotation_json(e, by_id.get(e.annotation.evidence_id)) for e in found.annotations],
        "evidence_changed": found.evidence_changed,
    }


def review(services: ServicesOf, person: PersonOf, annotation_id: str, decision: Decision) -> Response:
    """
    Approve, reject or edit exactly the annotation with this id; answers with the documents it released or withdrew.

    What was released can be rejected: each document follows as its next revision, withdrawn; what a person released
    with `withdraw` only, so that nobody withdraws what was approved while they were looking. What a policy released can
    be approved (which sends nothing) and edited (which sends the next revision), too.

    409 says why a decision cannot be taken (decided before, or not what is shown any more).
    """
    told = decision.model_dump(exclude={"withdraw"})
    taken = Review(annotation_id=annotation_id, person=person.name, at_ns=time.time_ns(), **told)
    site = services.config.site.name
    released = services.write(lambda tx: decide(tx, taken, site, withdraw=decision.withdraw))
    return JSONResponse({"verdict": taken.verdict, "documents": [shaped(document, "plain") for document in released]})
