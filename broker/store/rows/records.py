"""Rows of records, current values, tags and trends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from broker.store.rows.operation import GapRow
from schemas.status import quality


@dataclass(frozen=True, slots=True)
class Window:
    """Stored rows of one tag in order of time: int64[n], float64[n] (NaN without a number), uint32[n]."""

    source_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]


class RecordRow(NamedTuple):
    """
    One stored record. ``value_int`` and ``value_text`` hold what a float cannot; text of arrays and structures is
    JSON, of bytes base64, of integers beyond int64 decimal. ``increase``: of a counter, since its last usable
    record. ``tag`` is the stable id; ``meaning`` what the map said of its values when the record was stored
    (:mod:`broker.store.meanings`).
    """

    seq: int
    path: str
    unit: str
    source_ns: int
    server_ns: int | None
    received_ns: int
    value: float | None
    value_int: int | None
    value_text: str | None
    status: int
    flags: int
    revision: int
    increase: float | None = None
    tag: str = ""
    meaning: str | None = None

    @property
    def quality(self) -> str:
        """``good``, ``uncertain`` or ``bad``."""
        return quality(self.status).name.lower()


@dataclass(frozen=True, slots=True)
class CurrentRow:
    """The newest record of a tag, and the oldest gap that is open for it: the record is then no present value."""

    record: RecordRow
    gap_cause: str | None
    gap_from_ns: int | None


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Rows in order of ``seq``; go on after ``next_after``, which may lie behind the last row of a filtered page."""

    rows: list[RecordRow]
    next_after: int
    has_more: bool


class TagRow(NamedTuple):
    """One tag as the newest map that had it says; ``in_map`` False: no map in force has it now."""

    tag_id: int
    id: str
    path: str
    source: str
    address: str
    type: str | None
    unit: str
    role: str | None
    equipment: str
    range_low: float | None
    range_high: float | None
    enum: dict[int, str] | None
    description: str
    in_map: bool


class TrendPoint(NamedTuple):
    """
    One bucket of a trend: ``n`` rows, ``n_good`` good, ``n_bad`` bad; numbers are None where no row had one.

    ``at_ns`` is the begin of the bucket, ``first_ns`` and ``last_ns`` the times of the first and last number.
    """

    at_ns: int
    n: int
    n_good: int
    n_bad: int
    min: float | None
    max: float | None
    first: float | None
    first_ns: int | None
    last: float | None
    last_ns: int | None


@dataclass(frozen=True, slots=True)
class Trend:
    """
    Points of one tag in order of time, without empty buckets; ``resolution`` says what they were computed from.

    ``gaps`` are the holes in the span: a line must not be drawn across them. ``other_units`` are those in which the tag
    has numbers in the span that are not in the points: its unit changed.
    """

    path: str
    unit: str
    from_ns: int
    to_ns: int
    bucket_ns: int
    resolution: str
    points: list[TrendPoint]
    gaps: list[GapRow]
    other_units: tuple[str, ...] = ()
