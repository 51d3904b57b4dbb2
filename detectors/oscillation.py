"""
Oscillation: the last 32 points swing with one period, wider than the tag has shown while it was learned.

Fisher's test asks whether one frequency holds more of the window's power than chance gives; three periods at least have
to fit into the window. The swing must be twice the learned sigma, so that a signal that always swings is not reported.

Source: Fisher (1929), *Tests of significance in harmonic analysis*.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import JUMPED, TINY, Detector, Fed, Judgement
from detectors.window import LENGTH, STEP, View
from schemas.anomaly import Kind
from schemas.columns import Columns, column

#: Periods that have to fit into the window.
_FEWEST: Final = 3
_SWING: Final = 2.0
_BACK: Final = 0.6
_PLACE: Final = np.arange(LENGTH)
_RUN: Final = _PLACE - _PLACE.mean()
_FREQUENCIES: Final = LENGTH // 2


class _State(Columns):
    period_ns: NDArray[np.int64] = column(np.int64)
    swing: NDArray[np.float64] = column(np.float64)


class Oscillation(Detector):
    """A swing with one period."""

    name = "oscillation"
    kind = Kind.OSCILLATION

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def swing(self, slot: int) -> tuple[float, float]:
        """Period in seconds, and amplitude in the tag's unit."""
        return int(self._state.period_ns[slot]) / 1e9, float(self._state.swing[slot])

    def feed(self, view: View) -> Fed:
        """Score is the amplitude over the smallest one that counts."""
        chart, slot = view.charts.chart, view.slot
        flat = view.x - view.x.mean(axis=1, keepdims=True) - view.slope[:, None] * _RUN
        power = np.abs(np.fft.rfft(flat, axis=1)[:, 1:]) ** 2
        all_of_it = np.maximum(power.sum(axis=1), TINY)
        # a period between two of the window's shares its power between neighbours
        pair = power[:, :-1] + power[:, 1:]
        best = pair.argmax(axis=1)
        rows = np.arange(len(slot))
        strongest = pair[rows, best]
        share = strongest / all_of_it
        allowed = np.minimum(chart.alarm[slot] * STEP, 0.01)
        # P(share > g) <= m (1 - g)^(m - 1) for one of m frequencies; a pair counts as one of half as many
        pairs = _FREQUENCIES / 2
        limit = 1 - (allowed / (2 * pairs)) ** (1 / (pairs - 1))
        amplitude = 2 * np.sqrt(strongest) / LENGTH
        centre_of = (power[rows, best] * (best + 1) + power[rows, best + 1] * (best + 2)) / np.maximum(strongest, TINY)
        length_ns = (view.time_ns - view.times_ns[:, 0]) * LENGTH / (LENGTH - 1)
        self._state.period_ns[slot] = (length_ns / np.maximum(centre_of, 1.0)).astype(np.int64)
        self._state.swing[slot] = amplitude * chart.sigma[slot]
        center, swing = chart.center[slot], _SWING * chart.sigma[slot]
        said = Judgement(
            outside=(share > limit) & (amplitude > _SWING) & (centre_of >= _FEWEST),
            inside=(amplitude < _BACK * _SWING) | (share < _BACK * limit),
            onset_ns=view.times_ns[:, 0],
            value=center + view.shown,
            score=amplitude / _SWING,
            low=center - swing,
            high=center + swing,
            direction=np.full(len(slot), JUMPED, np.int8),
            samples=LENGTH * chart.group[slot].astype(np.int64),
        )
        return slot, self.conditions.update(slot, view.time_ns, said)
