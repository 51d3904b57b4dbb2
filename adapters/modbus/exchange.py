"""
What is asked in one go, and what became of it: shared by the connections that ask.

No object is made for a value, and none but the answer for a block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from adapters.base import Clock
from adapters.modbus.frames import Request, read_request
from adapters.modbus.planner import Block
from adapters.modbus.units import Units
from schemas import status


class Answer(NamedTuple):
    """
    What became of one block.

    Attributes:
        block: what was asked.
        payload: as on the wire, two bytes a register, eight coils a byte; empty unless *status* is good.
        status: StatusCode of every row of the block.
        arrived_ns: when, UTC ns.
        code: exception code; 0 for none.
    """

    block: Block
    payload: bytes
    status: int
    arrived_ns: int
    code: int = 0


#: Status of a block that was answered with an exception; the connection stays. Busy (5, 6) is the server's own
#: word for "ask later", and the next poll does: BadServerTooBusy, not a failure of the device.
STATUS_OF: dict[int, int] = {
    1: status.BAD_CONFIGURATION_ERROR,
    2: status.BAD_CONFIGURATION_ERROR,
    3: status.BAD_CONFIGURATION_ERROR,
    4: status.BAD_DEVICE_FAILURE,
    5: status.BAD_SERVER_TOO_BUSY,
    6: status.BAD_SERVER_TOO_BUSY,
    7: status.BAD_DEVICE_FAILURE,
    8: status.BAD_DEVICE_FAILURE,
    10: status.BAD_NO_COMMUNICATION,
    11: status.BAD_NO_COMMUNICATION,
}
#: A gateway's word that the unit behind it does not answer.
_GATEWAY = frozenset({10, 11})


class Exchange:
    """
    Blocks that wait, and the answers to them, in the same order.

    A connection takes the next block with :meth:`take` and gives back what came with one of the other methods. Blocks
    of a unit that was given up are answered here, without asking.
    """

    __slots__ = ("_again", "_now_ns", "_units", "_waiting", "answers", "blocks")

    def __init__(self, blocks: Sequence[Block], units: Units, now_ns: Clock) -> None:
        self.blocks = blocks
        self.answers: list[Answer | None] = [None] * len(blocks)
        self._waiting = deque(range(len(blocks)))
        self._units = units
        self._now_ns = now_ns
        self._again: set[int] = set()

    def take(self) -> int:
        """Number of the next block to ask; -1 when none waits."""
        waiting = self._waiting
        given_up = self._units.given_up
        while waiting:
            index = waiting.popleft()
            code = given_up.get(self.blocks[index].unit) if given_up else None
            if code is None:
                return index
            self.answers[index] = Answer(self.blocks[index], b"", code, self._now_ns())
        return -1

    def waits(self) -> bool:
        """Whether any block must still be asked."""
        index = self.take()
        if index < 0:
            return False
        self._waiting.appendleft(index)
        return True

    def request(self, index: int) -> Request:
        """The request of a block."""
        block = self.blocks[index]
        return read_request(block.unit, block.function, block.address, block.count)

    def good(self, index: int, payload: bytes, arrived_ns: int) -> None:
        """The block came."""
        block = self.blocks[index]
        self.answers[index] = Answer(block, payload, 0, arrived_ns)
        self._units.answered(block.unit)

    def refused(self, index: int, code: int, arrived_ns: int) -> None:
        """The device answered with an exception."""
        block = self.blocks[index]
        condition = STATUS_OF.get(code, status.BAD_UNEXPECTED_ERROR)
        self.answers[index] = Answer(block, b"", condition, arrived_ns, code)
        if code in _GATEWAY:
            self._units.unreachable(block.unit, condition, f"the gateway says that unit {block.unit} does not answer")
        else:
            self._units.answered(block.unit)

    def failed(self, index: int, condition: int, reason: str) -> None:
        """No usable reply came."""
        block = self.blocks[index]
        self.answers[index] = Answer(block, b"", condition, self._now_ns())
        self._units.failed(block.unit, condition, f"{reason} (unit {block.unit})")

    def back(self, indexes: Sequence[int]) -> None:
        """These blocks were asked on a connection that is gone for another reason; they are asked again first."""
        self._waiting.extendleft(reversed(indexes))

    def once_more(self, index: int) -> bool:
        """Ask again, once, what a peer closed the connection on; whether it is the first time."""
        if index in self._again:
            return False
        self._again.add(index)
        self._waiting.appendleft(index)
        return True

    def abandon(self, condition: int) -> None:
        """Give every block without an answer this status."""
        now = self._now_ns()
        for index, answer in enumerate(self.answers):
            if answer is None:
                self.answers[index] = Answer(self.blocks[index], b"", condition, now)
        self._waiting.clear()

    def result(self) -> list[Answer]:
        """All answers, in the order of the blocks; the exchange must be over."""
        return [answer for answer in self.answers if answer is not None]
