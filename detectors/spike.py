"""
Spike: one to three samples far outside the last ones, and back again.

A Hampel filter: far is more than eight robust sigmas (MAD of blocks of 16 samples, smoothed over eight blocks) from
the median of the last block, reached and left by a jump, and half as far again as the tag has been of late: what a
signal does as a habit is said once, and forgotten by half in some 16,000 samples. What does not come back within three
samples is a step, not a spike, and no matter of signal health.

Source: Hampel (1974); Pearson, *Outliers in process modeling and identification* (2002).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import JUMPED, NO_ROWS, TINY, Detector, Fed, Judgement, Rows
from detectors.parameters import Parameters
from detectors.recent import Blocks
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column

#: Limit in robust sigmas.
_FAR: Final = 8.0
#: Samples a spike may last.
_LONGEST: Final = 3
#: Blocks before anything is judged.
_KNOWN: Final = 8
_SMOOTH: Final = 0.125
_HABIT: Final = 1.5
#: Factor by which a habit fades with each block.
_FADES: Final = 2.0 ** (-1 / 1024)
#: A sigma below this part of the value is the number format's, not the signal's.
_FINEST: Final = 1e-9


class _State(Columns):
    median: NDArray[np.float64] = column(np.float64)
    sigma: NDArray[np.float64] = column(np.float64)
    blocks: NDArray[np.int32] = column(np.int32)
    habit: NDArray[np.float64] = column(np.float64)  #: furthest from a median of late
    finest: NDArray[np.float64] = column(np.float64, np.inf)  #: smallest difference between samples of a block
    last: NDArray[np.float64] = column(np.float64, np.nan)  #: sample before the present or next excursion
    # an excursion that has not come back yet
    out: NDArray[np.int8] = column(np.int8)
    peak: NDArray[np.float64] = column(np.float64)
    since_ns: NDArray[np.int64] = column(np.int64)


class Spike(Detector):
    """Hampel filter with a look at the way back."""

    name = "spike"
    kind = Kind.SPIKE
    invalidates = True

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def learn(self, blocks: Blocks) -> None:
        """Take complete blocks: the median is that of the last one, the sigma follows slowly."""
        state, slot = self._state, blocks.slot
        known = state.blocks[slot]
        weight = np.maximum(1 / (known + 1.0), _SMOOTH)
        with np.errstate(over="ignore", invalid="ignore"):
            # blocks of a changing signal are wide; they widen the limit at once and narrow it slowly
            sigma = state.sigma[slot] + weight * (blocks.sigma - state.sigma[slot])
        state.sigma[slot] = np.where(np.isfinite(sigma), sigma, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.diff(blocks.ordered, axis=1)
        state.finest[slot] = np.minimum(state.finest[slot], np.where(apart > 0, apart, np.inf).min(axis=1))
        state.median[slot] = blocks.median
        with np.errstate(over="ignore", invalid="ignore"):
            reach = np.maximum(blocks.ordered[:, -1] - blocks.median, blocks.median - blocks.ordered[:, 0])
        reach = np.where((state.out[slot] > 0) | ~np.isfinite(reach), 0.0, reach)
        state.habit[slot] = np.maximum(state.habit[slot] * _FADES, reach)
        state.blocks[slot] = np.minimum(known + 1, 2**30)

    def excursions(self, slot: Index) -> NDArray[np.bool_]:
        """Which of these tags are far outside now, so that it is not known yet whether they spike."""
        far: NDArray[np.bool_] = (self._state.out[slot] > 0) & (self._state.out[slot] <= _LONGEST)
        return far

    def feed(self, rows: Rows, parameters: Parameters) -> Fed:
        """Score is the distance of the peak from the median over the limit; said when the signal is back."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._judge(rows, parameters)

    def _judge(self, rows: Rows, parameters: Parameters) -> Fed:
        state = self._state
        rows = rows.only(parameters.chart[rows.slot] & (state.blocks[rows.slot] >= _KNOWN))
        slot, value = rows.slot, rows.value
        median, sigma, last = state.median[slot], state.sigma[slot], state.last[slot]
        limit = _FAR * np.maximum(sigma, state.finest[slot] / 2)
        distance = np.abs(value - median)
        far = (distance > limit) & (sigma > _FINEST * np.abs(median)) & rows.steady
        out = state.out[slot]
        # a signal that has drifted out did not jump
        far &= (out > 0) | (np.abs(value - last) > limit / 2)
        state.last[slot[~far]] = value[~far]
        if not far.any() and not out.any() and not self.conditions.active[slot].any():
            return NO_ROWS
        time_ns = rows.time_ns
        starts = far & (out == 0)
        state.since_ns[slot[starts]] = time_ns[starts]
        higher = starts | (far & (distance > np.abs(state.peak[slot] - median)))
        state.peak[slot[higher]] = value[higher]
        back = ~far & (out > 0)
        size = np.abs(state.peak[slot] - median)
        spiked = back & (out <= _LONGEST) & (np.abs(value - state.peak[slot]) > size / 2) & rows.steady
        told = spiked & (size > _HABIT * state.habit[slot])
        habit = slot[spiked]
        state.habit[habit] = np.maximum(state.habit[habit], np.minimum(size[spiked], 1e300))
        # outside, but not far enough to be another excursion: still on the way back
        state.out[slot] = np.where(
            far | (back & ~spiked & (out <= _LONGEST)), np.minimum(out + 1, _LONGEST + 1), np.where(back, 0, out)
        )
        said = Judgement(
            outside=told,
            inside=~told,
            onset_ns=state.since_ns[slot],
            value=state.peak[slot],
            score=size / np.maximum(limit, TINY),
            low=median - limit,
            high=median + limit,
            direction=np.full(len(slot), JUMPED, np.int8),
            samples=np.maximum(out, 1).astype(np.int64),
        )
        return slot, self.conditions.update(slot, time_ns, said)
