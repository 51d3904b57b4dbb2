"""
One poll: every block asked once, refused blocks narrowed down, silent units passed over.

A failed block costs its own items their value in that poll, and no others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from adapters.base import Clock
from adapters.modbus.exchange import Answer, Exchange
from adapters.modbus.link import Link
from adapters.modbus.planner import Block, Learnt, split
from adapters.modbus.units import Units
from schemas import status
from schemas.errors import NotConnected

#: Exception codes that say "this address or this number of addresses is not there": the block is divided.
ILLEGAL: Final = frozenset({2, 3})
#: Exception codes that say "ask again later".
_BUSY: Final = frozenset({5, 6})


class Busy(NamedTuple):
    """How often, and after which wait, a block is asked again in the same poll when the device was busy."""

    retries: int = 0
    wait_s: float = 0.1


class Poller:
    """
    Has blocks asked and keeps what was learnt of the device.

    Attributes:
        learnt: refused items and cuts; the caller plans with it.
        lost: why the connection was gone in the middle of the last poll; None when it stands.
    """

    def __init__(self, link: Link, units: Units, busy: Busy, now_ns: Clock, counters: Counter[str]) -> None:
        self.learnt = Learnt()
        self.lost: NotConnected | None = None
        self._link = link
        self._units = units
        self._busy = busy
        self._now_ns = now_ns
        self._counters = counters

    def restart(self) -> None:
        """Begin anew after a connect; what the device refused stays known."""
        self.lost = None
        self._units.restart()

    async def poll(self, blocks: Sequence[Block], refused: Sequence[Block], now_s: float) -> list[Answer]:
        """
        Ask for *blocks*, and for one of *refused* (blocks of one refused item each) when its next try is due.

        Answers come in the order asked where none was divided; a divided block gives one for each part. Raises
        NotConnected when each unit asked has failed ``fail_after`` times in a row and no other one answered when it was
        asked last, or no connection could be opened.
        """
        units = self._units
        units.begin(now_s)
        self.lost = None
        answers = await self._gather(blocks, now_s)
        if refused:
            answers += await self._refused(refused, now_s, always=not blocks)
        asked = {block.unit for block in blocks} | {block.unit for block in refused}
        units.end(asked, now_s)
        if units.reason and not units.heard and asked <= units.given_up.keys():
            self._link.close()  # what these units still owe must answer no other question
            if not units.alive:
                raise NotConnected(units.reason)
        return answers

    async def _refused(self, refused: Sequence[Block], now_s: float, *, always: bool) -> list[Answer]:
        probe = self.learnt.probe({block.items[0] for block in refused}, now_s, always=always)
        answers: list[Answer] = []
        for block in refused:
            if block.items[0] != probe:
                answers.append(Answer(block, b"", status.BAD_CONFIGURATION_ERROR, self._now_ns()))
                continue
            tried = await self._gather([block], now_s)
            if tried[0].status == status.GOOD:
                self.learnt.accept(probe)
            answers += tried
        return answers

    async def _gather(self, blocks: Sequence[Block], now_s: float) -> list[Answer]:
        """Ask for blocks, dividing them as long as addresses are refused."""
        answers = await self._ask(blocks)
        if not any(answer.code for answer in answers):
            return answers
        final: list[Answer] = []
        halves: list[tuple[Block, Block]] = []
        whole: set[int] = set()
        retries = self._busy.retries
        while answers:
            divided: list[Block] = []
            later: list[Block] = []
            for answer in answers:
                if answer.code in ILLEGAL and len(answer.block.items) > 1:
                    halves.append(split(answer.block))
                    divided += halves[-1]
                    continue
                if answer.code in _BUSY and retries:
                    later.append(answer.block)
                    continue
                if answer.code in ILLEGAL:
                    item = answer.block.items[0]
                    self._counters["refused_items"] += item not in self.learnt.refused
                    self.learnt.refuse(item, now_s)
                elif answer.status == status.GOOD:
                    whole.add(id(answer.block))
                final.append(answer)
            if later and not divided:
                retries -= 1
                self._counters["busy_retries"] += len(later)
                await asyncio.sleep(self._busy.wait_s)
            answers = await self._ask(divided + later) if divided or later else []
        for left, right in halves:
            if id(left) in whole and id(right) in whole:
                self.learnt.cut(right)
        return final

    async def _ask(self, blocks: Sequence[Block]) -> list[Answer]:
        exchange = Exchange(blocks, self._units, self._now_ns)
        if self.lost is None:
            try:
                await self._link.run(exchange)
            except NotConnected as error:
                if not self._units.heard:
                    raise
                self.lost = error  # what this poll has brought so far is kept
        if self.lost is not None:
            exchange.abandon(status.BAD_NO_COMMUNICATION)
        return exchange.result()
