"""Columns of a batch in the making, and times of arrival that strictly increase over all batches of a source."""

from __future__ import annotations

import math

import numpy as np

from adapters import values
from adapters.base import AdapterContext
from schemas.samples import Exact, Origin, SampleBatch
from schemas.status import Flag, Quality, quality


class Arrival:
    """Gives times of arrival (UTC ns), strictly increasing."""

    def __init__(self) -> None:
        self.last_ns = 0

    def next(self, at_ns: int) -> int:
        """The time of a row that arrived at *at_ns*: later than every one given before."""
        self.last_ns = max(self.last_ns + 1, at_ns)
        return self.last_ns


class Rows:
    """Rows in the order in which they are added."""

    def __init__(self) -> None:
        self.tag: list[int] = []
        self.source_ns: list[int] = []
        self.value: list[float] = []
        self.status: list[int] = []
        self.flags: list[int] = []
        self.exact: dict[int, Exact] = {}

    def add(self, tag: int, source_ns: int, value: values.Value, status: int, flags: int) -> None:
        """Add one row; a bad status has no number."""
        bad = quality(status) is Quality.BAD
        if value[1] is not None and not bad:
            self.exact[len(self.tag)] = value[1]
        self.tag.append(tag)
        self.source_ns.append(source_ns)
        self.value.append(math.nan if bad else value[0])
        self.status.append(status)
        self.flags.append(flags)

    def batch(self, context: AdapterContext) -> SampleBatch:
        """The batch; its origin is retained, or history, where every row is."""
        flags = np.asarray(self.flags, np.uint32)
        return SampleBatch.build(
            context.name,
            context.map_revision,
            context.now_ns(),
            tag=self.tag,
            source_ns=self.source_ns,
            value=self.value,
            status=self.status,
            flags=flags,
            exact=self.exact,
            origin=origin(flags),
        )


def origin(flags: np.typing.NDArray[np.uint32]) -> Origin:
    """Origin of a batch whose rows have these flags."""
    if len(flags):
        for flag, found in ((Flag.RETAINED, Origin.RETAINED), (Flag.BACKFILL, Origin.HISTORY)):
            if bool((flags & np.uint32(flag)).all()):
                return found
    return Origin.LIVE
