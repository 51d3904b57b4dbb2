"""
Rows that say that a value did not change: one for each tag that was silent for long while the server was heard (W19).

Where values come as they change, a sensor that stands still and a line that was cut both send nothing. A server tells
them apart: each answer to a publish request, a keep-alive as well, says of every item of its subscription that there
was nothing else to tell (Part 4, 5.14.1.1). So a row comes of such an answer alone, and never of a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.arrival import Arrival
from adapters.base import AdapterContext
from adapters.opcua.rows import Rows
from schemas.samples import Exact, SampleBatch
from schemas.status import Flag

#: The Overflow bit of a status (Part 4, 7.39.1): what the queue lost, it lost before the row that had it first.
_NOT_OVERFLOW: Final = np.uint32(0xFFFFFFFF & ~0x80)
_MARKS: Final = np.uint32(Flag.NO_CHANGE_CONFIRMED | Flag.ARRIVAL_TIME)


class Heartbeat:
    """
    The last value of each tag, over connections, and since when it stands; times are those of the event loop.

    *every_s* None: nothing is kept and no row made.
    """

    def __init__(self, context: AdapterContext, every_s: float | None, arrival: Arrival) -> None:
        self.every_s = every_s
        self._context = context
        self._arrival = arrival
        size = max((tag.number for tag in context.tags), default=-1) + 1 if every_s is not None else 0
        self._value = np.full(size, np.nan)
        self._status = np.zeros(size, np.uint32)
        self._kind = np.zeros(size, np.uint32)  # flags of the value itself
        self._since = np.full(size, np.inf)  # of the last row, a confirmation as well; infinite: no value is known
        self._exact: dict[int, Exact] = {}
        self._has_exact = np.zeros(size, np.bool_)
        self._next: dict[int, float] = {}

    def note(self, rows: Rows, now_s: float) -> None:
        """Rows of these tags were handed on; of a tag that repeats, the last counts."""
        if self.every_s is None or not len(rows):
            return
        tag = rows.tag
        self._value[tag], self._status[tag], self._since[tag] = rows.value, rows.status & _NOT_OVERFLOW, now_s
        self._kind[tag] = rows.flags & np.uint32(Flag.NAN | Flag.DECODE_LOSS | Flag.FLOAT32)
        if self._has_exact[tag].any():
            for number in np.unique(tag[self._has_exact[tag]]).tolist():
                del self._exact[number]
            self._has_exact[tag] = False
        if rows.exact:
            last = dict(zip(tag.tolist(), range(len(tag)), strict=True))
            for row, item in rows.exact.items():
                number = int(tag[row])
                if last[number] == row:
                    self._exact[number], self._has_exact[number] = item, True

    def learn(self, rows: Rows, now_s: float) -> None:
        """What tags have now that were not handed on in this process; of the others the last value is known."""
        if len(rows) and self.every_s is not None:
            self.note(rows.take(np.isinf(self._since[rows.tag])), now_s)

    def forget(self, tags: Iterable[int] | None = None) -> None:
        """The last values of these tags, or of all, are not known any more."""
        if self.every_s is None:
            return
        if tags is None:
            self._next.clear()
        self._since[slice(None) if tags is None else np.fromiter(tags, np.intp)] = np.inf

    def confirm(self, place: int, tags: NDArray[np.int64], refused: Iterable[int], now_s: float) -> SampleBatch | None:
        """
        The server has said just now that nothing changed in these *tags* since their last values: rows of those whose
        last one is old enough, at the time of arrival. None: there are none.

        *place* names the tags, which are always the same for it; *refused* are not watched.
        """
        if self.every_s is None or now_s < self._next.get(place, -np.inf):
            return None
        since = self._since[tags]
        old = now_s - since >= self.every_s
        standing = since[~old]
        self._next[place] = min(float(standing.min()) if len(standing) else now_s, now_s) + self.every_s
        due = tags[old]
        if len(due) and (out := list(refused)):
            due = due[~np.isin(due, out)]
        if not len(due):
            return None
        self._since[due] = now_s
        now_ns = self._context.now_ns()
        flags = self._kind[due] | _MARKS
        exact: dict[int, Exact] = {}
        if self._has_exact[due].any():
            exact = {row: self._exact[int(due[row])] for row in np.flatnonzero(self._has_exact[due]).tolist()}
        source_ns = self._arrival.spread(np.full(len(due), now_ns, np.int64), flags)
        return SampleBatch.build(
            self._context.name,
            self._context.map_revision,
            now_ns,
            tag=due.astype(np.int32),
            source_ns=source_ns,
            value=self._value[due],
            status=self._status[due],
            flags=flags,
            exact=exact,
        )
