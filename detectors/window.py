"""The last 32 points of each tag in learned sigmas, looked at with every fourth one; and the two lines through them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.baseline import student, two_sided
from detectors.charts import Charts, Points
from schemas.columns import Columns, Index, column

LENGTH: Final = 32
STEP: Final = 4
#: Where a level may have changed: so many points before it.
SPLITS: Final = (8, 12, 16, 20, 24)
_PLACE: Final = np.arange(LENGTH)
_RUN: Final = _PLACE - _PLACE.mean()
_SQUARES: Final = float((_RUN * _RUN).sum())


class Window(Columns):
    """Ring of points; a hole, a closed gate or a new baseline empties it."""

    values: NDArray[np.float32] = column(np.float32, width=LENGTH)
    times_ns: NDArray[np.int64] = column(np.int64, width=LENGTH // STEP)  #: of every fourth point
    place: NDArray[np.int8] = column(np.int8)
    filled: NDArray[np.int8] = column(np.int8)

    def push(self, points: Points, charts: Charts) -> View | None:
        """Add points; the windows that are due, None where none is."""
        slot = points.slot
        place = np.where(points.broken, 0, self.place[slot])
        filled = np.minimum(np.where(points.broken, 0, self.filled[slot]) + 1, LENGTH)
        self.values[slot, place] = np.clip(points.shown / charts.chart.sigma[slot], -1e6, 1e6)
        quarter = place % STEP == 0
        if quarter.any():
            self.times_ns[slot[quarter], place[quarter] // STEP] = points.time_ns[quarter]
        after = place + 1
        self.place[slot], self.filled[slot] = after % LENGTH, filled
        due = (filled >= LENGTH) & (after % STEP == 0)
        if not due.any():
            return None
        slot, start = slot[due], after[due]
        order = (start[:, None] + _PLACE) % LENGTH
        quarters = (start[:, None] // STEP + np.arange(LENGTH // STEP)) % (LENGTH // STEP)
        return View(
            slot,
            points.time_ns[due],
            points.shown[due],
            self.values[slot[:, None], order].astype(np.float64),
            self.times_ns[slot[:, None], quarters],
            charts,
        )


@dataclass(frozen=True)
class View:
    """k windows, oldest point first: ``x`` float64[k, 32] in sigmas, ``times_ns`` int64[k, 8] of every fourth point."""

    slot: Index
    time_ns: NDArray[np.int64]
    shown: NDArray[np.float64]
    x: NDArray[np.float64]
    times_ns: NDArray[np.int64]
    charts: Charts

    def quantile(self, tests: int = 1) -> NDArray[np.float64]:
        """Student's t that a healthy tag's statistic may exceed within the budget, one look of *tests* at once."""
        chart, slot = self.charts.chart, self.slot
        probability = np.minimum(chart.alarm[slot] * STEP / tests, 0.01)
        return student(two_sided(probability), np.maximum(chart.independent[slot] - 1, 1.0))

    @cached_property
    def inflation(self) -> NDArray[np.float64]:
        """Factor by which correlation widens the error of a mean."""
        phi = self.charts.chart.phi[self.slot]
        factor: NDArray[np.float64] = np.sqrt((1 + phi) / (1 - phi))
        return factor

    @cached_property
    def total(self) -> NDArray[np.float64]:
        """Sum of squares about the mean."""
        squares: NDArray[np.float64] = ((self.x - self.x.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        return squares

    @cached_property
    def slope(self) -> NDArray[np.float64]:
        """Of the best line, sigmas a point."""
        slope: NDArray[np.float64] = self.x @ _RUN / _SQUARES
        return slope

    @cached_property
    def slope_error(self) -> NDArray[np.float64]:
        """Standard error of the slope; the spread is the learned one, or the line's if that is larger."""
        error: NDArray[np.float64] = self._spread(self.line_rest) * self.inflation / np.sqrt(_SQUARES)
        return error

    @cached_property
    def line_rest(self) -> NDArray[np.float64]:
        """Sum of squares that the best line leaves."""
        return np.maximum(self.total - self.slope * self.slope * _SQUARES, 0.0)

    @cached_property
    def steps(self) -> NDArray[np.float64]:
        """Mean after less mean before each of SPLITS, float64[k, 5]."""
        sums = np.cumsum(self.x, axis=1)
        before = sums[:, [split - 1 for split in SPLITS]]
        lengths = np.array(SPLITS, np.float64)
        steps: NDArray[np.float64] = (sums[:, -1:] - before) / (LENGTH - lengths) - before / lengths
        return steps

    @cached_property
    def best(self) -> NDArray[np.intp]:
        """Number of the split that explains most."""
        lengths = np.array(SPLITS, np.float64)
        found: NDArray[np.intp] = (self.steps**2 * (lengths * (LENGTH - lengths) / LENGTH)).argmax(axis=1)
        return found

    @cached_property
    def step(self) -> NDArray[np.float64]:
        """Size of the best step, sigmas."""
        size: NDArray[np.float64] = self.steps[np.arange(len(self.slot)), self.best]
        return size

    @cached_property
    def step_error(self) -> NDArray[np.float64]:
        """Standard error of the best step."""
        before = np.array(SPLITS, np.float64)[self.best]
        return self._spread(self.step_rest) * self.inflation * np.sqrt(1 / before + 1 / (LENGTH - before))

    @cached_property
    def step_rest(self) -> NDArray[np.float64]:
        """Sum of squares that the best step leaves."""
        before = np.array(SPLITS, np.float64)[self.best]
        return np.maximum(self.total - self.step**2 * before * (LENGTH - before) / LENGTH, 0.0)

    @staticmethod
    def _spread(rest: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(1.0, np.sqrt(rest / (LENGTH - 2)))
