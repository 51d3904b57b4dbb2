"""The gap ledger of one source: what is open, closed exactly once, and recorded before anything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from broker import events
from broker.journal import JournalWriter
from schemas.entries import Body
from schemas.errors import JournalError
from schemas.samples import Gap, GapCause

RETRY_S: Final = 1.0


class GapLedger:
    """
    Gaps of one source, as the journal has them.

    One gap for the whole source may be open at a time (link, disk or disabled); the adapter may have more of its own.
    When the adapter has filled a gap of the whole source from the peer's history, the last outage that lies in the same
    time is backfilled with it, and so is *downtime*, the gap over the time in which the broker itself was down.
    """

    def __init__(
        self,
        source: str,
        map_revision: bytes,
        journal: JournalWriter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        downtime: Gap | None = None,
    ) -> None:
        self._downtime = downtime
        self._source = source
        self._map_revision = map_revision
        self._journal = journal
        self._sleep = sleep
        self._outage: Gap | None = None
        self._closed: Gap | None = None
        self._before: Gap | None = None  # the outage under its first cause
        self._own: dict[tuple[object, ...], Gap] = {}

    @property
    def outage(self) -> Gap | None:
        """The open gap of the whole source."""
        return self._outage

    async def open(self, cause: GapCause, from_ns: int, detail: str) -> None:
        """Open the gap of the whole source, unless one is open. Waits until it is durable."""
        if self._outage is None:
            self._outage = Gap(self._source, (), from_ns, None, cause, False, self._map_revision, detail)
            events.gap_opened(self._source, cause.value)
            await self.record(self._outage)

    async def turn(self, cause: GapCause, at_ns: int, detail: str) -> None:
        """
        The outage goes on for another reason: its gap ends, and one with *cause* begins; once in an outage.

        A peer that is away now and then meanwhile would make gaps without end.
        """
        outage = self._outage
        if outage is None or outage.cause is cause or self._before is not None:
            return
        at_ns = max(at_ns, outage.from_ns)
        await self.close(at_ns)
        self._before = self._closed
        await self.open(cause, at_ns, detail)

    async def close(self, to_ns: int, *, backfilled: bool = False) -> None:
        """Close it, if one is open; *backfilled* where the peer held everything and delivers it."""
        outage, self._outage = self._outage, None
        if outage is not None:
            closed = replace(outage, to_ns=max(to_ns, outage.from_ns), backfilled=backfilled)
            self._closed = None if backfilled else closed
            await self.record(closed)
            before, self._before = self._before, None
            if before is not None and backfilled:
                await self.record(replace(before, backfilled=True))

    async def fill_downtime(self) -> None:
        """The peer held everything over the broker's own downtime and delivers it."""
        downtime, self._downtime = self._downtime, None
        if downtime is not None:
            await self.record(replace(downtime, backfilled=True))

    async def report(self, gap: Gap) -> None:
        """Take over a gap that the adapter found."""
        if gap.backfilled:
            await self._filled(gap)
            return
        key = (gap.tags, gap.cause, gap.from_ns)
        if gap.to_ns is None:
            self._own[key] = gap
        if gap.to_ns is None or self._own.pop(key, None) is None:
            events.gap_opened(self._source, gap.cause.value)
        await self.record(gap)

    async def _filled(self, gap: Gap) -> None:
        """
        A gap that was told before is filled, and the outage with it.

        What came after the gap's end and before the end of the outage is live: the peer was subscribed to by then.
        """
        self._own.pop((gap.tags, gap.cause, gap.from_ns), None)
        await self.record(gap)
        if gap.tags or gap.to_ns is None:
            return
        down, outage = self._downtime, self._closed
        # the adapter's gap begins where its data was complete, which may be behind the last entry of the run before
        if down is not None and down.to_ns is not None and gap.from_ns <= down.to_ns <= gap.to_ns:
            await self.fill_downtime()
        if outage is not None and gap.from_ns <= outage.from_ns <= gap.to_ns:
            self._closed = None
            await self.record(replace(outage, backfilled=True))

    async def close_own(self, to_ns: int) -> None:
        """Close what the adapter left open, because it is gone and cannot."""
        left, self._own = list(self._own.values()), {}
        for gap in left:
            await self.record(replace(gap, to_ns=max(to_ns, gap.from_ns)))

    async def record(self, body: Body) -> None:
        """
        Journal an entry and wait until it is durable, again and again while the journal refuses.

        Raises:
            JournalError: the journal is closed.
        """
        while True:
            try:
                await asyncio.wrap_future(await self._journal.append_async(body))
                return
            except JournalError:
                if not self._journal.running:
                    raise
            await self._sleep(RETRY_S)
