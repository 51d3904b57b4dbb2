"""The bounded queue between paho's network thread and the reader."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from adapters.mqtt.message import Block

_LIMIT_BYTES: Final = 64 * 1024 * 1024


class Dropped(NamedTuple):
    """QoS 0 messages that found no room: how many, from and to when (UTC ns)."""

    messages: int
    from_ns: int
    to_ns: int


class Inbox:
    """
    Messages that wait to be read: at most *limit*, and at most 64 MiB.

    ``put`` belongs to the network thread, everything else to the reader's. Counters: ``dropped`` (QoS 0 without
    room, lost), ``overrun`` (QoS 1 without room: not taken and not acknowledged, so the broker still has it).
    *wake* is called before ``put`` waits for the reader.
    """

    def __init__(
        self, limit: int, patience_s: float, counters: Counter[str], wake: Callable[[], None] = lambda: None
    ) -> None:
        self._limit = limit
        self._patience_s = patience_s
        self._counters = counters
        self._wake = wake
        self._queue: deque[Block] = deque()
        self._count = 0
        self._bytes = 0
        self._room = threading.Condition()
        self._stalled = False
        self._closed = False
        self._dropped: Dropped | None = None
        self.overrun = False

    def __len__(self) -> int:
        return self._count

    def put(self, block: Block) -> bool:
        """
        Queue messages; return whether the reader must be woken.

        Blocks for ``patience_s`` at most, once per congestion: the keep-alive must go on (M5).
        """
        with self._room:
            size = block.size
            was_empty = not self._count
            if not self.overrun and not self._closed and self._fits(len(block), size):
                self._take_in(block, size)
                return was_empty
            woken = False
            for i in range(len(block)):
                woken = self._put_one(block.part(i, i + 1)) or woken
            return woken

    def take(self, limit: int) -> Block:
        """Up to *limit* messages, oldest first."""
        taken = Block()
        with self._room:
            while self._queue and len(taken) < limit:
                block = self._queue.popleft()
                room = limit - len(taken)
                if len(block) > room:
                    self._queue.appendleft(block.part(room, len(block)))
                    block = block.part(0, room)
                taken.extend(block)
            self._count -= len(taken)
            self._bytes -= taken.size
            self._room.notify_all()
        return taken

    def take_dropped(self) -> Dropped | None:
        """What was lost since the last call."""
        with self._room:
            dropped, self._dropped = self._dropped, None
        return dropped

    def close(self) -> None:
        """Take no more; a waiting ``put`` returns. What waits can still be taken."""
        with self._room:
            self._closed = True
            self._room.notify_all()

    @property
    def full(self) -> bool:
        """Whether the next message must wait."""
        return self._count >= self._limit or self._bytes >= _LIMIT_BYTES

    def _fits(self, count: int, size: int) -> bool:
        return self._count + count <= self._limit and self._bytes + size <= _LIMIT_BYTES

    def _take_in(self, block: Block, size: int) -> None:
        self._stalled = False
        self._queue.append(block)
        self._count += len(block)
        self._bytes += size

    def _put_one(self, one: Block) -> bool:
        if self.full and not self._stalled:
            self._wake()  # it may sleep since the beginning of this very block
            self._room.wait_for(lambda: self._closed or not self.full, self._patience_s)
        qos = one.mids[0] != b""
        if self._closed or (self.overrun and qos):
            return False  # nothing behind an untaken message is taken: the broker sends all of them again in order
        if self.full:
            self._refuse(one, qos)
            return qos
        self._take_in(one, one.size)
        return self._count == 1

    def _refuse(self, one: Block, qos: bool) -> None:
        self._stalled = True
        if qos:
            self.overrun = True
            self._counters["overrun"] += 1
            return
        self._counters["dropped"] += 1
        at_ns = one.arrivals[0]
        before = self._dropped or Dropped(0, at_ns, at_ns)
        self._dropped = Dropped(before.messages + 1, before.from_ns, at_ns)
