"""
One poll: every block asked once, refused blocks narrowed down, silent units passed over.

A failed block costs its own items their value in that poll, and no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from adapters.base import Clock
from adapters.modbus.guard import Doubtful
from adapters.modbus.image import Answer
from adapters.modbus.link import ILLEGAL, STATUS_OF, Link, Refusal
from adapters.modbus.planner import Block, Learnt, split
from schemas import status
from schemas.errors import NotConnected


class _Reply(NamedTuple):
    payload: bytes
    status: int
    code: int = 0


class Poller:
    """
    Asks a link for blocks and keeps what was learnt of the device.

    Attributes:
        learnt: refused items and cuts; the caller plans with it.
        lost: why the connection was gone in the middle of the last poll; None when it stands.
    """

    def __init__(self, link: Link, fail_after: int, now_ns: Clock, counters: Counter[str]) -> None:
        self.learnt = Learnt()
        self.lost: NotConnected | None = None
        self._link = link
        self._fail_after = fail_after
        self._now_ns = now_ns
        self._counters = counters
        #: Requests without a usable reply in a row, by unit.
        self._failures: Counter[int] = Counter()
        #: Status that a unit given up in this poll leaves on the rest of its blocks.
        self._silent: dict[int, int] = {}
        self._heard = False
        self._reason = ""

    def restart(self) -> None:
        """Forget the device, as after a connect."""
        self.learnt.forget()
        self.lost = None
        self._failures.clear()

    async def poll(self, blocks: Sequence[Block], refused: Sequence[Block], now_s: float) -> list[Answer]:
        """
        Ask for *blocks*, and for one of *refused* (blocks of one refused item each) when its next try is due.

        Answers come in the order asked; a divided block gives one for each part. Raises NotConnected when no unit
        answered at all and each has failed ``fail_after`` times in a row, or no connection could be opened.
        """
        self._silent.clear()
        self._heard = False
        self.lost = None
        self._reason = ""
        answers: list[Answer] = []
        for block in blocks:
            await self._gather(block, answers, now_s)
        probe = self.learnt.probe({block.items[0] for block in refused}, now_s, always=not blocks)
        for block in refused:
            if block.items[0] != probe:
                answers.append(Answer(block, b"", status.BAD_CONFIGURATION_ERROR, self._now_ns()))
            elif await self._gather(block, answers, now_s):
                self.learnt.accept(probe)
        if not self._heard and {block.unit for block in (*blocks, *refused)} <= self._silent.keys():
            self._link.close()
            raise NotConnected(self._reason)
        return answers

    async def _gather(self, block: Block, answers: list[Answer], now_s: float) -> bool:
        """Ask for one block, dividing it as long as addresses are refused; whether it was read undivided."""
        reply = await self._ask(block)
        if reply.code in ILLEGAL and len(block.items) > 1:
            left, right = split(block)
            left_whole = await self._gather(left, answers, now_s)
            right_whole = await self._gather(right, answers, now_s)
            if left_whole and right_whole:
                self.learnt.cut(right)
            return False
        if reply.code in ILLEGAL:
            self._counters["refused_items"] += block.items[0] not in self.learnt.refused
            self.learnt.refuse(block.items[0], now_s)
        answers.append(Answer(block, reply.payload, reply.status, self._now_ns()))
        return reply.status == status.GOOD

    async def _ask(self, block: Block) -> _Reply:
        if self.lost is not None:
            return _Reply(b"", status.BAD_NO_COMMUNICATION)
        if block.unit in self._silent:
            return _Reply(b"", self._silent[block.unit])
        try:
            payload = await self._link.ask(block)
        except Refusal as refusal:
            self._answered(block.unit)
            return _Reply(b"", STATUS_OF.get(refusal.code, status.BAD_UNEXPECTED_ERROR), refusal.code)
        except TimeoutError as error:
            return self._failed(block.unit, status.BAD_TIMEOUT, error)
        except Doubtful as error:
            return self._failed(block.unit, status.BAD_DECODING_ERROR, error)
        except NotConnected as error:
            return self._gone(error)
        self._answered(block.unit)
        return _Reply(payload, status.GOOD)

    def _answered(self, unit: int) -> None:
        self._heard = True
        self._failures[unit] = 0

    def _failed(self, unit: int, code: int, error: Exception) -> _Reply:
        """Count a failure, and give the unit up for this poll when there were enough in a row."""
        self._failures[unit] += 1
        self._reason = str(error)
        if self._failures[unit] >= self._fail_after:
            self._silent[unit] = code
        return _Reply(b"", code)

    def _gone(self, error: NotConnected) -> _Reply:
        """Keep what this poll has brought so far; raise where it has brought nothing."""
        if not self._heard:
            raise error
        self.lost = error
        return _Reply(b"", status.BAD_NO_COMMUNICATION)
