"""
The order of one edge node's messages: sequence numbers 0-255, and a short wait for what comes late.

Source: Eclipse Sparkplug 3.0.0, 6.4.6 (seq) and its host requirements on reordering: a message whose number is not
the expected one waits; when the wait is over, what is missing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from adapters.mqtt.message import Message
from adapters.mqtt.sparkplug.payload import Payload
from adapters.mqtt.sparkplug.topics import Topic

_MODULUS: Final = 256
_HALF: Final = 128
#: So many late messages in a row are no disorder: this node does not number as the specification says.
_GIVE_UP: Final = 8
#: Messages of one node that may wait; beyond it the oldest waits no longer.
_MOST: Final = 1000


@dataclass(slots=True, eq=False)
class Item:
    """A message on its way through; ``ticket`` is whatever the adapter acknowledges it by, set when it has to wait."""

    topic: Topic
    message: Message
    payload: Payload
    until_s: float = 0.0
    ticket: Any = None


class Step(NamedTuple):
    """The next item in order; ``missing`` is the number of messages lost before it, 0 for none, -1: it is late."""

    item: Item
    missing: int


class Order:
    """
    ``expected`` is the next number, None when any will do; ``unchecked``: the node's numbers say nothing.

    ``unproven``: the count goes on from an earlier connection, and no message has confirmed it yet.
    """

    def __init__(self) -> None:
        self.expected: int | None = None
        self.unproven = False
        self._unread = 0
        self._faults = 0
        self.waiting: list[Item] = []

    def resume(self, expected: int) -> None:
        """Go on where an earlier connection ended."""
        self.expected, self.unproven = expected, True

    def repeats(self, item: Item) -> bool:
        """Whether an item was settled over an earlier connection, and only its acknowledgement was lost."""
        if not (self.unproven and item.message.dup and item.message.qos) or self.expected is None:
            return False
        return item.payload.seq is not None and 0 < (self.expected - item.payload.seq) % _MODULUS <= _HALF

    def offer(self, item: Item) -> bool:
        """Whether it is this item's turn; else it must :meth:`wait`."""
        seq = item.payload.seq
        if seq is None:
            return True
        ahead = 0 if self.expected is None else (seq - self.expected) % _MODULUS
        if ahead <= self._unread or self.unchecked:
            self._unread = 0
            if not self.unchecked:
                self._faults = 0
            self.unproven = False
            self.expected = (seq + 1) % _MODULUS
            return True
        return False

    def unreadable(self) -> None:
        """A message came whose number cannot be read: the next one may be one ahead."""
        self._unread += 1

    @property
    def unchecked(self) -> bool:
        """Whether order was given up, until the next birth."""
        return self._faults >= _GIVE_UP

    def wait(self, item: Item, until_s: float) -> None:
        """Let an item wait."""
        item.until_s = until_s
        self.waiting.append(item)

    def next(self, now_s: float) -> Step | None:
        """An item whose turn has come, or whose wait is over; None when there is none."""
        for item in self.waiting:
            if item.payload.seq == self.expected:
                return self._take(item, 0)
        if self.waiting and (self.waiting[0].until_s <= now_s or len(self.waiting) > _MOST):
            return self.force()
        return None

    def force(self) -> Step:
        """The first waiting item in order, whether its turn has come or not."""
        if self.expected is None:
            return self._take(self.waiting[0], 0)
        ahead = [((item.payload.seq or 0) - self.expected) % _MODULUS for item in self.waiting]
        nearest = min(range(len(ahead)), key=ahead.__getitem__)
        if ahead[nearest] < _HALF or self.unproven:  # unproven: the node may have begun anew meanwhile
            return self._take(self.waiting[nearest], ahead[nearest])
        self._faults += 1
        return Step(self.waiting.pop(0), -1)

    def restart(self, seq: int | None) -> None:
        """A birth with this number begins the count anew."""
        self.unproven = False
        self._unread = 0
        self.expected = None if seq is None else (seq + 1) % _MODULUS
        self._faults = 0

    @property
    def due_s(self) -> float | None:
        """When the first waiting item has waited long enough."""
        return self.waiting[0].until_s if self.waiting else None

    def _take(self, item: Item, missing: int) -> Step:
        self.waiting.remove(item)
        self.unproven = False
        self.expected = ((item.payload.seq or 0) + 1) % _MODULUS
        return Step(item, missing)
