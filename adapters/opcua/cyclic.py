"""
Cyclic reads, for servers that cannot subscribe: each tag at its own interval, in as few requests as the server takes.

What changes between two reads is not seen; that is what polling is. A value that is the same as the last, with the same
source time, is not handed on again, as a subscription would not. A read that came too late is a gap.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from asyncua import ua

from adapters.base import AdapterContext
from adapters.opcua.columns import Columns, Times
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.faults import LINK_ERRORS, describe
from adapters.opcua.handover import Handed, Handover
from adapters.opcua.heartbeat import Heartbeat
from adapters.opcua.link import Link
from adapters.opcua.polled import Polled
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause, SampleBatch

#: What says that a server has no subscriptions at all.
NO_SUBSCRIPTIONS: Final = frozenset(
    {ua.StatusCodes.BadServiceUnsupported, ua.StatusCodes.BadNotImplemented, ua.StatusCodes.BadNotSupported}
)


@dataclass(slots=True)
class _Round:
    """The tags of one interval, and when they are read next (event loop time)."""

    period_s: float
    tags: tuple[int, ...]
    nodes: tuple[ua.NodeId, ...]
    due: float


class ReadLoop:
    """
    Reads over one link and hands on what changed, each batch after the one before it was settled.

    ``chores`` is awaited between two reads, after tags without a node were looked for again. :meth:`run` ends the
    hand-over with NotConnected. Counters: ``reads`` rounds that were read, ``unchanged`` values that were as before,
    ``confirmed`` rows that say so, ``missed_reads`` rounds that came too late to be read.
    """

    def __init__(
        self,
        link: Link,
        polled: Polled,
        options: OpcUaOptions,
        context: AdapterContext,
        times: Times,
        counters: Counter[str],
        chunk: int,
        chores: Callable[[], Awaitable[None]],
        heartbeat: Heartbeat,
    ) -> None:
        self.handover: Handover[Handed | Gap] = Handover()
        self._link = link
        self._options = options
        self._context = context
        self._times = times
        self._counters = counters
        self._chunk = chunk
        self._chores = chores
        self._heartbeat = heartbeat
        self._last: dict[int, ua.DataValue] = {}
        self._rounds: list[_Round] = []
        self._polled = polled

    def _arrange(self) -> None:
        """The tags that have a node now, by interval; an interval that was there keeps its time."""
        nodes = self._polled.nodes
        intervals: dict[float, list[int]] = {}
        for tag in self._context.tags:
            if nodes[tag.number] is not None:
                intervals.setdefault(self._options.sampling_s(tag.scan_ms), []).append(tag.number)
        before, now = {one.period_s: one.due for one in self._rounds}, asyncio.get_running_loop().time()
        self._rounds = [
            _Round(
                period_s,
                tuple(tags),
                tuple(node for tag in tags if (node := nodes[tag]) is not None),
                before.get(period_s, now),
            )
            for period_s, tags in intervals.items()
        ]

    async def run(self, opening: Sequence[Gap | Columns]) -> None:
        """Hand on the *opening*, then read until the connection ends."""
        try:
            for item in opening:
                if isinstance(item, Gap):
                    await self.handover.put(item)
                else:
                    await self._deliver(item)
            await self._read_on()
        except NotConnected as error:
            self._end(str(error))
        except LINK_ERRORS as error:
            self._end(f"connection lost: {describe(error)}")

    def _end(self, reason: str) -> None:
        self._link.drop()
        self.handover.fail(NotConnected(f"{self._options.endpoint}: {reason}"))

    async def _read_on(self) -> None:
        loop = asyncio.get_running_loop()
        self._arrange()
        while True:
            await self._link.renew_when_due()
            if await self._polled.retry():
                self._arrange()
            await self._chores()
            one = min(self._rounds, key=lambda it: it.due, default=None)
            if one is None or loop.time() < one.due:  # where every tag was refused the server is watched all the same
                await self._wait(math.inf if one is None else one.due)
                continue
            asked_at = loop.time()
            values = await self._link.read(one.nodes, self._chunk)
            self._counters["reads"] += 1
            await self._hand_on(one, values)
            await self._go_on(one, asked_at, loop.time())

    async def _wait(self, until: float) -> None:
        """Wait, but not for long: then the server's clock is read, often enough to see that it lives."""
        now, asking_s = asyncio.get_running_loop().time(), self._options.silence_s() / 3
        await asyncio.sleep(max(0.0, min(until, now + asking_s, self._link.renew_at) - now))
        await self._link.renew_when_due()
        if until - now > asking_s:
            await self._link.ask()
            self._counters["asked"] += 1

    async def _hand_on(self, one: _Round, values: Sequence[ua.DataValue]) -> None:
        columns = Columns(self._context.now_ns(), self._times)
        changed = [
            (tag, value) for tag, value in zip(one.tags, values, strict=True) if not _same(self._last.get(tag), value)
        ]
        self._counters["unchanged"] += len(values) - len(changed)
        columns.extend(changed)
        await self._deliver(columns)
        self._last.update(changed)
        now_s = asyncio.get_running_loop().time()
        self._heartbeat.note(columns.rows, now_s)
        if len(changed) < len(values) and self._heartbeat.every_s is not None:
            await self._confirm(one, now_s)

    async def _confirm(self, one: _Round, now_s: float) -> None:
        """Hand on that nothing changed in the tags of a round that were just read as they were before."""
        batch = self._heartbeat.confirm(round(one.period_s * 1e6), np.array(one.tags, np.int64), (), now_s)
        if batch is not None:
            self._counters["confirmed"] += len(batch)
            await self._settled(batch, lambda: None)

    async def _go_on(self, one: _Round, asked_at: float, now: float) -> None:
        """Plan the next read of a round; reads for which it is too late by then are a gap."""
        begun = min(asked_at, one.due)  # a round that waited for another was due before it was asked
        missed = int((now - one.due) / one.period_s)
        one.due += one.period_s * (missed + 1)
        if not missed:
            return
        self._counters["missed_reads"] += missed
        now_ns = self._context.now_ns()
        since_ns = now_ns - round((now - begun) * 1e9)
        detail = f"{missed} reads of {one.period_s * 1000:g} ms"
        await self.handover.put(self._context.gap(GapCause.POLL_MISSED, one.tags, since_ns, now_ns, detail))

    async def _deliver(self, columns: Columns) -> None:
        """Hand a batch over and wait until it is settled. Raises NotConnected when it was not journalled."""
        if len(columns):
            await self._settled(columns.batch(self._context.name, self._context.map_revision), columns.remember)

    async def _settled(self, batch: SampleBatch, note: Callable[[], None]) -> None:
        settled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        async def settle(error: Exception | None) -> None:
            if error is None:
                note()
            if not settled.done():
                settled.set_result(error)

        await self.handover.put(Handed(batch, settle))
        error = await settled
        if error is not None:
            raise NotConnected(f"a batch was not journalled, and so will be read again: {error}")


def _same(before: ua.DataValue | None, now: ua.DataValue) -> bool:
    """Whether a value says nothing new; one without a source time always does."""
    if before is None or now.SourceTimestamp is None:
        return False
    return bool(
        before.SourceTimestamp == now.SourceTimestamp
        and before.StatusCode == now.StatusCode
        and before.Value == now.Value
    )
