"""
Deviation: the process value stays away from its set point longer than the loop takes to settle.

How far is usual is learned for each loop; after a change of the set point the hold-off waits first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, ROSE, Detector, Fed, Judgement
from detectors.loops import LoopRows
from schemas.anomaly import Kind
from schemas.columns import Columns, column


class _State(Columns):
    away_ns: NDArray[np.int64] = column(np.int64)
    since_ns: NDArray[np.int64] = column(np.int64)
    samples: NDArray[np.int64] = column(np.int64)


class Deviation(Detector):
    """Process value away from its set point. *settle_s* is how long it may be."""

    name = "deviation"
    kind = Kind.DEVIATION

    def __init__(self, settle_s: float) -> None:
        self._settle_ns = round(settle_s * 1e9)
        self._state = _State()
        super().__init__(self._state)

    def look(self, loops: LoopRows) -> Fed:
        """Score is the deviation over the usual one's limit."""
        state, slot = self._state, loops.slot
        size = np.abs(loops.error)
        away = size > loops.band
        begins = away & (state.away_ns[slot] == 0)
        state.since_ns[slot[begins]] = loops.time_ns[begins]
        # a deviation that has not gone back to half is still the same one
        stays = away | ((state.away_ns[slot] > 0) & (size > loops.band / 2))
        state.away_ns[slot] = np.where(stays, state.away_ns[slot] + np.maximum(loops.passed_ns, 1), 0)
        state.samples[slot] = np.where(stays, state.samples[slot] + 1, 0)
        said = Judgement(
            outside=away & (state.away_ns[slot] >= self._settle_ns),
            inside=~stays,
            onset_ns=state.since_ns[slot],
            value=loops.value,
            score=size / loops.band,
            low=loops.set_point - loops.band,
            high=loops.set_point + loops.band,
            direction=np.where(loops.error < 0, ROSE, FELL).astype(np.int8),
            samples=state.samples[slot],
        )
        return slot, self.conditions.update(slot, loops.time_ns, said)

    def pause(self, slots: NDArray[np.intp]) -> None:
        """The gate of these tags has closed."""
        self._state.reset(slots)
