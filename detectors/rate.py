"""Rate of change: faster than the tag map believes, by device time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import JUMPED, NO_ROWS, Detector, Fed, Judgement, Rows
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, column

#: The rate is believable again below this part of its limit.
_HYSTERESIS: Final = 0.8


class _RateState(Columns):
    time_ns: NDArray[np.int64] = column(np.int64)
    value: NDArray[np.float64] = column(np.float64, np.nan)


class Rate(Detector):
    """
    Faster than the tag map believes, by device time; over with the next believable change.

    Two samples closer than half a scan count as half a scan apart: queued samples and times of arrival come in
    bursts, and their distance is not the process's.
    """

    name = "rate"
    kind = Kind.RATE

    def __init__(self) -> None:
        self._last = _RateState()
        super().__init__(self._last)

    def feed(self, rows: Rows, parameters: Parameters) -> Fed:
        """Score is the rate over its limit; the band is where the value could believably have been."""
        at = np.flatnonzero(parameters.has_rate[rows.slot])
        slot, value, time_ns = rows.slot[at], rows.value[at], rows.time_ns[at]
        if len(at) == 0:
            return NO_ROWS
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
                inside=judged & (rate <= limit * _HYSTERESIS),
                onset_ns=time_ns,
                value=value,
                score=rate / limit,
                low=before - reach,
                high=before + reach,
                direction=np.full(len(at), JUMPED, np.int8),
                samples=np.full(len(at), 2, np.int64),
            )
        return slot, self.conditions.update(slot, time_ns, said)
