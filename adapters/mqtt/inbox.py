"""The bounded queue between paho's network thread and the reader."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Final, NamedTuple

from adapters.mqtt.message import Message

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
    """

    def __init__(self, limit: int, patience_s: float, counters: Counter[str]) -> None:
        self._limit = limit
        self._patience_s = patience_s
        self._counters = counters
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._room = threading.Condition()
        self._stalled = False
        self._closed = False
        self._dropped: Dropped | None = None
        self.overrun = False

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, message: Message) -> bool:
        """
        Queue a message; return whether the reader must be woken.

        Blocks for ``patience_s`` at most, once per congestion: the keep-alive must go on (M5).
        """
        with self._room:
            if self.full and not self._stalled:
                self._room.wait_for(lambda: self._closed or not self.full, self._patience_s)
            if self._closed or (self.overrun and message.qos):
                return False  # nothing behind an untaken message is taken: the broker sends all of them again in order
            if self.full:
                self._refuse(message)
                return message.qos > 0
            self._stalled = False
            self._queue.append(message)
            self._bytes += len(message.payload)
            return len(self._queue) == 1

    def take(self, limit: int) -> list[Message]:
        """Up to *limit* messages, oldest first."""
        with self._room:
            taken = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
            self._bytes -= sum(len(message.payload) for message in taken)
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
        return len(self._queue) >= self._limit or self._bytes >= _LIMIT_BYTES

    def _refuse(self, message: Message) -> None:
        self._stalled = True
        if message.qos:
            self.overrun = True
            self._counters["overrun"] += 1
            return
        self._counters["dropped"] += 1
        before = self._dropped or Dropped(0, message.arrival_ns, message.arrival_ns)
        self._dropped = Dropped(before.messages + 1, before.from_ns, message.arrival_ns)
