"""
Stiction: the loop swings regularly, and its output has the shape that a sticking valve gives it.

The deviation's half cycles, from one crossing to the next, are measured as they pass. A controller that integrates
against a valve that sticks gives a triangle, whose mean size is half of its peak (a sine: 0.64), while the process
value stays rounder; where the output is the valve's measured position, it stands and jumps: its mean size comes near
its peak. A swing that comes from elsewhere, or from tuning, is a sine in both.

Source: He, Wang, Pottmann, Qin (2007), curve fitting of half cycles; Thornhill and Hägglund (1997) on regularity.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import JUMPED, TINY, Detector, Fed, Judgement
from detectors.loops import LoopRows
from schemas.anomaly import Kind
from schemas.columns import Columns, column

#: A crossing counts when the deviation has left the other side by so many usual ones.
_CROSSES: Final = 1.0
#: Half cycles behind a statement, samples in each, and the smoothing over them.
_HALVES: Final = 8
_SAMPLES: Final = 4
_SMOOTH: Final = 0.25
#: The half cycles may differ by this part of their mean.
_REGULAR: Final = 0.35
#: The swing in usual deviations.
_SWING: Final = 3.0
#: Mean size over peak: the output's less than the deviation's by so much, or above the square's.
_TRIANGLE: Final = 0.07
_SQUARE: Final = 0.8
#: Over when nothing has crossed for so many half cycles.
_QUIET: Final = 4


class _State(Columns):
    side: NDArray[np.int8] = column(np.int8)
    crossed_ns: NDArray[np.int64] = column(np.int64)
    first_ns: NDArray[np.int64] = column(np.int64)
    halves: NDArray[np.int32] = column(np.int32)
    shapes: NDArray[np.int32] = column(np.int32)  #: half cycles of the output whose shape was measured
    # of the half cycle that is passing
    samples: NDArray[np.int32] = column(np.int32)
    error_sum: NDArray[np.float64] = column(np.float64)
    error_top: NDArray[np.float64] = column(np.float64)
    out_sum: NDArray[np.float64] = column(np.float64)
    out_low: NDArray[np.float64] = column(np.float64, np.inf)
    out_high: NDArray[np.float64] = column(np.float64, -np.inf)
    # smoothed over half cycles
    middle: NDArray[np.float64] = column(np.float64, np.nan)
    length_ns: NDArray[np.float64] = column(np.float64)
    uneven_ns: NDArray[np.float64] = column(np.float64)
    swing: NDArray[np.float64] = column(np.float64)
    error_shape: NDArray[np.float64] = column(np.float64)
    out_shape: NDArray[np.float64] = column(np.float64)


class Stiction(Detector):
    """Swing of a loop with the shape of a sticking valve."""

    name = "stiction"
    kind = Kind.STICTION

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def swing(self, slot: int) -> tuple[float, float]:
        """Period in seconds, and amplitude of the deviation in the tag's unit."""
        return 2 * float(self._state.length_ns[slot]) / 1e9, float(self._state.swing[slot])

    def look(self, loops: LoopRows) -> Fed:
        """Score is the swing over the smallest one that counts."""
        state, slot = self._state, loops.slot
        side = np.where(loops.error > _CROSSES * loops.usual, 1, np.where(loops.error < -_CROSSES * loops.usual, -1, 0))
        crosses = (side != 0) & (side != state.side[slot])
        if crosses.any():
            self._cross(slot[crosses], loops.time_ns[crosses])
            state.side[slot[crosses]] = side[crosses]
        size = np.abs(loops.error)
        state.samples[slot] = np.minimum(state.samples[slot] + 1, 2**30)
        state.error_sum[slot] += size
        state.error_top[slot] = np.maximum(state.error_top[slot], size)
        known = np.isfinite(loops.out)
        state.out_low[slot[known]] = np.minimum(state.out_low[slot[known]], loops.out[known])
        state.out_high[slot[known]] = np.maximum(state.out_high[slot[known]], loops.out[known])
        from_middle = np.abs(loops.out - state.middle[slot])
        state.out_sum[slot] += np.where(np.isfinite(from_middle), from_middle, 0.0)
        limit = np.maximum(_SWING * loops.usual, TINY)
        swing = state.swing[slot]
        quiet = loops.time_ns - state.crossed_ns[slot] > _QUIET * state.length_ns[slot]
        regular = state.uneven_ns[slot] < _REGULAR * state.length_ns[slot]
        shape = state.out_shape[slot]
        sticks = (state.error_shape[slot] - shape > _TRIANGLE) | (shape > _SQUARE)
        known = np.isfinite(loops.band) & (state.shapes[slot] >= _HALVES)
        said = Judgement(
            outside=known & regular & sticks & (swing > limit) & ~quiet,
            inside=quiet | (swing < limit / 2) | ~regular,
            onset_ns=state.first_ns[slot],
            value=loops.value,
            score=swing / limit,
            low=loops.set_point - limit,
            high=loops.set_point + limit,
            direction=np.full(len(slot), JUMPED, np.int8),
            samples=state.samples[slot].astype(np.int64),
        )
        begins_anew = quiet & (state.halves[slot] > 0)
        fed = slot, self.conditions.update(slot, loops.time_ns, said)
        if begins_anew.any():
            self._state.reset(slot[begins_anew])
        return fed

    def _cross(self, slot: NDArray[np.intp], time_ns: NDArray[np.int64]) -> None:
        """Measure the half cycle that has just ended, and begin the next one."""
        state = self._state
        first = state.crossed_ns[slot] == 0
        state.first_ns[slot[first]] = time_ns[first]
        whole = slot[(state.samples[slot] >= _SAMPLES) & ~first]
        length_ns = (time_ns - state.crossed_ns[slot])[(state.samples[slot] >= _SAMPLES) & ~first].astype(np.float64)
        count = state.halves[whole] + 1
        weight = np.maximum(1 / count, _SMOOTH)
        apart = np.abs(length_ns - np.where(count == 1, length_ns, state.length_ns[whole]))
        state.uneven_ns[whole] += weight * (apart - state.uneven_ns[whole])
        state.length_ns[whole] += weight * (length_ns - state.length_ns[whole])
        top = np.maximum(state.error_top[whole], TINY)
        state.swing[whole] += weight * (top - state.swing[whole])
        shape = state.error_sum[whole] / state.samples[whole] / top
        state.error_shape[whole] += weight * (shape - state.error_shape[whole])
        seen = np.isfinite(state.out_low[whole]) & (state.out_high[whole] > state.out_low[whole])
        out = whole[seen]
        middle = state.out_low[out] / 2 + state.out_high[out] / 2
        had = np.isfinite(state.middle[out])
        reach = np.maximum(state.out_high[out] - state.middle[out], state.middle[out] - state.out_low[out])
        mean = state.out_sum[out] / state.samples[out]
        shape = np.where(had & (reach > 0), mean / np.where(reach > 0, reach, 1.0), state.out_shape[out])
        state.shapes[out] = np.minimum(state.shapes[out] + had, 2**30)
        weight = np.maximum(1 / np.maximum(state.shapes[out], 1), _SMOOTH)
        state.out_shape[out] += np.where(had, weight * (shape - state.out_shape[out]), 0.0)
        state.middle[out] = np.where(had, (state.middle[out] + middle) / 2, middle)
        state.halves[whole] = np.minimum(count, 2**30)
        state.crossed_ns[slot] = time_ns
        state.samples[slot], state.error_sum[slot], state.error_top[slot], state.out_sum[slot] = 0, 0.0, 0.0, 0.0
        state.out_low[slot], state.out_high[slot] = np.inf, -np.inf

    def pause(self, slots: NDArray[np.intp]) -> None:
        """The gate of these tags has closed."""
        self._state.reset(slots)
