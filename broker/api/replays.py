"""Replays: start one, and see how far they are."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from broker.api.services import PersonOf, ReaderOf, ServicesOf
from broker.core.replay_outcome import ReplayRequest
from broker.core.replays import ReplayService
from broker.store.rows.operation import ReplayRow
from schemas.documents import rfc3339
from schemas.tagmap import TagMap

#: The last time that SQL can hold.
_MAX_NS = 2**63 - 1


class NewReplay(BaseModel):
    """Times are UTC ns as text, of journalling; ``map`` is a whole resolved map, default the one in force."""

    model_config = ConfigDict(extra="forbid")

    from_ns: str = Field(pattern=r"^[0-9]{1,19}$")
    to_ns: str | None = Field(None, pattern=r"^[0-9]{1,19}$")
    sources: tuple[Annotated[str, Field(max_length=64)], ...] = Field((), max_length=1000)
    reason: str = Field("", max_length=500)
    map: TagMap | None = None


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/replays")(replays)
    app.post("/api/v1/replays", status_code=202)(start)


def replay_json(row: ReplayRow) -> dict[str, Any]:
    """One replay for JSON; ``share`` is how much of its span it has read, 0 to 1."""
    share = 1.0 if row.state == "done" else 0.0
    if row.state != "done" and row.at_ns is not None and row.to_ns > row.from_ns:
        share = min(1.0, max(0.0, (row.at_ns - row.from_ns) / (row.to_ns - row.from_ns)))
    return {
        "revision": row.revision,
        "state": row.state,
        "actor": row.actor,
        "reason": row.reason,
        "sources": list(row.sources),
        "from": rfc3339(row.from_ns),
        "to": rfc3339(row.to_ns),
        "map_revision": row.map_revision.hex(),
        "started": rfc3339(row.started_ns),
        "ended": None if row.ended_ns is None else rfc3339(row.ended_ns),
        "entries": row.entries,
        "records": row.rows,
        "share": round(share, 4),
        "detail": row.detail,
    }


def replays(reader: ReaderOf, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
    """Every replay with its state and progress, newest first."""
    return {"replays": [replay_json(row) for row in reader.replays(limit=limit)]}


def start(services: ServicesOf, person: PersonOf, request: Request, wanted: NewReplay) -> dict[str, Any]:
    """
    Begin a replay of what was journalled between two times, and return its revision.

    409 says why it cannot be: the span is no longer in the journal (with what is), another replay runs, the units of
    the map are not those in force. Whether anything differs at all is known when it has ended.
    """
    unknown = sorted(set(wanted.sources) - set(services.config.sources))
    service: ReplayService = request.app.state.replays
    revision = service.start(
        ReplayRequest(
            min(int(wanted.from_ns), _MAX_NS),
            time.time_ns() if wanted.to_ns is None else min(int(wanted.to_ns), _MAX_NS),
            wanted.sources,
            wanted.map,
            person.name,
            wanted.reason,
        )
    )
    return {"revision": revision, "sources_not_configured": unknown}
