"""
Shewhart's rule 1: one subgroup mean beyond the limit, for shifts so large that waiting is a waste.

A single sample cannot move a subgroup mean over the limit; where a subgroup is one sample, two running have to be
beyond it on one side. The limit is the budget's quantile (Student's t with the window's independent
points), not three sigmas.

Source: Shewhart (1931); Western Electric rule 1.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, NO_ROWS, ROSE, Detector, Fed, Judgement
from detectors.charts import Charts, Points
from schemas.anomaly import Kind
from schemas.columns import Columns, column

_BACK: Final = 0.5


class _State(Columns):
    beyond: NDArray[np.int8] = column(np.int8)  #: side of the point before, where it was beyond the limit
    since_ns: NDArray[np.int64] = column(np.int64)


class Shewhart(Detector):
    """A point beyond the limit."""

    name = "shewhart"
    kind = Kind.MEAN_SHIFT

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def feed(self, points: Points, charts: Charts) -> Fed:
        """Score is the distance from the centre over the limit."""
        chart, state, slot = charts.chart, self._state, points.slot
        limit = chart.wide[slot]
        beyond = (np.abs(points.tamed) > limit) * np.sign(points.tamed).astype(np.int8)
        before = state.beyond[slot]
        if not beyond.any() and not before.any() and not self.conditions.active[slot].any():
            return NO_ROWS
        before = np.where(points.broken, 0, before)
        again = (beyond != 0) & (beyond == before)
        state.beyond[slot] = beyond
        begins = (beyond != 0) & ~again
        state.since_ns[slot[begins]] = points.time_ns[begins]
        center = chart.center[slot]
        said = Judgement(
            outside=again | ((beyond != 0) & (chart.group[slot] > 1)),
            inside=np.abs(points.tamed) < _BACK * limit,
            onset_ns=state.since_ns[slot],
            value=center + points.shown,
            score=np.abs(points.shown) / limit,
            low=center - limit,
            high=center + limit,
            direction=np.where(points.tamed > 0, ROSE, FELL).astype(np.int8),
            samples=points.samples,
        )
        return slot, self.conditions.update(slot, points.time_ns, said)
