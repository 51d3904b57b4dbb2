"""
CUSUM, two-sided: small shifts that last, by the sums of what points lie beyond half a sigma.

The sums run over the residuals of the learned AR(1) process: points that follow each other would make any sum grow.
The slack is half a sigma and twice the error that the learned centre may have; the decision interval comes from the
budget by Siegmund's approximation of the run length. Sigma is the upper end of what it may be.

Source: Page (1954); Siegmund (1985), *Sequential Analysis*; Montgomery 9.1; Lu and Reynolds (1999) on residuals.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, NO_ROWS, ROSE, TINY, Detector, Fed, Judgement
from detectors.charts import Charts, Points
from schemas.anomaly import Kind
from schemas.columns import Columns, column

_SLACK: Final = 0.5
#: A residual counts for at most so many sigmas, and a sum for at most so many intervals.
_CUT: Final = 4.0
_FULL: Final = 1.2
_BACK: Final = 0.5
#: Siegmund's correction for the overshoot.
_OVERSHOOT: Final = 1.166
#: Standard errors by which the spread may be larger than it looks.
_DOUBT: Final = 2.0
#: Fewer differences than this say nothing.
_FEWEST: Final = 24


class _State(Columns):
    before: NDArray[np.float64] = column(np.float64, np.nan)
    high: NDArray[np.float64] = column(np.float64)
    low: NDArray[np.float64] = column(np.float64)
    high_ns: NDArray[np.int64] = column(np.int64)  #: when the sum last was 0
    low_ns: NDArray[np.int64] = column(np.int64)
    level: NDArray[np.float64] = column(np.float64)  #: mean of the points since the larger sum was 0
    points: NDArray[np.int64] = column(np.int64)
    interval: NDArray[np.float64] = column(np.float64, np.nan)
    slack: NDArray[np.float64] = column(np.float64)
    sigma: NDArray[np.float64] = column(np.float64, 1.0)  #: of the residuals, upper end


class Cusum(Detector):
    """Small shift that lasts."""

    name = "cusum"
    kind = Kind.MEAN_SHIFT

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def feed(self, points: Points, charts: Charts) -> Fed:
        """Score is the larger sum over the decision interval; the band is the centre's plus and minus the slack."""
        chart, state, slot, time_ns = charts.chart, self._state, points.slot, points.time_ns
        fresh = np.isnan(state.interval[slot])
        if fresh.any():
            self._draw(slot[fresh], charts)
        phi = chart.phi[slot]
        sigma = state.sigma[slot]
        before = np.where(points.broken, np.nan, state.before[slot])
        state.before[slot] = points.mean
        known = ~np.isnan(before)
        residual = np.clip((points.mean - phi * before) / sigma, -_CUT, _CUT)
        residual[~known] = 0.0
        broken = points.broken & ~self.conditions.active[slot]
        interval, slack = state.interval[slot], state.slack[slot]
        high = np.where(broken, 0.0, np.clip(state.high[slot] + residual - slack, 0.0, _FULL * interval))
        low = np.where(broken, 0.0, np.clip(state.low[slot] - residual - slack, 0.0, _FULL * interval))
        state.high[slot], state.low[slot] = high, low
        state.high_ns[slot[high == 0]] = time_ns[high == 0]
        state.low_ns[slot[low == 0]] = time_ns[low == 0]
        larger = np.maximum(high, low)
        count = np.where(larger == 0, 0, state.points[slot] + 1)
        state.points[slot] = count
        level = state.level[slot]
        level = np.where(larger == 0, 0.0, level + (points.shown - level) / np.maximum(count, 1))
        state.level[slot] = level
        if not (larger > interval).any() and not self.conditions.active[slot].any():
            return NO_ROWS
        rose = high >= low
        center, band = chart.center[slot], slack * sigma / np.maximum(1 - phi, 1e-3)
        said = Judgement(
            outside=larger > interval,
            inside=larger < _BACK * interval,
            onset_ns=np.where(rose, state.high_ns[slot], state.low_ns[slot]),
            value=center + level,
            score=larger / interval,
            low=center - band,
            high=center + band,
            direction=np.where(rose, ROSE, FELL).astype(np.int8),
            samples=count * points.samples,
        )
        return slot, self.conditions.update(slot, time_ns, said)

    def _draw(self, slot: NDArray[np.intp], charts: Charts) -> None:
        """Slack and decision interval of tags with a new baseline."""
        chart, state = charts.chart, self._state
        phi, alarm, independent = chart.phi[slot], chart.alarm[slot], np.maximum(chart.independent[slot], 2.0)
        seen = independent * (1 + phi) / (1 - phi)
        slack = _SLACK + 2 / np.sqrt(seen)
        run = 2 / alarm
        # Siegmund: run = (exp(2 k b) - 2 k b - 1) / (2 k²) with b the interval plus the overshoot; the nominal k, as
        # the rest of the slack is what the centre may be off
        reach = np.full(len(slot), 10.0)
        for _ in range(20):
            reach = np.log1p(2 * _SLACK * _SLACK * run + 2 * _SLACK * reach) / (2 * _SLACK)
        # the spread may be so much larger than it looked in the clean window
        doubt = 1 + _DOUBT / np.sqrt(2 * np.maximum(chart.freedom[slot], 1.0))
        # phi is the upper end of what it may be; residuals are as wide as the differences from point to point say
        square = np.maximum(chart.sigma[slot] ** 2, TINY)
        seen_phi = np.clip(1 - chart.rough[slot] / (2 * square), 0.0, phi)
        phi = np.where(chart.differences[slot] >= _FEWEST, seen_phi, phi)
        state.sigma[slot] = chart.sigma[slot] * np.sqrt(1 - phi * phi) * doubt
        state.slack[slot], state.interval[slot] = slack, reach - _OVERSHOOT
