"""Events, alarms and conditions of servers: the pull of those who follow them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query
from fastapi.responses import Response

from broker.api import cursor
from broker.api.services import ReaderOf, ServicesOf
from broker.store.reader.alarms import EventFilter
from broker.store.rows.alarms import EventRow
from schemas.documents import rfc3339
from schemas.status import Flag, name


def add_routes(app: FastAPI) -> None:
    """Register the route of this module."""
    app.get("/api/v1/events")(events)


def event_json(row: EventRow) -> dict[str, Any]:
    """One event for JSON; ``condition`` is null for an event that is no alarm."""
    condition = None
    if row.condition_id is not None:
        condition = {
            "id": row.condition_id,
            "name": row.condition_name,
            "branch": row.branch_id,
            "active": row.active,
            "acked": row.acked,
            "confirmed": row.confirmed,
            "enabled": row.enabled,
            "retain": row.retain,
            "state": row.state,
            "last_severity": row.last_severity,
            "quality": None if row.quality is None else name(row.quality),
            "comment": row.comment,
            "user": row.user_name,
        }
    return {
        "seq": str(row.seq),
        "key": f"{row.source}/{row.time_ns}/{row.fingerprint & 0xFFFF_FFFF_FFFF_FFFF:016x}",
        "revision": row.revision,
        "source": row.source,
        "equipment": row.equipment,
        "time": rfc3339(row.time_ns),
        "server_time": None if row.server_ts is None else rfc3339(row.server_ts),
        "received_time": rfc3339(row.received_ts),
        "severity": row.severity,
        "message": row.message,
        "type": row.type_name or row.event_type,
        "event_type": row.event_type,
        "event_id": row.event_id,
        "source_name": row.source_name,
        "source_node": row.source_node,
        "notifier": row.notifier,
        "condition": condition,
        "fields": row.fields,
        "flags": [flag.name.lower() for flag in Flag(row.flags) if flag.name],
    }


def cursor_name(store_id: str) -> str:
    """What cursors over events are told by: one over records is refused here, and the other way round."""
    return f"{store_id}-events"


def events(
    services: ServicesOf,
    reader: ReaderOf,
    after: Annotated[
        str | None, Query(max_length=200, description="Cursor of the page before; none: beginning.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most rows of the page.")] = 1000,
    equipment: Annotated[
        str | None, Query(max_length=500, description="Path of the equipment, `*` stands for anything.")
    ] = None,
    source: Annotated[str | None, Query(max_length=200, description="Name of the source.")] = None,
    severity: Annotated[int | None, Query(ge=1, le=1000, description="Least severity.")] = None,
) -> Response:
    """
    Events and alarms in the order in which they were stored; what was corrected since comes again.

    A correction has the same ``key`` and a higher ``revision``: keep the highest of a key, and a page may come twice.
    Cursor, ``next``, ``has_more`` and 410 are those of ``/api/v1/records``.
    """
    store = cursor_name(reader.store_id)
    place = cursor.begin(store, after, reader.event_span(), "events")
    if isinstance(place, Response):
        return place
    wanted = EventFilter(equipment, source, severity)
    page = reader.event_page(after=place, limit=min(limit, services.config.store.page_limit), wanted=wanted)
    following = cursor.encode(store, page.next_after)
    answer = {"events": [event_json(row) for row in page.rows], "next": following, "has_more": page.has_more}
    headers = {"X-Next-Cursor": following, "X-Has-More": str(page.has_more).lower()}
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=headers)
