"""
What the replay server of :mod:`bench.opcua_replay` says: PublishResponses from byte templates, paced or as asked for.

The source time of a value is that of its period, to 100 ns. With k = number of the period since 2020, a float is
``k % 10000 + tag / tags`` (the formula of ``bench.load``), an int32 ``k % 10000 * 100000 + tag % 100000``, a bool
``(k + tag) % 2``.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.load import EPOCH_S, WRAP

_TICKS_1970: Final = 116_444_736_000_000_000
#: Variant type and numpy type of each name.
TYPES: Final = {"float64": (11, "<f8"), "float32": (10, "<f4"), "int32": (6, "<i4"), "bool": (1, "u1")}


@dataclass
class Load:
    """What the command line asked for, and what was sent."""

    tags: int
    period_s: float
    flood: bool
    types: list[str]
    message: int
    queue: int
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    sent: int = 0
    dropped: int = 0

    def k(self, at_s: float) -> int:
        """Number of the period at a time."""
        return int((at_s - EPOCH_S) / self.period_s + 1e-6)

    def values(self, kind: str, tags: NDArray[np.int64], k: int) -> NDArray[Any]:
        """Values of these tags, all of one type, in period *k*."""
        if kind == "bool":
            return ((k + tags) % 2).astype("u1")
        if kind == "int32":
            return (k % WRAP * 100_000 + tags % 100_000).astype("<i4")
        return (k % WRAP + tags / self.tags).astype(TYPES[kind][1])


class Template:
    """The bytes of one message: value, source and server time of each item, no status (mask 13)."""

    def __init__(self, load: Load, subscription_id: int, items: list[tuple[int, int]]) -> None:
        """*items* are (client handle, tag)."""
        self._load = load
        sizes = np.array([6 + np.dtype(TYPES[load.types[tag % len(load.types)]][1]).itemsize + 16 for _, tag in items])
        head = struct.pack("<BBHqIIBiBBB", 1, 0, 829, 0, 0, 0, 0, 0, 0, 0, 0)  # type id and ResponseHeader
        head += struct.pack("<Ii?Iqi", subscription_id, 0, False, 0, 0, 1)
        head += struct.pack("<BBHBii", 1, 0, 811, 1, int(sizes.sum()) + 8, len(items))
        starts = len(head) + np.concatenate(([0], np.cumsum(sizes)[:-1]))
        self._body = np.zeros(len(head) + int(sizes.sum()) + 12, "u1")  # no diagnostics, no results, no diagnostics
        self._body[: len(head)] = np.frombuffer(head, "u1")
        tags = np.array([tag for _, tag in items])
        self.count = len(items)
        self._kinds: list[tuple[str, NDArray[np.int64], NDArray[np.int64]]] = []
        kinds = np.array([load.types[tag % len(load.types)] for _, tag in items])
        for kind in dict.fromkeys(load.types):
            rows = np.flatnonzero(kinds == kind)
            if not len(rows):
                continue
            code, dtype = TYPES[kind]
            at = starts[rows]
            self._put(at, np.array([items[row][0] for row in rows], "<u4"))
            self._put(at + 4, np.full((len(rows), 1), 13, "u1"))
            self._put(at + 5, np.full((len(rows), 1), code, "u1"))
            self._kinds.append((kind, tags[rows], self._places(at + 6, np.dtype(dtype).itemsize)))
        self._times = self._places(starts + sizes - 16, 8), self._places(starts + sizes - 8, 8)

    @staticmethod
    def _places(at: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        return at[:, None] + np.arange(width)

    def _put(self, at: NDArray[np.int64], values: NDArray[Any]) -> None:
        raw = values.reshape(len(at), 1).view("u1")
        self._body[self._places(at, raw.shape[1])] = raw

    def fill(self, k: int, ticks: int) -> bytearray:
        """The message for period *k*; sequence number and request handle are still 0."""
        for kind, tags, places in self._kinds:
            self._body[places] = self._load.values(kind, tags, k).reshape(len(tags), 1).view("u1")
        stamp = np.frombuffer(struct.pack("<q", ticks), "u1")
        for places in self._times:
            self._body[places] = stamp
        return bytearray(self._body.tobytes())


class Subscription:
    """Messages of one subscription, made each period, or when they are asked for."""

    def __init__(self, load: Load, subscription_id: int, keep_alive_s: float) -> None:
        self.id = subscription_id
        self.keep_alive_s = keep_alive_s
        self.heard = 0.0
        self._load = load
        self._items: list[tuple[int, int]] = []
        self._templates: list[Template] = []
        self._turn = 0
        self._sequence = 0
        self._waiting: deque[tuple[int, bytearray]] = deque()

    def add(self, handle: int, tag: int) -> None:
        """Watch a tag under the client's handle."""
        self._items.append((handle, tag))
        self._templates = []

    def tick(self, k: int) -> None:
        """Make the messages of period *k*."""
        ticks = round((EPOCH_S + k * self._load.period_s) * 1e7) + _TICKS_1970
        for template in self._made():
            if len(self._waiting) >= self._load.queue:
                self._load.dropped += self._waiting.popleft()[0]
            self._waiting.append((template.count, template.fill(k, ticks)))

    def next(self, now_s: float) -> bytearray | None:
        """The next message; a keep-alive where it is time for one; None where nothing is to be said."""
        if self._load.flood and self._made():
            template = self._made()[self._turn % len(self._templates)]
            self._turn += 1
            self._load.sent += template.count
            body = template.fill(self._load.k(now_s), time.time_ns() // 100 + _TICKS_1970)
        elif self._waiting:
            count, body = self._waiting.popleft()
            self._load.sent += count
        elif now_s - self.heard >= self.keep_alive_s:
            body = bytearray(
                struct.pack("<BBHqIIBiBBBIi?Iqi", 1, 0, 829, *[0] * 8, self.id, 0, False, 0, 0, 0) + b"\0" * 8
            )
            struct.pack_into("<I", body, 37, self._sequence % 0xFFFFFFFF + 1)
            self.heard = now_s
            return body
        else:
            return None
        self.heard = now_s
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        struct.pack_into("<I", body, 37, self._sequence)
        return body

    def _made(self) -> list[Template]:
        if not self._templates:
            size = self._load.message
            parts = [self._items[i : i + size] for i in range(0, len(self._items), size)]
            self._templates = [Template(self._load, self.id, part) for part in parts]
        return self._templates
