"""
Level shift: within the last 32 points the mean stepped from one level to another.

It compares the window with itself, so a wrong centre does not matter, and it says when the step was. A step has to
explain the window better than a straight line does; else it is a trend. It is over when the window has moved on: that
the mean then is elsewhere is told by the chart of means.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.base import FELL, ROSE, Detector, Fed, Judgement
from detectors.window import LENGTH, SPLITS, STEP, View
from schemas.anomaly import Kind

_BACK: Final = 0.5


class LevelShift(Detector):
    """A step of the mean."""

    name = "level_shift"
    kind = Kind.LEVEL_SHIFT

    def feed(self, view: View) -> Fed:
        """Score is the step over its limit; the band is the limit about the level before."""
        chart, slot = view.charts.chart, view.slot
        limit = view.quantile(len(SPLITS)) * view.step_error
        size = np.abs(view.step)
        rows = np.arange(len(slot))
        split = np.array(SPLITS)[view.best]
        before = (view.x * (np.arange(LENGTH) < split[:, None])).sum(axis=1) / split
        sigma, center = chart.sigma[slot], chart.center[slot]
        said = Judgement(
            outside=(size > limit) & (view.step_rest < view.line_rest),
            inside=size < _BACK * limit,
            onset_ns=view.times_ns[rows, split // STEP],
            value=center + (before + view.step) * sigma,
            score=size / limit,
            low=center + (before - limit) * sigma,
            high=center + (before + limit) * sigma,
            direction=np.where(view.step > 0, ROSE, FELL).astype(np.int8),
            samples=LENGTH * chart.group[slot].astype(np.int64),
        )
        return slot, self.conditions.update(slot, view.time_ns, said)
