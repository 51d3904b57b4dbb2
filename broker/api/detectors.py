"""What each detector opened by week, against its budget, and what people said of it."""

from __future__ import annotations

import time
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Query

from broker.api.services import ReaderOf, ServicesOf
from broker.detector_figures import MOST_WEEKS, budget, figures, shown

WeeksOf = Annotated[
    int, Query(ge=1, le=MOST_WEEKS, description="ISO weeks of the site's time zone, the running one first.")
]
EquipmentOf = Annotated[
    str | None, Query(max_length=500, description="Path of the equipment; `*` stands for anything.")
]


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/detectors")(detectors)


def detectors(
    services: ServicesOf, reader: ReaderOf, weeks: WeeksOf = 4, equipment: EquipmentOf = None
) -> dict[str, Any]:
    """
    By week and detector: anomalies opened, findings, decisions and rejections of people, and the false-alarm budget.

    ``complete`` false: there were more anomalies than one answer looks at, and the oldest are not counted.
    """
    options = services.config.detection
    found = figures(reader, ZoneInfo(services.config.site.timezone), time.time_ns(), weeks, equipment)
    return shown(found, budget(reader, options, equipment), options, equipment)
