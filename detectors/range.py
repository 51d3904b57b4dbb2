"""Out of range: outside the range that the tag map declares."""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.base import FELL, NO_ROWS, ROSE, TINY, Detector, Fed, Judgement, Rows
from detectors.parameters import Parameters
from schemas.anomaly import Kind

#: A value is back in range when it is inside by this part of the range (limits: of their own size).
_HYSTERESIS: Final = 0.01


class Range(Detector):
    """
    Outside the range that the tag map declares; back with one per cent hysteresis.

    A value that a clamp has cut was outside on the side of the nearer end.
    """

    name = "range"
    kind = Kind.OUT_OF_RANGE
    gate = "running"

    def feed(self, rows: Rows, parameters: Parameters) -> Fed:
        """Score 1 is the limit, 2 half a span beyond it."""
        at = np.flatnonzero(parameters.has_range[rows.slot] & rows.running)
        slot, value = rows.slot[at], rows.value[at]
        low, high = parameters.low[slot], parameters.high[slot]
        outside = (value < low) | (value > high) | rows.cut[at]
        if not outside.any() and not self.conditions.active[slot].any():
            return NO_ROWS
        ends = np.maximum(np.abs(np.where(np.isfinite(low), low, 0)), np.abs(np.where(np.isfinite(high), high, 0)))
        half = np.where(np.isfinite(high - low), (high - low) / 2, np.maximum(ends, 1.0))
        half = np.maximum(half, TINY)
        back = 2 * half * _HYSTERESIS
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
