"""
Watches what people say of the detectors' anomalies, every few minutes and read-only.

A detector of which too much is rejected is a notice: an event, a counter, a line in /readyz and on the page. It goes on
finding: what to do about it is for a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from zoneinfo import ZoneInfo

from broker import events
from broker.detector_figures import Figures, figures
from broker.store import Reader
from detectors.options import RejectOptions
from schemas.errors import FairleadError


class DetectorWatch:
    """
    Keeps ``notices`` for pages and ``last`` for the metrics: the week that runs and the one before.

    A failure to read is told once and tried again at the next look.
    """

    def __init__(self, reader: Reader, zone: ZoneInfo, limits: RejectOptions, now_ns: Callable[[], int]) -> None:
        self._reader = reader
        self._zone = zone
        self._limits = limits
        self._now_ns = now_ns
        self._failed = ""
        self._over: dict[str, str] = {}
        self.last: Figures | None = None

    @property
    def notices(self) -> list[str]:
        """What is over its limit now, in one sentence each."""
        return [f"Detector {name}: {text}." for name, text in self._over.items()]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._limits.every)

    async def look(self) -> None:
        """Work the figures out once, and tell what has changed. Never raises but when cancelled."""
        try:
            found = await asyncio.to_thread(figures, self._reader, self._zone, self._now_ns())
        except FairleadError as error:
            if str(error) != self._failed:
                events.detectors_not_watched(str(error))
            self._failed = str(error)
            return
        over = found.over(self._limits)
        for name in over.keys() - self._over.keys():
            events.detector_notice_raised(name, over[name])
        for name in self._over.keys() - over.keys():
            events.detector_notice_ended(name)
        self._over, self.last, self._failed = over, found, ""
