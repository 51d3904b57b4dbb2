"""
Quantization: the signal's resolution has become coarser.

In a block of 16 sorted samples every difference is a multiple of the smallest one only where the signal moves in steps
of that size. The finest difference a tag has ever shown is its resolution; four blocks running whose step is four times
coarser, or a step where there was none, are a finding: bits were lost on the way, or a converter has changed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import JUMPED, NO_ROWS, Detector, Fed, Judgement, plain
from detectors.recent import BLOCK, Blocks
from schemas.anomaly import Kind
from schemas.columns import Columns, column

#: Blocks that show what the tag's resolution is.
_KNOWN: Final = 16
_COARSER: Final = 4.0
_IN_A_ROW: Final = 4
#: A block needs so many different values, and its differences may miss a multiple by so much of a step.
_DIFFERENT: Final = 4
_MISS: Final = 0.02


class _State(Columns):
    finest: NDArray[np.float64] = column(np.float64, np.inf)
    blocks: NDArray[np.int32] = column(np.int32)
    coarse: NDArray[np.int8] = column(np.int8)
    since_ns: NDArray[np.int64] = column(np.int64)
    step: NDArray[np.float64] = column(np.float64)  #: of the last coarse block
    usual: NDArray[np.float64] = column(np.float64)  #: the finest step before it


class Quantization(Detector):
    """Loss of resolution, from blocks of samples."""

    name = "quantization"
    kind = Kind.QUANTIZATION
    invalidates = True

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def steps(self, slot: int) -> tuple[float, float]:
        """The coarse step, and the finest one before it."""
        return float(self._state.step[slot]), float(self._state.usual[slot])

    def judge(self, blocks: Blocks) -> Fed:
        """Take complete blocks. Score is the step over four times the finest one."""
        state, slot = self._state, blocks.slot
        ordered = blocks.ordered
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.diff(ordered, axis=1)
        # differences that the number format itself makes are none
        apart[apart <= 1e-9 * np.abs(ordered[:, 1:])] = 0.0
        different = np.count_nonzero(apart, axis=1) + 1
        step = np.where(apart > 0, apart, np.inf).min(axis=1)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            parts = apart / step[:, None]
            miss = np.abs(parts - np.rint(parts)).max(axis=1)
        stepped = (different >= _DIFFERENT) & np.isfinite(step) & (miss < _MISS)
        known = state.blocks[slot] >= _KNOWN
        coarse = stepped & known & (step >= _COARSER * state.finest[slot])
        fine = (different >= _DIFFERENT) & ~coarse
        state.step[slot[coarse]], state.usual[slot[coarse]] = step[coarse], state.finest[slot[coarse]]
        state.finest[slot] = np.minimum(state.finest[slot], step)
        state.blocks[slot] = np.minimum(state.blocks[slot] + 1, 2**30)
        if not coarse.any() and not state.coarse[slot].any() and not self.conditions.active[slot].any():
            return NO_ROWS
        begins = coarse & (state.coarse[slot] == 0)
        state.since_ns[slot[begins]] = blocks.time_ns[begins]
        # a block of fewer different values says nothing either way
        state.coarse[slot] = np.where(coarse, np.minimum(state.coarse[slot] + 1, _IN_A_ROW), state.coarse[slot])
        state.coarse[slot[fine]] = 0
        none, jumped = plain(len(slot), JUMPED)
        said = Judgement(
            outside=coarse & (state.coarse[slot] >= _IN_A_ROW),
            inside=fine,
            onset_ns=state.since_ns[slot],
            value=ordered[:, -1],
            score=np.where(coarse, step / (_COARSER * state.finest[slot]), 0.0),
            low=none,
            high=none,
            direction=jumped,
            samples=np.full(len(slot), BLOCK, np.int64),
        )
        return slot, self.conditions.update(slot, blocks.time_ns, said)
