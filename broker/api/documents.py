"""Documents in the order of the outbox, to be pulled by MES and ERP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, Response

from broker.api import cursor
from broker.api.services import ReaderOf
from broker.documents.shapes import Shape, shaped
from schemas.documents import DocumentType


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/documents")(documents)
    app.get("/api/v1/documents/{document_id}")(document)


def documents(
    reader: ReaderOf,
    after: Annotated[str | None, Query(max_length=200, description="Cursor of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    type: DocumentType | None = None,  # noqa: A002 - the CloudEvents name
) -> Response:
    """
    Released documents as CloudEvents, in the order of their release.

    ``next`` is the cursor behind the last one, an empty page repeats it. 410 says that retention has removed documents
    behind the cursor (or that the store is older than it), and with ``earliest`` where to go on.
    """
    store_id = reader.store_id
    place = cursor.begin(store_id, after, reader.document_span(), "documents")
    if isinstance(place, Response):
        return place
    found = reader.documents(after=place, limit=limit, type=type)
    last = found[-1][0] if found else place
    body: dict[str, Any] = {
        "documents": [one.model_dump(mode="json") for _, one in found],
        "next": cursor.encode(store_id, last),
        "has_more": len(found) == limit,
    }
    return JSONResponse(body, headers={"X-Next-Cursor": body["next"]})


def document(reader: ReaderOf, document_id: str, shape: Shape = "plain") -> Response:
    """One document, plain (CloudEvent) or in the shape of B2MML or SAP."""
    found = reader.document(document_id)
    if found is None:
        return JSONResponse({"detail": "no such document"}, 404)
    return JSONResponse(shaped(found, shape))
