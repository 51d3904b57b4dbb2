"""
Filling holes from the server's history: HistoryRead of raw values, in parts, while live values flow.

Rows come with origin ``history`` and ``Flag.BACKFILL``; when every node of a gap has answered for all of it, the gap is
told again as backfilled. One batch at a time is on its way to the journal, so that live values go first. Source: OPC UA
Part 11, 6.4.3; Part 4, 5.10.3.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from asyncua import ua
from asyncua.ua.uaerrors import BadHistoryOperationUnsupported, BadServiceUnsupported, BadTooManyOperations

from adapters.base import AdapterContext
from adapters.opcua.columns import Columns, Times
from adapters.opcua.config import HistoryOptions
from adapters.opcua.faults import LINK_ERRORS, describe
from adapters.opcua.handover import Handed, Handover
from adapters.opcua.holes import Hole, Holes
from adapters.opcua.link import Link
from adapters.opcua.rows import Rows
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import Gap, Origin
from schemas.status import Flag

#: Nodes in one request, and values of each in one answer: a few megabytes at the most.
_NODES: Final = 10
_VALUES: Final = 5000
_RELEASE_S: Final = 1.0
_RETRY_S: Final = 60.0
_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Unfilled(Exception):
    """The server's history does not have this part, and will not."""


class Backfill:
    """
    Fills the holes of one source over one link.

    Counters: ``history_rows`` rows read; ``history_filled`` gaps closed; ``history_refused`` gaps that the server's
    history cannot fill; ``history_skipped`` gaps that were too old, too many, or of another tag map.
    """

    def __init__(
        self,
        link: Link,
        nodes: Mapping[int, ua.NodeId | None],
        options: HistoryOptions,
        context: AdapterContext,
        holes: Holes,
        handover: Handover[Handed | Gap],
        counters: Counter[str],
        facts: dict[str, str],
    ) -> None:
        self._link = link
        self._nodes = nodes
        self._options = options
        self._context = context
        self._holes = holes
        self._handover = handover
        self._counters = counters
        self._facts = facts
        self._at_once = _NODES
        self._found = asyncio.Event()

    def found(self, gap: Gap) -> None:
        """A gap is about to be told; what values cannot fill is none of ours."""
        if gap.events:
            return
        self._holes.add(gap, self._context.now_ns() - int(self._options.max_span * _NS))
        self._found.set()

    async def run(self) -> None:
        """Fill until cancelled, or until the connection ends."""
        try:
            while True:
                self._facts["history"] = f"{len(self._holes.all)} gaps to fill"
                hole = self._next()
                if hole is None:
                    self._found.clear()
                    await self._found.wait()
                    continue
                try:
                    await self._fill(hole)
                except (TimeoutError, ua.UaError) as error:
                    self._facts["history"] = f"tried again in {_RETRY_S:g} s: {describe(error)}"
                    await asyncio.sleep(_RETRY_S)
        except (NotConnected, OSError):
            return  # the publish loop tells it

    def _next(self) -> Hole | None:
        return max(self._holes.all, key=lambda hole: hole.to_ns, default=None) if self._newest else next(
            iter(self._holes.all), None
        )  # fmt: skip

    @property
    def _newest(self) -> bool:
        return self._options.order == "newest_first"

    async def _fill(self, hole: Hole) -> None:
        ready_ns = hole.gap.to_ns or 0
        wait_s = (ready_ns - self._context.now_ns()) / _NS + self._options.settle
        if wait_s > 0:  # the server may not have written its last values yet
            await asyncio.sleep(wait_s)
        tags = hole.gap.tags or tuple(self._nodes)
        nodes = [(tag, node) for tag in tags if (node := self._nodes.get(tag)) is not None]
        try:
            if len(nodes) < len(tags):
                raise Unfilled(f"{len(tags) - len(nodes)} nodes are not there")
            having = await self._link.have_history([node for _, node in nodes], _NODES)
            if not all(having):
                raise Unfilled(f"{having.count(False)} of {len(nodes)} nodes have no history that may be read")
            while not hole.done:
                from_ns, to_ns = hole.part(int(self._options.chunk * _NS), newest=self._newest)
                await self._read_all(nodes, from_ns, to_ns)
                hole.filled(from_ns, to_ns)
                self._holes.save()
                await asyncio.sleep(self._options.pause)
        except (Unfilled, BadServiceUnsupported, BadHistoryOperationUnsupported) as reason:
            self._counters["history_refused"] += 1
            self._facts["history refused"] = describe(reason)
        else:
            if hole.whole:
                await self._handover.told(replace(hole.gap, backfilled=True))
                self._counters["history_filled"] += 1
        self._holes.remove(hole)

    async def _read_all(self, nodes: Sequence[tuple[int, ua.NodeId]], from_ns: int, to_ns: int) -> None:
        """One part of every node, as many nodes a request as the server takes."""
        start = 0
        while start < len(nodes):
            some = nodes[start : start + self._at_once]
            try:
                await self._read(some, from_ns, to_ns)
            except BadTooManyOperations:
                if self._at_once == 1:
                    raise
                self._at_once //= 2
            else:
                start += len(some)

    async def _read(self, nodes: Sequence[tuple[int, ua.NodeId]], from_ns: int, to_ns: int) -> None:
        """All values of these nodes in one part, to the journal. Raises Unfilled where a node has no history."""
        waiting: list[tuple[int, ua.NodeId, int, bytes | None]] = [(tag, node, from_ns, None) for tag, node in nodes]
        try:
            while waiting:
                # Nodes that go on where their last answer ended are asked from one time each.
                begin = waiting[0][2]
                now = [one for one in waiting if one[2] == begin]
                waiting = [one for one in waiting if one[2] != begin]
                results = await self._link.history_read(
                    _details(begin, to_ns), [(node, point) for _, node, _, point in now]
                )
                if len(results) != len(now):
                    raise NotConnected(f"the server answered {len(results)} of {len(now)} history reads")
                parts: list[Rows] = []
                refused = ""
                for (tag, node, _, _), result in zip(now, results, strict=True):
                    if result.status >> 30:
                        refused = f"{node.to_string()}: {status.name(result.status)}"
                        continue
                    rows = result.rows.take(result.rows.source_ns != 0)
                    rows.tag[:] = tag
                    rows.poison = [one._replace(tag=tag) for one in rows.poison]
                    parts.append(rows)
                    if result.continuation is not None:
                        waiting.append((tag, node, begin, result.continuation))
                    elif len(result.rows) >= _VALUES and len(rows):
                        # A full answer without a continuation point: some servers cut it off there (A24).
                        waiting.append((tag, node, max(int(rows.source_ns.max()), begin + 1000), None))
                await self._hand_on(Rows.join(parts))
                if refused:
                    raise Unfilled(refused)
        finally:
            await self._release([(node, point) for _, node, _, point in waiting if point is not None])

    async def _release(self, points: list[tuple[ua.NodeId, bytes | None]]) -> None:
        """Give continuation points back that nobody will ask for any more."""
        if not points:
            return
        try:
            async with asyncio.timeout(_RELEASE_S):
                await self._link.history_read(_details(0, 0), points, release=True)
        except LINK_ERRORS:
            return  # they end with the session

    async def _hand_on(self, rows: Rows) -> None:
        """One batch; returns when it is in the journal. Raises NotConnected where it was refused."""
        if not len(rows):
            return
        rows.flags |= np.uint32(Flag.BACKFILL)
        columns = Columns(self._context.now_ns(), Times())
        columns.add(rows)
        batch = columns.batch(self._context.name, self._context.map_revision, Origin.HISTORY)
        places = {tag.number: tag.address for tag in self._context.tags} if rows.poison else {}
        rejects = columns.rejects(self._context.name, places)
        self._counters["undecodable_values"] += len(rejects)
        settled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        async def settle(error: Exception | None) -> None:
            if not settled.done():
                settled.set_result(error)
            if error is not None:
                self._link.drop()

        await self._handover.put(Handed(batch, settle, rejects))
        error = await settled
        if error is not None:
            raise NotConnected(f"a batch of the history was not journalled: {error}")
        self._counters["history_rows"] += len(batch)


def _details(from_ns: int, to_ns: int) -> ua.ReadRawModifiedDetails:
    """Raw values of a time, its end included; the library has times in µs."""
    return ua.ReadRawModifiedDetails(
        IsReadModified=False,
        StartTime=_EPOCH + timedelta(microseconds=from_ns // 1000),
        EndTime=_EPOCH + timedelta(microseconds=to_ns // 1000 + 1),
        NumValuesPerNode=_VALUES,
        ReturnBounds=False,
    )
