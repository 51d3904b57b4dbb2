"""Shelves and maintenance: what is in force, and the commands that begin and end them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from broker import commands
from broker.api.services import PersonOf, ReaderOf, ServicesOf
from broker.store.rows.episodes import SuppressionRow
from schemas.documents import rfc3339
from schemas.errors import Refused
from schemas.quantities import Duration
from schemas.suppression import Command


class NewSuppression(BaseModel):
    """``target`` is a path of the map; ``until``, ``until_ns`` (UTC ns as text) or ``for`` (a duration) is its end."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["shelf", "maintenance"]
    target: str = Field(max_length=1000)
    kind: str = Field("", max_length=64, description="shelf: findings of this kind only.")
    reason: str = Field(max_length=500)
    until: AwareDatetime | None = Field(None, description="RFC 3339 with its offset, to the microsecond.")
    until_ns: str | None = Field(None, pattern=r"^[0-9]{1,19}$")
    for_s: Duration | None = Field(None, alias="for", gt=0)


class Ending(BaseModel):
    """Why it ends before its time."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500)


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/suppressions")(suppressions)
    app.post("/api/v1/suppressions", status_code=202)(begin)
    app.post("/api/v1/suppressions/{suppression_id}/end", status_code=202)(end)


def suppression_json(row: SuppressionRow) -> dict[str, Any]:
    """One shelf or maintenance for JSON."""
    return {
        "suppression_id": row.suppression_id,
        "mode": row.mode,
        "target": row.target,
        "kind": row.kind or None,
        "actor": row.actor,
        "reason": row.reason,
        "from": rfc3339(row.from_ns),
        "until": None if row.until_ns is None else rfc3339(row.until_ns),
        "ended": None if row.ended_ns is None else rfc3339(row.ended_ns),
        "ended_by": row.ended_by or None,
        "findings": row.findings,
    }


def suppressions(
    reader: ReaderOf,
    state: Annotated[Literal["active", "ended"] | None, Query(description="In force, or over.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Shelves and maintenance of people, newest first, with how many findings each has held."""
    active = None if state is None else state == "active"
    return {"suppressions": [suppression_json(row) for row in reader.suppressions(active=active, limit=limit)]}


def begin(services: ServicesOf, reader: ReaderOf, person: PersonOf, wanted: NewSuppression) -> dict[str, Any]:
    """
    Shelve findings, or put equipment into maintenance.

    202: it takes effect where acquire journals it, within about a second; while acquire does not run it waits. 409 says
    why it cannot be.
    """
    now_ns = time.time_ns()
    until_ns = _end_of(wanted, now_ns)
    if wanted.mode == "maintenance" and wanted.kind:
        raise Refused("maintenance holds for every kind of finding")
    more: dict[str, Any] = {"actor": person.name, "reason": wanted.reason, "now_ns": now_ns, "until_ns": until_ns}
    if wanted.mode == "shelf":
        command = commands.shelve(reader.map(), wanted.target, kind=wanted.kind, **more)
    else:
        command = commands.maintenance(reader.map(), wanted.target, **more)
    return leave(services, command)


def _end_of(wanted: NewSuppression, now_ns: int) -> int | None:
    """When it shall end; None where nothing says so."""
    if sum(said is not None for said in (wanted.until, wanted.until_ns, wanted.for_s)) > 1:
        raise Refused("say until when or for how long, not both")
    if wanted.until is not None:
        return (wanted.until - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * 1000
    if wanted.for_s is not None:
        return commands.after(now_ns, wanted.for_s)
    return None if wanted.until_ns is None else int(wanted.until_ns)


def end(
    services: ServicesOf, reader: ReaderOf, person: PersonOf, suppression_id: str, ending: Ending
) -> dict[str, Any]:
    """End a shelf or a maintenance before its time; 409 when it is over or unknown."""
    check_active(reader.suppression(suppression_id))
    command = commands.end(suppression_id, actor=person.name, reason=ending.reason, now_ns=time.time_ns())
    return leave(services, command)


def check_active(row: SuppressionRow | None) -> None:
    """Raise Refused where there is nothing to end."""
    if row is None:
        raise Refused("there is no such suppression; what was asked for a moment ago may still be on its way")
    if row.ended_ns is not None:
        raise Refused(f"it ended at {rfc3339(row.ended_ns)}")


def leave(services: ServicesOf, command: Command) -> dict[str, Any]:
    """Leave a command for acquire; the answer says whether that runs."""
    if not services.config.detection.enabled:
        raise Refused("detection is switched off; there is nothing to suppress")
    commands.put(services.config.data_dir, command)
    return {"suppression_id": command.command_id, "acquire_runs": services.acquire_status() is not None}
