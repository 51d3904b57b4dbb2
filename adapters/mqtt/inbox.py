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
    Messages that wait to be read: at most *limit*, and at most 64 MiB of topics and payloads.

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
            if not self.overrun and not self._closed and self._fits(len(block), size):
                self._take_in(block, size)
                return self._count == len(block)
            return self._put_in_parts(block) or self.overrun

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

    def _put_in_parts(self, block: Block) -> bool:
        """Queue as much as there is room for, wait once for more, and refuse the rest; whether any was queued."""
        begin, queued = 0, False
        while begin < len(block) and not self._closed and not self.overrun:
            if self.full and not self._stalled:
                self._wake()  # it may sleep since the beginning of this very block
                self._room.wait_for(lambda: self._closed or not self.full, self._patience_s)
            if self.full or self._closed:
                break
            end = self._room_for(block, begin)
            part = block.part(begin, end)
            self._take_in(part, part.size)
            begin, queued = end, True
        if begin < len(block) and not self._closed:
            self._refuse(block, begin)
        return queued

    def _room_for(self, block: Block, begin: int) -> int:
        """The end of what may be queued: at least one message, for the queue is not full."""
        end, size = begin, self._bytes
        most = begin + self._limit - self._count
        while end < min(most, len(block)) and size < _LIMIT_BYTES:
            size += len(block.payloads[end]) + len(block.topics[end])
            end += 1
        return end

    def _refuse(self, block: Block, begin: int) -> None:
        """
        Leave messages at the broker (QoS 1) or drop them (QoS 0).

        Nothing behind an untaken message of QoS 1 is taken: the broker sends all of them again in order.
        """
        self._stalled = True
        for place in range(begin, len(block)):
            if block.mids[place]:
                self._counters["overrun"] += not self.overrun
                self.overrun = True
                continue
            self._counters["dropped"] += 1
            at_ns = block.arrivals[place]
            before = self._dropped or Dropped(0, at_ns, at_ns)
            self._dropped = Dropped(before.messages + 1, before.from_ns, at_ns)
