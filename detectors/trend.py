"""
Trend: the last 32 points lie on a line that rises or falls, and still does in their newer half.

The error of the slope is inflated for correlation: a signal that wanders slowly has slopes in every window.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.base import FELL, ROSE, Detector, Fed, Judgement
from detectors.window import LENGTH, View
from schemas.anomaly import Kind

_BACK: Final = 0.5
#: The newer half has to go on with this part of the slope.
_GOES_ON: Final = 0.4
_HALF: Final = LENGTH // 2
_RUN: Final = np.arange(_HALF) - (_HALF - 1) / 2
_SQUARES: Final = float((_RUN * _RUN).sum())


class Trend(Detector):
    """A drift of the mean."""

    name = "trend"
    kind = Kind.TREND

    def feed(self, view: View) -> Fed:
        """Score is the slope over its limit; the band is where the line may end for a tag that does not drift."""
        chart, slot = view.charts.chart, view.slot
        limit = view.quantile() * view.slope_error
        size = np.abs(view.slope)
        newer = view.x[:, _HALF:] @ _RUN / _SQUARES
        goes_on = newer * np.sign(view.slope) > _GOES_ON * size
        sigma, center = chart.sigma[slot], chart.center[slot]
        middle = view.x.mean(axis=1)
        begin = middle - view.slope * (LENGTH - 1) / 2
        band = limit * (LENGTH - 1)
        said = Judgement(
            outside=(size > limit) & (view.line_rest < view.step_rest) & goes_on,
            inside=size < _BACK * limit,
            onset_ns=view.times_ns[:, 0],
            value=center + view.shown,
            score=size / limit,
            low=center + (begin - band) * sigma,
            high=center + (begin + band) * sigma,
            direction=np.where(view.slope > 0, ROSE, FELL).astype(np.int8),
            samples=LENGTH * chart.group[slot].astype(np.int64),
        )
        return slot, self.conditions.update(slot, view.time_ns, said)
