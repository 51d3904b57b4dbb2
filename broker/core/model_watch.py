"""
Watches the model in service every few minutes: its rates and its drift, read-only from SQL, and its crashes.

What is over a limit is a notice: an event, a counter, a line in /readyz and on the page, a row of its own in SQL. The
model goes on; what to do about it is for a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from broker import events
from broker.core.writer import Writer
from broker.models.figures import KINDS, Figures, Kind, figures
from broker.models.options import WatchOptions
from broker.store import Reader, Transaction
from llm.client import Reasoner
from schemas.errors import FairleadError

#: How often the worker's end is looked for; costs nothing, the state is in memory.
LOOK_S: Final = 2.0


class ModelWatch:
    """
    Keeps ``notices`` for pages and ``last`` for the metrics; both are of the model that serves now.

    A failure to read or write is told once and tried again at the next look.
    """

    def __init__(
        self, reader: Reader, writer: Writer, reasoner: Reasoner, limits: WatchOptions, now_ns: Callable[[], int]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._reasoner = reasoner
        self._limits = limits
        self._now_ns = now_ns
        self._crashes = 0
        self._given_up = False
        self._known = ""
        self._failed = ""
        self._over: dict[Kind, str] = {}
        self.last: Figures | None = None

    @property
    def notices(self) -> list[str]:
        """What is over its limit now, in one sentence each."""
        name = self._reasoner.state.model_name
        return [f"Model {name}: {text}." for text in self._over.values()]

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            await self.look_for_crashes()
            if loop.time() >= next_s:
                next_s = loop.time() + self._limits.every
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Work the figures out once, and tell what has changed. Never raises but when cancelled."""
        state = self._reasoner.state
        if not state.model_key:
            return
        try:
            found = await asyncio.to_thread(figures, self._reader, state.model_key, self._limits, self._now_ns())
            if self._known != state.model_key:
                self._over = await asyncio.to_thread(self._told_before, state.model_key)
                self._known = state.model_key
            await self._tell(state.model_key, state.model_name, found.over(self._limits))
            self.last = found
            self._failed = ""
        except FairleadError as error:
            self._not_watched(str(error))

    async def look_for_crashes(self) -> None:
        """Write down that the worker ended unasked, or that the model was given up. Never raises but when cancelled."""
        state = self._reasoner.state
        new, given_up = state.crashes - self._crashes, state.status == "quarantined"
        if not new and given_up == self._given_up:
            return
        key, name = state.model_key, state.model_name

        def note(tx: Transaction) -> None:
            for _ in range(new):
                tx.model_incident(key, name, "crash", state.last_crash, lasting=False)
            if given_up and not self._given_up:
                tx.model_incident(key, name, "quarantined", state.reason, lasting=False)
                tx.audit("core", "model_quarantined", name, {"model_key": key, "reason": state.reason})

        try:
            await asyncio.wrap_future(self._writer.submit(note))
        except FairleadError as error:
            self._not_watched(str(error))
            return
        for _ in range(new):
            events.model_crashed(name, state.last_crash)
        if given_up and not self._given_up:
            events.model_given_up(name, state.reason)
        self._crashes, self._given_up = state.crashes, given_up

    def _told_before(self, key: str) -> dict[Kind, str]:
        """What an earlier run of core has raised and not taken back, so that it is not raised again."""
        rows = self._reader.model_incidents(open_only=True)
        kinds: dict[str, Kind] = {kind: kind for kind in KINDS}
        return {kinds[row.kind]: row.detail for row in rows if row.model_key == key and row.kind in kinds}

    async def _tell(self, key: str, name: str, over: dict[Kind, str]) -> None:
        raised = [kind for kind in over if kind not in self._over]
        ended = [kind for kind in self._over if kind not in over]

        def note(tx: Transaction) -> None:
            for kind in raised:
                tx.model_incident(key, name, kind, over[kind], lasting=True)
                tx.audit("core", "model_notice", name, {"model_key": key, "kind": kind, "detail": over[kind]})
            for kind in ended:
                tx.model_incident_over(key, kind)

        if raised or ended:
            await asyncio.wrap_future(self._writer.submit(note))
        for kind in raised:
            events.model_notice_raised(name, kind, over[kind])
        for kind in ended:
            events.model_notice_ended(name, kind)
        self._over = over

    def _not_watched(self, reason: str) -> None:
        if reason != self._failed:
            events.model_not_watched(reason)
        self._failed = reason
