"""
EWMA: a mean that has moved, by an exponentially weighted mean of subgroup means.

The limit is wider the more the signal follows itself, and the fewer independent points the clean window held.

Source: Montgomery, *Introduction to Statistical Quality Control*, 9.2; Schmid (1997).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, ROSE, Detector, Fed, Judgement
from detectors.baseline import LAMBDA
from detectors.charts import Charts, Points
from schemas.anomaly import Kind
from schemas.columns import Columns, column

_BACK: Final = 0.5
_QUIET: Final = 0.5


class _State(Columns):
    level: NDArray[np.float64] = column(np.float64)
    quiet_ns: NDArray[np.int64] = column(np.int64)


class Ewma(Detector):
    """Mean shift, found within some points."""

    name = "ewma"
    kind = Kind.MEAN_SHIFT

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def feed(self, points: Points, charts: Charts) -> Fed:
        """Score is the distance from the centre over the limit."""
        chart, state, slot, time_ns = charts.chart, self._state, points.slot, points.time_ns
        limit = chart.limit[slot]
        broken = points.broken & ~self.conditions.active[slot]
        before = np.where(broken, 0.0, state.level[slot])
        level = before + LAMBDA * (points.mean - before)
        size = np.abs(level)
        quiet = broken | (size < _QUIET * limit) | (np.sign(level) != np.sign(before))
        state.level[slot] = level
        state.quiet_ns[slot[quiet]] = time_ns[quiet]
        center = chart.center[slot]
        said = Judgement(
            outside=size > limit,
            inside=size < _BACK * limit,
            onset_ns=state.quiet_ns[slot],
            value=center + points.shown,
            score=size / limit,
            low=center - limit,
            high=center + limit,
            direction=np.where(level > 0, ROSE, FELL).astype(np.int8),
            samples=points.samples,
        )
        return slot, self.conditions.update(slot, time_ns, said)
