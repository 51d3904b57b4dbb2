"""
A change that lasts becomes normal.

Where a chart about the mean since the change, with the learned limit, has seen nothing but that level for
``relearn_after`` of the tag's time, what was found is over and the tag is learned anew. A level that goes on drifting
begins that time again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.baseline import LAMBDA
from detectors.charts import CUT, Charts, Points
from schemas.columns import Columns, Index, column

_NEAR: Final = 0.5


class _State(Columns):
    anchor: NDArray[np.float64] = column(np.float64)  #: mean of the points since
    anchored: NDArray[np.int64] = column(np.int64)  #: number of them
    wander: NDArray[np.float64] = column(np.float64)  #: chart about the anchor
    steady_ns: NDArray[np.int64] = column(np.int64)  #: how long it has stayed there


class Settling:
    """Follows the level of changed tags. *relearn_after_s* is steady time at a new level after which it is normal."""

    def __init__(self, relearn_after_s: float) -> None:
        self._relearn_ns = round(relearn_after_s * 1e9)
        self._state = _State()

    @property
    def memory(self) -> tuple[Columns, ...]:
        """The new levels."""
        return (self._state,)

    def feed(self, points: Points, charts: Charts, changed: NDArray[np.bool_]) -> Index:
        """
        Take points; *changed* says which of them are of tags with a condition. The slots that have settled.

        A closed gate interrupts that time, a point near the centre while nothing is wrong ends it.
        """
        state = self._state
        limit = charts.chart.limit[points.slot]
        normal = ~changed & (np.abs(points.mean) < _NEAR * limit)
        state.anchored[points.slot[normal]] = 0
        if not changed.any():
            return np.empty(0, np.intp)
        slot, limit, shown = points.slot[changed], limit[changed], points.shown[changed]
        count = state.anchored[slot] + 1
        step = np.clip(shown - state.anchor[slot], -CUT * limit, CUT * limit)
        wander = state.wander[slot] + LAMBDA * (step - state.wander[slot])
        leaves = (count == 1) | (np.abs(wander) > limit)
        state.anchor[slot] = np.where(leaves, shown, state.anchor[slot] + step / count)
        state.anchored[slot] = np.where(leaves, 1, count)
        state.wander[slot] = np.where(leaves, 0.0, wander)
        state.steady_ns[slot] = np.where(leaves, 0, state.steady_ns[slot] + points.passed_ns[changed])
        return slot[state.steady_ns[slot] >= self._relearn_ns]

    def forget(self, slots: Index) -> None:
        """Begin anew with these tags."""
        self._state.reset(slots)
