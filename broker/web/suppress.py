"""Shelving and maintenance from the page."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from broker import commands
from broker.api.services import PersonOf, ReaderOf, ServicesOf
from broker.api.suppressions import check_active, leave
from broker.web.pages import detail, detail_answer
from schemas.errors import Refused
from schemas.quantities import parse_duration
from schemas.suppression import Mode


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module; pages are no part of the documented API."""
    page: dict[str, Any] = {"response_class": HTMLResponse, "include_in_schema": False}
    app.post("/ui/suppressions", **page)(begin)
    app.post("/ui/suppressions/{suppression_id}/end", **page)(end)


def begin(
    request: Request,
    services: ServicesOf,
    reader: ReaderOf,
    person: PersonOf,
    anomaly_id: Annotated[str, Form(max_length=64)],
    mode: Annotated[Mode, Form()],
    target: Annotated[str, Form(max_length=1000)],
    length: Annotated[str, Form(max_length=20, description="A duration; empty: until somebody ends it.")] = "",
    kind: Annotated[str, Form(max_length=64)] = "",
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Leave the command for acquire and show the anomaly again, with what becomes of it or why it cannot be."""
    now_ns = time.time_ns()
    try:
        until_ns = commands.after(now_ns, parse_duration(length)) if length else None
        more: dict[str, Any] = {"actor": person.name, "reason": reason, "now_ns": now_ns, "until_ns": until_ns}
        if mode == "shelf":
            command = commands.shelve(reader.map(), target, kind=kind, **more)
        else:
            command = commands.maintenance(reader.map(), target, **more)
        answer = leave(services, command)
    except (Refused, ValueError) as error:
        shown = detail(services, reader, anomaly_id, person)
        return detail_answer(request, shown, str(error), "error", 409)
    what = "Shelved" if mode == "shelf" else "In maintenance"
    return detail_answer(request, detail(services, reader, anomaly_id, person), _said(what, answer), "done", 200)


def end(
    request: Request,
    services: ServicesOf,
    reader: ReaderOf,
    person: PersonOf,
    suppression_id: str,
    anomaly_id: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """End a suppression; the open anomaly is shown again; where none is open, nothing, or the reason why not."""
    try:
        check_active(reader.suppression(suppression_id))
        answer = leave(services, commands.end(suppression_id, actor=person.name, reason="", now_ns=time.time_ns()))
        message, status = _said("Ended", answer), 200
    except Refused as error:
        message, status = str(error), 409
    if not anomaly_id:
        # the list has no place for a fragment; the page shows the text
        return Response(status_code=204) if status == 200 else PlainTextResponse(message, status)
    outcome: Any = "done" if status == 200 else "error"
    return detail_answer(request, detail(services, reader, anomaly_id, person), message, outcome, status)


def _said(what: str, answer: dict[str, Any]) -> str:
    if answer["acquire_runs"]:
        return f"{what}: takes effect within a second or two."
    return f"{what}: takes effect when acquire runs again."
