"""The rows of one batch: times of arrival, overflow marks, and the holes that the server's queue left before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from adapters.arrival import Arrival
from adapters.opcua.rows import OneByOne, Rows
from schemas.samples import Origin, Reject, SampleBatch
from schemas.status import OVERFLOW_MASK, Flag

_OVERFLOW: Final = np.uint32(OVERFLOW_MASK)
#: A status code without its info bits (Part 4, 7.39).
_CODE: Final = np.uint32(0xFFFF0000)


class Times:
    """
    What one batch leaves for the next of the same source.

    ``arrival`` gives times to rows without source time; a step back of our clock is counted in *counters*.
    """

    def __init__(self, counters: Counter[str] | None = None) -> None:
        self.arrival = Arrival(Counter() if counters is None else counters)
        self._last = np.zeros(0, np.int64)

    @property
    def last_ns(self) -> dict[int, int]:
        """The last source time of each tag that was ever in the journal."""
        return {int(tag): int(self._last[tag]) for tag in np.flatnonzero(self._last)}

    def last(self, tag: int) -> int:
        """The last source time of a tag; 0 where none was in the journal."""
        return int(self._last[tag]) if tag < len(self._last) else 0

    def remember(self, tags: NDArray[np.int64], source_ns: NDArray[np.int64]) -> None:
        """These rows are in the journal; of a tag that repeats, the last counts."""
        if not len(tags):
            return
        most = int(tags.max())
        if most >= len(self._last):
            self._last = np.concatenate((self._last, np.zeros(most + 1 - len(self._last), np.int64)))
        self._last[tags] = source_ns


@dataclass(frozen=True, slots=True)
class Hole:
    """Values of these tags that the server's queue lost, between two source times."""

    tags: tuple[int, ...]
    from_ns: int
    to_ns: int


class Columns:
    """Rows collected for one batch."""

    def __init__(self, received_ns: int, times: Times) -> None:
        self.received_ns = received_ns
        self._times = times
        self._parts: list[Rows] = []
        self._count = 0
        self.overflowed = 0  #: rows before which the server's queue lost values

    def __len__(self) -> int:
        return self._count

    @property
    def tags(self) -> frozenset[int]:
        """The tags that have rows."""
        return frozenset(self._joined().tag.tolist())

    @property
    def latest_ns(self) -> int:
        """The latest source time, 0 without rows."""
        return max((int(part.source_ns.max()) for part in self._parts), default=0)

    def mark(self, seen: NDArray[np.bool_]) -> None:
        """Set *seen* at each tag that has rows."""
        seen[self._joined().tag] = True

    def ending(self, codes: Collection[int]) -> dict[int, int]:
        """The tags whose last row here has one of these status codes, with it; info bits do not count."""
        rows = self._joined()
        if not rows.status.any():
            return {}
        bare = rows.status & _CODE
        if not any((bare == code).any() for code in codes):  # a tenth of numpy's isin, which sorts
            return {}
        last = dict(zip(rows.tag.tolist(), bare.tolist(), strict=True))
        return {tag: code for tag, code in last.items() if code in codes}

    @property
    def rows(self) -> Rows:
        """All rows, in order."""
        return self._joined()

    def add(self, rows: Rows) -> None:
        """Append decoded rows in order; those without a source time get that of arrival."""
        if not len(rows):
            return
        if not rows.source_ns.all():
            unstamped = rows.source_ns == 0
            marks = rows.flags[unstamped] | np.uint32(Flag.ARRIVAL_TIME)
            at_ns = np.full(len(marks), self.received_ns, np.int64)
            rows.source_ns = rows.source_ns.copy()  # the column may be shared with server_ns where both are missing
            rows.source_ns[unstamped] = self._times.arrival.spread(at_ns, marks)
            rows.flags[unstamped] = marks
        if rows.status.any() and (marked := (rows.status & _OVERFLOW) == _OVERFLOW).any():
            rows.flags[marked] |= np.uint32(Flag.OVERFLOW)
            self.overflowed += int(np.count_nonzero(marked))
        self._parts.append(rows)
        self._count += len(rows)

    def extend(self, rows: Iterable[tuple[int, ua.DataValue]]) -> None:
        """Append (tag number, DataValue) rows in order, as the library decoded them."""
        collected = OneByOne()
        for tag, data in rows:
            collected.add(tag, data)
        self.add(collected.rows())

    def refuse(self, tag: int, code: int) -> None:
        """Append a row without value or source time: the server refused the item with this status."""
        self.extend([(tag, ua.DataValue(StatusCode=ua.StatusCode(code)))])

    def hole(self, covered_ns: int, earlier: Iterable[Columns] = ()) -> Hole | None:
        """
        What the server's queue lost before rows of this batch.

        *covered_ns* is the time on our clock up to which everything had come (0: not known); a tag without a last
        time, as after a restart, lost values since then. *earlier* are batches that are not in the journal yet.
        """
        if not self.overflowed:
            return None
        rows = self._joined()
        marked = (rows.flags & np.uint32(Flag.OVERFLOW)) != 0
        tags = set(rows.tag[marked].tolist())
        last_ns = {tag: self._times.last(tag) for tag in tags}
        for batch in earlier:
            before = batch._joined()
            known = np.isin(before.tag, list(tags))
            last_ns.update(zip(before.tag[known].tolist(), before.source_ns[known].tolist(), strict=True))
        since, until = self.received_ns, 0
        for tag, source_ns, mark in zip(rows.tag.tolist(), rows.source_ns.tolist(), marked.tolist(), strict=True):
            if mark:
                since = min(since, source_ns, last_ns[tag] or self._covered(source_ns, covered_ns))
                until = max(until, source_ns)
            if tag in tags:
                last_ns[tag] = source_ns
        return Hole(tuple(sorted(tags)), since, until)

    def remember(self) -> None:
        """The batch is in the journal: its times are each tag's last."""
        rows = self._joined()
        self._times.remember(rows.tag, rows.source_ns)

    def _covered(self, source_ns: int, covered_ns: int) -> int:
        """A time on the device's clock before which nothing was lost; never later than the true one."""
        if not covered_ns or covered_ns < source_ns:
            return covered_ns or source_ns
        return source_ns - max(0, self.received_ns - covered_ns)  # its clock is behind ours by at most its whole delay

    def batch(self, source: str, map_revision: bytes, origin: Origin = Origin.LIVE) -> SampleBatch:
        """The rows as a batch."""
        rows = self._joined()
        return SampleBatch.build(
            source,
            map_revision,
            self.received_ns,
            tag=rows.tag.astype(np.int32),
            source_ns=rows.source_ns,
            value=rows.value,
            status=rows.status,
            flags=rows.flags,
            server_ns=rows.server_ns,
            exact=rows.exact,
            origin=origin,
        )

    def rejects(self, source: str, places: Mapping[int, str]) -> tuple[Reject, ...]:
        """What could not be decoded, for quarantine; *places* is the address of each tag."""
        return tuple(
            Reject(source, places.get(one.tag, ""), one.reason, one.raw, self.received_ns)
            for one in self._joined().poison
        )

    def _joined(self) -> Rows:
        if len(self._parts) != 1:
            self._parts = [Rows.join(self._parts)]
        return self._parts[0]
