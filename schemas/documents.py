"""
Documents an MES or ERP can post: a versioned body in a CloudEvents 1.0 envelope.

Source: CloudEvents 1.0 (structured JSON), B2MML V7 field names in the ``b2mml`` shape, SAP API_MAINTNOTIFICATION in
the ``sap`` shape. Nothing is posted by Fairlead; the customer's middleware does that.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

DocumentType = Literal["anomaly.annotation.v1", "maintenance.request.v1"]
#: Whether what a document says stands. ``withdrawn``: a person rejected what was released before.
DocumentStatus = Literal["released", "withdrawn"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def rfc3339(ns: int) -> str:
    """UTC time with nine digits of a second; ns integers exceed what JSON readers keep exactly."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest:09d}Z"


@lru_cache(4096)
def _second(seconds: int) -> str:
    """Pages of records have many times of few seconds, and the calendar costs most."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


class CitedFact(_Frozen):
    """One cited fact, rendered."""

    id: str
    text: str


class NamedCause(_Frozen):
    """One cause as the document names it; ``probability`` is none where a model server told none."""

    cause: str
    text: str
    mechanism: str
    probability: float | None
    evidence: tuple[str, ...]


class ReviewMark(_Frozen):
    """Who decided, and when; ``reason`` of a rejection only."""

    state: Literal["approved", "edited", "rejected"]
    by: str
    at: str
    comment: str = ""
    reason: str = ""


class _Following(_Frozen):
    """
    What a later document of the same thing bears: the highest ``revision`` says how it stands.

    ``supersedes`` is the ``id`` of the revision before; none: it is the first.
    """

    revision: int = Field(0, ge=0)
    status: DocumentStatus = "released"
    supersedes: str | None = None


class AnomalyAnnotationV1(_Following):
    """
    ``anomaly.annotation.v1``: a reviewed explanation of one episode, known by its ``annotation_id``.

    Of a withdrawn one ``review`` is the rejection; everything else stands as it was released.
    """

    anomaly_id: str
    anomaly_revision: int
    annotation_id: str
    equipment: str
    tags: tuple[str, ...]
    kind: str
    severity: int = Field(ge=1, le=4)
    ne107: Literal["F", "C", "S", "M"]
    start: str
    end: str | None
    evidence: tuple[CitedFact, ...]
    causes: tuple[NamedCause, ...]
    text: str
    actions: tuple[str, ...]
    detector_score: float
    origin: Literal["model", "rules", "person"]
    model_sha256: str
    prompt_sha256: str
    review: ReviewMark


class MaintenanceRequestV1(_Following):
    """
    ``maintenance.request.v1``: exists only after a named person approved the annotation, or a written policy did.

    One an anomaly, known by its ``request_id``; SAP knows it by ``external_reference``, the annotation that the first
    revision was made of (empty in documents from before revisions: it is ``annotation_id``). Of a withdrawn one
    ``withdrawn`` is the rejection, and both texts begin with the word, for readers that know no ``status``.
    """

    request_id: str
    anomaly_id: str
    annotation_id: str
    external_reference: str = ""
    equipment: str
    sap_object: str | None
    sap_object_kind: Literal["EAMS_EQUI", "EAMS_FL"] | None
    sap_plant: str | None
    short_text: str = Field(max_length=40)
    long_text: str
    priority: Literal["1", "2", "3", "4"]
    breakdown: bool
    malfunction_start: str
    malfunction_end: str | None
    requested_by: str
    withdrawn: ReviewMark | None = None


class Document(_Frozen):
    """
    CloudEvents 1.0 envelope in structured JSON; ``id`` is stable, so a reader can tell a repeat.

    Each revision has an ``id`` of its own: of two events with one id a reader may pass over the second.
    """

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: DocumentType
    subject: str
    time: str
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str
    sequence: str = Field("", description="Place in the outbox; set when it is read.")
    data: dict[str, Any]
