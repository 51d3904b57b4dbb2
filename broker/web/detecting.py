"""The page for who looks after the detectors: what each one opened by week, its budget, and what people rejected."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, Response

from broker.api.services import ReaderOf, ServicesOf
from broker.detector_figures import MOST_WEEKS, Figures, budget, figures, is_over, reject_rate
from broker.store.reader.detectors import DetectorCount
from broker.web.templating import render
from detectors.options import RejectOptions
from schemas.annotation import number

_WEEKS: Final = 4


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module; pages are no part of the documented API."""
    page: dict[str, Any] = {"response_class": HTMLResponse, "include_in_schema": False}
    app.get("/detectors", **page)(detectors_page)


def detectors_page(
    request: Request,
    services: ServicesOf,
    reader: ReaderOf,
    weeks: Annotated[int, Query(ge=1, le=MOST_WEEKS)] = _WEEKS,
    equipment: Annotated[
        str, Query(max_length=500, description="Path of the equipment; `*` stands for anything.")
    ] = "",
) -> Response:
    """The figures of some weeks, of the whole site or of one piece of equipment."""
    options = services.config.detection
    wanted = equipment.strip() or None
    found = figures(reader, ZoneInfo(services.config.site.timezone), time.time_ns(), weeks, wanted)
    allowed = budget(reader, options, wanted)
    over = found.over(options.rejects)
    context = {
        "weeks": [_week(found, place, allowed, options.rejects) for place in range(len(found.weeks))],
        "notices": [f"{name}: {text}." for name, text in over.items()],
        "equipment": wanted or "",
        "more": min(weeks + _WEEKS, MOST_WEEKS) if weeks < MOST_WEEKS else 0,
        "complete": found.complete,
        "false_alarms": options.false_alarms,
        "equipment_false_alarms": options.equipment_false_alarms,
        "together": options.multivariate.false_alarms if options.multivariate.enabled else "",
        "limit": f"{options.rejects.rate:.0%}",
        "least": options.rejects.least,
    }
    return render(request, "detectors.html", context)


def _week(found: Figures, place: int, allowed: dict[str, float], limits: RejectOptions) -> dict[str, Any]:
    week, rows = found.weeks[place], found.of(place)
    sums = [sum(column) for column in zip(*(row[2:] for row in rows), strict=True)]
    total = DetectorCount(place, "all", *sums) if rows else None
    return {
        "name": week.name,
        "runs": place == 0,
        "opened": found.opened(place, allowed),
        "budget": number(sum(allowed.values())),
        "rows": [_row(row, allowed.get(row.detector), is_over(row, limits)) for row in rows],
        "total": None if total is None else _row(total, None, marked=False),
    }


def _row(row: DetectorCount, per_week: float | None, marked: bool) -> dict[str, Any]:
    rate = reject_rate(row)
    return row._asdict() | {
        "budget": "–" if per_week is None else number(per_week),
        "rate": "" if rate is None else f"{rate:.0%}",
        "over": marked,
    }
