"""Signal health of rows: out of range, too fast, not moving. The missing sample is in ``missing``."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, FLAT, JUMPED, NOTHING, ROSE, Changes, Conditions, Judgement, Rows
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column

#: A value is back in range when it is inside by this part of the range (limits: of their own size).
_RANGE_HYSTERESIS: Final = 0.01
#: The rate is believable again below this part of its limit.
_RATE_HYSTERESIS: Final = 0.8
#: One interval counts for at most this part of the flatline time, so that a hole in the data proves nothing.
_FLAT_SHARE: Final = 4


class RowDetector(Protocol):
    """A detector that is fed rows. ``gate`` says when it looks: while the equipment runs, or only when steady."""

    name: str
    kind: Kind
    gate: str
    conditions: Conditions

    @property
    def memory(self) -> tuple[Columns, ...]:
        """All state columns, each as long as there are slots."""
        ...

    def feed(self, rows: Rows, parameters: Parameters) -> tuple[Index, Changes]:
        """Slots that were judged, and the numbers within them where a condition began or was over."""
        ...


_NO_ROWS: Final[tuple[Index, Changes]] = (np.empty(0, np.intp), NOTHING)


class Range:
    """
    Outside the range that the tag map declares; back with one per cent hysteresis.

    A value that a clamp has cut was outside on the side of the nearer end.
    """

    name = "range"
    kind = Kind.OUT_OF_RANGE
    gate = "running"

    def __init__(self) -> None:
        self.conditions = Conditions()

    @property
    def memory(self) -> tuple[Columns, ...]:
        """The conditions alone."""
        return (self.conditions,)

    def feed(self, rows: Rows, parameters: Parameters) -> tuple[Index, Changes]:
        """Score 1 is the limit, 2 half a span beyond it."""
        at = np.flatnonzero(parameters.has_range[rows.slot] & rows.running)
        slot, value = rows.slot[at], rows.value[at]
        low, high = parameters.low[slot], parameters.high[slot]
        outside = (value < low) | (value > high) | rows.cut[at]
        if not outside.any() and not self.conditions.active[slot].any():
            return _NO_ROWS
        ends = np.maximum(np.abs(np.where(np.isfinite(low), low, 0)), np.abs(np.where(np.isfinite(high), high, 0)))
        half = np.where(np.isfinite(high - low), (high - low) / 2, np.maximum(ends, 1.0))
        half = np.maximum(half, np.finfo(np.float64).tiny)
        back = 2 * half * _RANGE_HYSTERESIS
        with np.errstate(over="ignore", invalid="ignore"):
            excess = np.maximum(np.maximum(value - high, low - value), 0.0)
            said = Judgement(
                outside=outside,
                inside=(value >= low + back) & (value <= high - back) & ~outside,
                onset_ns=rows.time_ns[at],
                value=value,
                score=1 + excess / half,
                low=low,
                high=high,
                direction=np.where(value - low >= high - value, ROSE, FELL).astype(np.int8),
                samples=np.ones(len(at), np.int64),
            )
        return slot, self.conditions.update(slot, rows.time_ns[at], said)


class _RateState(Columns):
    time_ns: NDArray[np.int64] = column(np.int64)
    value: NDArray[np.float64] = column(np.float64, np.nan)


class Rate:
    """
    Faster than the tag map believes, by device time; over with the next believable change.

    Two samples closer than half a scan count as half a scan apart: queued samples and times of arrival come in
    bursts, and their distance is not the process's.
    """

    name = "rate"
    kind = Kind.RATE
    gate = "steady"

    def __init__(self) -> None:
        self.conditions = Conditions()
        self._last = _RateState()

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Conditions and the last value of each tag."""
        return (self.conditions, self._last)

    def feed(self, rows: Rows, parameters: Parameters) -> tuple[Index, Changes]:
        """Score is the rate over its limit; the band is where the value could believably have been."""
        at = np.flatnonzero(parameters.has_rate[rows.slot])
        slot, value, time_ns = rows.slot[at], rows.value[at], rows.time_ns[at]
        if len(at) == 0:
            return _NO_ROWS
        before, apart = self._last.value[slot], time_ns - self._last.time_ns[slot]
        self._last.value[slot] = np.where(rows.suspect[at], np.nan, value)
        self._last.time_ns[slot] = time_ns
        limit = parameters.rate[slot]
        seconds = np.maximum(apart, parameters.scan_ns[slot] // 2) / 1e9
        with np.errstate(over="ignore", invalid="ignore"):
            rate = np.abs(value - before) / seconds
            reach = limit * seconds
            judged = (apart > 0) & ~np.isnan(before) & ~rows.suspect[at] & rows.steady[at]
            said = Judgement(
                outside=judged & (rate > limit),
                inside=judged & (rate <= limit * _RATE_HYSTERESIS),
                onset_ns=time_ns,
                value=value,
                score=rate / limit,
                low=before - reach,
                high=before + reach,
                direction=np.full(len(at), JUMPED, np.int8),
                samples=np.full(len(at), 2, np.int64),
            )
        return slot, self.conditions.update(slot, time_ns, said)


class _FlatState(Columns):
    value: NDArray[np.float64] = column(np.float64, np.nan)
    since_ns: NDArray[np.int64] = column(np.int64)
    time_ns: NDArray[np.int64] = column(np.int64)
    still_ns: NDArray[np.int64] = column(np.int64)
    samples: NDArray[np.int64] = column(np.int64)


class Flatline:
    """A live signal that does not move although samples come. Only for tags whose map says after how long."""

    name = "flatline"
    kind = Kind.FLATLINE
    gate = "steady"

    def __init__(self) -> None:
        self.conditions = Conditions()
        self._still = _FlatState()

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Conditions and how long each tag has been still."""
        return (self.conditions, self._still)

    def feed(self, rows: Rows, parameters: Parameters) -> tuple[Index, Changes]:
        """Score is the time without a change over the allowed one."""
        at = np.flatnonzero(parameters.flat_ns[rows.slot] > 0)
        slot, value, time_ns = rows.slot[at], rows.value[at], rows.time_ns[at]
        if len(at) == 0:
            return _NO_ROWS
        still, limit_ns = self._still, parameters.flat_ns[slot]
        same = (value == still.value[slot]) & rows.steady[at]
        passed = np.clip(time_ns - still.time_ns[slot], 0, limit_ns // _FLAT_SHARE)
        still_ns = np.where(same, still.still_ns[slot] + passed, 0)
        since_ns = np.where(same, still.since_ns[slot], time_ns)
        samples = np.where(same, still.samples[slot] + 1, 1)
        still.value[slot], still.time_ns[slot] = value, time_ns
        still.still_ns[slot], still.since_ns[slot], still.samples[slot] = still_ns, since_ns, samples
        none = np.full(len(at), np.nan)
        said = Judgement(
            outside=same & (still_ns >= limit_ns),
            inside=~same,
            onset_ns=since_ns,
            value=value,
            score=still_ns / limit_ns,
            low=none,
            high=none,
            direction=np.full(len(at), FLAT, np.int8),
            samples=samples,
        )
        return slot, self.conditions.update(slot, time_ns, said)
