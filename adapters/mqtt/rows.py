"""Columns of a batch in the making: rows added one by one, and parts that come as columns already."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters import values
from adapters.arrival import Arrival
from adapters.base import AdapterContext
from schemas.samples import Exact, Origin, SampleBatch
from schemas.status import Flag, Quality, quality

_ARRIVAL = np.uint32(Flag.ARRIVAL_TIME)


class Part(NamedTuple):
    """Rows as columns of one length; ``order`` is the place of the row's message, ascending."""

    order: NDArray[np.int64]
    tag: NDArray[np.int32]
    source_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    flags: NDArray[np.uint32]


class Rows:
    """
    Rows in the order of their messages; ``place`` is that of the message whose rows are added.

    A row with ``Flag.ARRIVAL_TIME`` is added with the time at which its message arrived.
    """

    def __init__(self) -> None:
        self.place = 0
        self._order: list[int] = []
        self._tag: list[int] = []
        self._source_ns: list[int] = []
        self._value: list[float] = []
        self._status: list[int] = []
        self._flags: list[int] = []
        self._exact: dict[int, Exact] = {}
        self._parts: list[Part] = []

    def add(self, tag: int, source_ns: int, value: values.Value, status: int, flags: int) -> None:
        """Add one row; a bad status has no number."""
        bad = quality(status) is Quality.BAD
        if value[1] is not None and not bad:
            self._exact[len(self._tag)] = value[1]
        self._order.append(self.place)
        self._tag.append(tag)
        self._source_ns.append(source_ns)
        self._value.append(math.nan if bad else value[0])
        self._status.append(status)
        self._flags.append(flags)

    def add_part(self, part: Part) -> None:
        """Add rows of many messages."""
        self._parts.append(part)

    def batch(self, context: AdapterContext, arrival: Arrival) -> SampleBatch:
        """The batch; its origin is retained, or history, where every row is."""
        columns, exact = self._columns()
        flags = columns.flags
        source_ns = columns.source_ns
        arrived = (flags & _ARRIVAL) != 0
        if arrived.any():
            marks = flags[arrived]
            source_ns[arrived] = arrival.spread(source_ns[arrived], marks)
            flags[arrived] = marks
        return SampleBatch(
            context.name,
            _origin(flags),
            context.map_revision,
            context.now_ns(),
            columns.tag,
            source_ns,
            None,
            columns.value,
            columns.status,
            flags,
            exact,
        )

    def _columns(self) -> tuple[Part, dict[int, Exact]]:
        if len(self._parts) == 1 and not self._tag:
            return self._parts[0], {}
        singly = Part(
            np.asarray(self._order, np.int64),
            np.asarray(self._tag, np.int32),
            np.asarray(self._source_ns, np.int64),
            np.asarray(self._value, np.float64),
            np.asarray(self._status, np.uint32),
            np.asarray(self._flags, np.uint32),
        )
        if not self._parts:
            return singly, self._exact
        all_ = [singly, *self._parts]
        joined = Part(
            np.concatenate([part.order for part in all_]),
            np.concatenate([part.tag for part in all_]),
            np.concatenate([part.source_ns for part in all_]),
            np.concatenate([part.value for part in all_]),
            np.concatenate([part.status for part in all_]),
            np.concatenate([part.flags for part in all_]),
        )
        order = np.argsort(joined.order, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        exact = {int(place[row]): value for row, value in self._exact.items()}
        return _in_order(joined, order), exact


def _in_order(part: Part, order: NDArray[np.intp]) -> Part:
    return Part(
        part.order[order],
        part.tag[order],
        part.source_ns[order],
        part.value[order],
        part.status[order],
        part.flags[order],
    )


def _origin(flags: NDArray[np.uint32]) -> Origin:
    """Origin of a batch whose rows have these flags."""
    if len(flags):
        for flag, found in ((Flag.RETAINED, Origin.RETAINED), (Flag.BACKFILL, Origin.HISTORY)):
            if bool((flags & np.uint32(flag)).all()):
                return found
    return Origin.LIVE
