"""Manuals and maintenance logs of the site: what is imported, a search, and the steps of an import."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from broker.api.services import PersonOf, ReaderOf, ServicesOf
from broker.manuals.library import check_scope, drop, finish
from broker.store.rows.manuals import ManualRow, PassageRow
from schemas.documents import rfc3339
from schemas.manuals import MAX_AT_ONCE, Manual, Passage
from schemas.words import words


class NewManual(Manual):
    """A file that is about to come. ``replace``: also one of the same name that is about something else."""

    replace: bool = False


class Passages(BaseModel):
    """Some passages of a file, in order."""

    model_config = ConfigDict(extra="forbid")

    passages: list[Passage] = Field(min_length=1, max_length=MAX_AT_ONCE)


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/manuals")(manuals)
    app.get("/api/v1/manuals/search")(search)
    app.post("/api/v1/manuals")(begin)
    app.post("/api/v1/manuals/{manual_id}/passages")(add)
    app.post("/api/v1/manuals/{manual_id}/finish")(end)
    app.post("/api/v1/manuals/{manual_id}/remove")(remove)


def manual_json(row: ManualRow) -> dict[str, Any]:
    """One imported file for JSON."""
    return {
        "manual_id": row.manual_id,
        "name": row.name,
        "kind": row.kind,
        "sha256": row.sha256,
        "size": row.size,
        "pages": row.pages,
        "passages": row.passages,
        "equipment": list(row.equipment),
        "classes": list(row.classes),
        "imported": rfc3339(row.imported_ns),
        "imported_by": row.actor,
    }


def passage_json(row: PassageRow) -> dict[str, Any]:
    """One passage for JSON."""
    return {
        "name": row.name,
        "kind": row.kind,
        "page": row.page,
        "line": row.line,
        "heading": row.heading,
        "text": row.text,
    }


def manuals(reader: ReaderOf) -> dict[str, Any]:
    """Imported manuals and maintenance logs."""
    return {"manuals": [manual_json(row) for row in reader.manuals()]}


def search(
    reader: ReaderOf,
    q: Annotated[str, Query(max_length=300, description="Words; a passage holds at least one of them.")],
    equipment: Annotated[str, Query(max_length=1000, description="Path: passages that are about it.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> dict[str, Any]:
    """Passages with these words, best first."""
    return {"passages": [passage_json(row) for row in reader.passages(words(q), limit=limit, equipment=equipment)]}


def begin(services: ServicesOf, reader: ReaderOf, person: PersonOf, wanted: NewManual) -> dict[str, Any]:
    """
    Announce a file. ``manual_id`` is null where the very same is imported already.

    Its passages follow in requests of at most 200, then ``finish``; until then nothing of it is found, and an import
    that does not end within an hour is given up. 409 says why it cannot be.
    """
    check_scope(reader.map(), wanted.equipment, wanted.classes)
    manual = Manual.model_validate(wanted.model_dump(exclude={"replace"}))
    manual_id = services.write(lambda tx: tx.begin_manual(manual, person.name, replace=wanted.replace))
    return {"manual_id": manual_id or None}


def add(services: ServicesOf, manual_id: int, part: Passages) -> dict[str, Any]:
    """Hand over some passages of an announced file."""
    services.write(lambda tx: tx.add_passages(manual_id, part.passages))
    return {"passages": len(part.passages)}


def end(services: ServicesOf, person: PersonOf, manual_id: int) -> dict[str, Any]:
    """The file is complete: it is found from now on, in the place of one of the same name."""
    return {"outcome": finish(services.write, manual_id, person.name)}


def remove(services: ServicesOf, person: PersonOf, manual_id: int) -> dict[str, Any]:
    """Let a file be found no more. What was cited from it stays in the evidence that cites it."""
    drop(services.write, manual_id, person.name)
    return {"removed": manual_id}
