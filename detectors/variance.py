"""
Variance: the signal has become noisier, or all but still, while its mean may be where it was.

The statistic is the mean square of the differences from point to point, which no slow wander and no step makes large;
it is compared with that of the clean window by an F test whose degrees of freedom are those of differences, and fewer
for heavy tails. A change of less than twice the spread (to less than a quarter of it) is of no use to anyone.

Source: von Neumann (1941) for the mean square successive difference; Paulson (1942) for the quantiles of F.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FLAT, JUMPED, Detector, Fed, Judgement
from detectors.baseline import two_sided
from detectors.window import LENGTH, STEP, View
from schemas.anomaly import Kind
from schemas.columns import Columns, column

#: A difference counts for at most so many learned ones.
_CUT: Final = 4.0
#: Differences share points: so many independent ones each.
_SHARE: Final = 2 / 3
_LOUDER: Final = 2.0
_CALMER: Final = 0.25
_BACK: Final = 0.5
#: Fewer differences than this in the clean window say nothing.
_FEWEST: Final = 24


class _State(Columns):
    ratio: NDArray[np.float64] = column(np.float64, 1.0)  #: spread now over the learned one


class Variance(Detector):
    """A change of the spread."""

    name = "variance"
    kind = Kind.VARIANCE

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def ratio(self, slot: int) -> float:
        """Spread over the learned one."""
        return float(self._state.ratio[slot])

    def feed(self, view: View) -> Fed:
        """Score is the normal deviate of the ratio over the budget's; the band is the mean's, not the spread's."""
        chart, slot = view.charts.chart, view.slot
        learned = np.sqrt(chart.rough[slot]) / chart.sigma[slot]
        usable = (chart.differences[slot] >= _FEWEST) & (learned > 1e-6)
        apart = np.diff(view.x, axis=1) / np.where(usable, learned, 1.0)[:, None]
        ratio = (np.clip(apart, -_CUT, _CUT) ** 2).mean(axis=1)
        self._state.ratio[slot] = np.sqrt(ratio)
        light = chart.freedom[slot] / chart.independent[slot]
        deviate = _paulson(ratio, (LENGTH - 1) * _SHARE * light, chart.differences[slot] * _SHARE * light)
        limit = two_sided(np.minimum(chart.alarm[slot] * STEP, 0.01))
        louder = (deviate > limit) & (ratio > _LOUDER**2)
        # some equal samples running are nothing strange on a signal that moves by one step of its resolution at most
        coarse = chart.resolution[slot] / chart.group[slot] >= np.sqrt(chart.rough[slot])
        calmer = (deviate < -limit) & (ratio < _CALMER**2) & ~coarse
        center = chart.center[slot]
        said = Judgement(
            outside=usable & (louder | calmer),
            inside=np.abs(deviate) < _BACK * limit,
            onset_ns=view.times_ns[:, 0],
            value=center + view.shown,
            score=np.abs(deviate) / limit,
            low=center - chart.limit[slot],
            high=center + chart.limit[slot],
            direction=np.where(deviate > 0, JUMPED, FLAT).astype(np.int8),
            samples=LENGTH * chart.group[slot].astype(np.int64),
        )
        return slot, self.conditions.update(slot, view.time_ns, said)


def _paulson(ratio: NDArray[np.float64], above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal deviate of an F ratio with so many degrees of freedom above and below."""
    a, b = 2 / (9 * np.maximum(above, 1.0)), 2 / (9 * np.maximum(below, 1.0))
    root = np.cbrt(ratio)
    deviate: NDArray[np.float64] = ((1 - b) * root - (1 - a)) / np.sqrt(b * root * root + a)
    return deviate
