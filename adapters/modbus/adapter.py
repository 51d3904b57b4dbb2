"""
Modbus TCP: polls on a fixed grid, blocks of registers, one batch a poll.

Modbus has no clock, no quality and no acknowledgement: the time of a row is the arrival of its block, the status is
what became of the block, and settling does nothing towards the device.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adapters.arrival import Arrival
from adapters.base import AdapterContext, Continuity
from adapters.modbus.config import ModbusOptions
from adapters.modbus.exchange import Answer
from adapters.modbus.image import Layout
from adapters.modbus.link import Link
from adapters.modbus.planner import Block, Item, plan
from adapters.modbus.point import resolve
from adapters.modbus.poller import Poller
from adapters.modbus.schedule import Missed, Schedule
from adapters.modbus.tls import Security
from adapters.modbus.types import Field
from adapters.modbus.units import Units
from adapters.modbus.warden import Warden
from schemas.errors import ConfigError, EndOfInput, NotConnected
from schemas.samples import Delivery, Gap, GapCause, Origin, SampleBatch
from schemas.status import Flag


class _Plan(NamedTuple):
    """Blocks of the periods that are due together, for one version of what was learnt."""

    version: int
    blocks: tuple[Block, ...]
    refused: tuple[Block, ...]
    layout: Layout


class ModbusAdapter:
    """
    Reads the tags of one source by function codes 1-4.

    A block that fails leaves its tags bad in that poll and nothing else: an exception 2 or 3 is narrowed down to the
    addresses that are refused, a time-out or a doubtful reply costs the socket, never a wrong value.

    Counters: ``connections``, ``refused_connections``, ``requests``, ``exceptions``, ``busy_retries``, ``timeouts``,
    ``doubtful_replies``, ``closed_by_peer``, ``refused_items``, ``degraded_units``, ``identity_mismatches``,
    ``firmware_changes``, ``state_errors``, ``missed_polls``, ``clock_steps``. Facts: ``plan`` (blocks and registers of
    a full poll), ``refused`` (addresses), ``degraded`` (units), ``identity``, ``firmware``, ``state``. A device keeps
    nothing between polls, so ``covered_ns`` stays None and ``continuity`` ``unknown``.
    """

    def __init__(self, options: ModbusOptions, context: AdapterContext) -> None:
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {}
        self.covered_ns: int | None = None
        self.continuity: Continuity = "unknown"
        self._context = context
        self._limits = options.planner_limits()
        self._fields: dict[int, Field] = {}
        self._of_period: dict[int, list[Item]] = {}
        self._texts: dict[Item, str] = {}
        for tag in context.tags:
            try:
                point = resolve(options, tag)
            except ValueError as error:
                raise ConfigError(f"{tag.path}: {error}") from error
            self._fields[tag.number] = point.field
            self._of_period.setdefault(tag.scan_ms, []).append(point.item)
            self._texts[point.item] = tag.address
        self._link = Link(
            options.host,
            options.tcp_port,
            options.timeout,
            options.manner(),
            context.now_ns,
            self.counters,
            None if options.tls is None else Security(options.tls, context.base_dir),
        )
        self._units = Units(options.fail_after, options.degrade.after, options.degrade.pause, self.counters)
        self._poller = Poller(self._link, self._units, options.busy(), context.now_ns, self.counters)
        peer = f"{options.host}:{options.tcp_port}"
        self._warden = Warden(context.state_dir, peer, options.identity, self.counters, self.facts)
        self._pause_s = options.degrade.pause
        self._tags_of = {period: tuple(i.tag for i in items) for period, items in self._of_period.items()}
        self._schedule = Schedule(self._of_period)
        self._plans: dict[tuple[int, ...], _Plan] = {}
        self._broken = NotConnected("not connected; connect first")
        self._connected = False
        self._arrival = Arrival(self.counters)

    async def connect(self) -> None:
        """Open the connection; the first poll is due at once. Raises NotConnected."""
        self._connected = False
        await self._warden.recall(self._poller.learnt, self._texts)
        await self._link.open()
        self._poller.restart()
        self._schedule.start(asyncio.get_running_loop().time())
        self._connected = True

    async def read(self) -> Delivery | Gap:
        """
        Wait for the next poll and make it.

        Polls that never happened are told first, as a gap with cause ``poll_missed``; the next call goes on. Raises
        NotConnected when no unit answers any more, EndOfInput when there is no tag to read.
        """
        if not self._of_period:
            raise EndOfInput("no tag of the map is read from this source")
        if not self._connected:
            raise self._broken
        loop = asyncio.get_running_loop()
        while True:
            now_s = loop.time()
            missed = self._schedule.missed(now_s)
            if missed is not None:
                return self._gap(missed, now_s)
            wait_s = self._schedule.wait_s(now_s)
            if wait_s <= 0:
                return await self._poll(self._schedule.take(now_s), now_s)
            await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Close the connection."""
        self._connected = False
        self._link.close()

    def _gap(self, missed: Missed, now_s: float) -> Gap:
        self.counters["missed_polls"] += missed.polls
        now_ns = self._context.now_ns()
        return self._context.gap(
            GapCause.POLL_MISSED,
            self._tags_of[missed.period_ms],
            now_ns - round((now_s - missed.from_s) * 1e9),
            now_ns - round((now_s - missed.to_s) * 1e9),
            f"{missed.polls} polls of {missed.period_ms} ms",
        )

    async def _poll(self, periods: tuple[int, ...], now_s: float) -> Delivery:
        current = self._plan(periods)
        try:
            answers = await self._poller.poll(current.blocks, current.refused, now_s)
            await self._warden.verify(self._link, self._units.answered_now, self._units.missed_now)
        except NotConnected as error:
            self._connected, self._broken = False, error
            raise
        finally:
            self._link.rest()
        await self._warden.keep(self._poller.learnt)
        if self._units.degraded or "degraded" in self.facts:
            self._tell_degraded()
        if self._poller.lost is not None:  # what was read is delivered; the next call raises
            self._connected, self._broken = False, self._poller.lost
        if current.layout.fits(answers):
            return Delivery(self._batch(current.layout, answers))
        return Delivery(self._batch(Layout([answer.block for answer in answers], self._fields), answers))

    def _tell_degraded(self) -> None:
        units = ", ".join(f"unit {unit}" for unit in sorted(self._units.degraded)) or "none"
        self.facts["degraded"] = units if units == "none" else f"{units}: no answer, asked each {self._pause_s:g} s"

    def _plan(self, periods: tuple[int, ...]) -> _Plan:
        learnt = self._poller.learnt
        known = self._plans.get(periods)
        if known is not None and known.version == learnt.version:
            return known
        items = [item for period in periods for item in self._of_period[period]]
        blocks = tuple(plan(items, self._limits, learnt))
        refused = tuple(Block.over((item,)) for item in items if item in learnt.refused)
        self._plans[periods] = made = _Plan(learnt.version, blocks, refused, Layout(blocks + refused, self._fields))
        whole = plan(self._texts, self._limits, learnt)
        registers = sum(block.count for block in whole if block.function > 2)
        bits = sum(block.count for block in whole if block.function <= 2)
        self.facts["plan"] = f"{len(whole)} blocks, {registers} registers, {bits} bits for {len(self._texts)} tags"
        self.facts["refused"] = ", ".join(sorted(self._texts[item] for item in learnt.refused)) or "none"
        return made

    def _batch(self, layout: Layout, answers: Sequence[Answer]) -> SampleBatch:
        """One batch of a whole poll; source times are those of arrival, see :class:`Arrival`."""
        decoded, codes, arrived = layout.decode(answers)
        rows = len(layout.tag)
        flags = np.full(rows, Flag.ARRIVAL_TIME, np.uint32)
        flags[decoded.repaired] |= np.uint32(Flag.DECODE_LOSS)
        flags[layout.single & ~np.isnan(decoded.value)] |= np.uint32(Flag.FLOAT32)
        tag, value, exact = layout.tag, decoded.value, decoded.exact
        if (np.diff(arrived) < 0).any():  # replies came in another order than they were asked
            order = np.argsort(arrived, kind="stable")
            arrived, tag, value, codes, flags = arrived[order], tag[order], value[order], codes[order], flags[order]
            if exact:
                place = np.argsort(order)
                exact = {int(place[row]): item for row, item in exact.items()}
        source_ns = self._arrival.spread(arrived, flags)
        return SampleBatch(
            self._context.name,
            Origin.LIVE,
            self._context.map_revision,
            int(arrived[-1]),
            tag,
            source_ns,
            None,
            value,
            codes,
            flags,
            exact,
        )
