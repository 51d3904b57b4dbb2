"""
Wind-up: the output stands at its limit while the process value stays away from its set point.

The valve can do no more: too small, blocked, fouled exchanger, lost supply. Limits are the range of the output's tag,
or 0 and 100 where its unit is per cent. The finding is about the output.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, NO_ROWS, ROSE, Detector, Fed, Judgement
from detectors.loops import LoopRows
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, column

#: At its limit is within this part of the span.
_AT_LIMIT: Final = 0.005


class _State(Columns):
    side: NDArray[np.int8] = column(np.int8)
    there_ns: NDArray[np.int64] = column(np.int64)
    since_ns: NDArray[np.int64] = column(np.int64)
    samples: NDArray[np.int64] = column(np.int64)


class Windup(Detector):
    """Output at its limit with a deviation. *settle_s* is how long that may be."""

    name = "windup"
    kind = Kind.WINDUP

    def __init__(self, settle_s: float) -> None:
        self._settle_ns = round(settle_s * 1e9)
        self._state = _State()
        super().__init__(self._state)

    def look(self, loops: LoopRows, parameters: Parameters) -> Fed:
        """Score is the time at the limit over the allowed one."""
        at = np.flatnonzero((loops.out_slot >= 0) & np.isfinite(loops.out))
        slot = loops.out_slot[at]
        limited = np.isfinite(parameters.out_low[slot]) & np.isfinite(parameters.out_high[slot])
        at, slot = at[limited], slot[limited]
        if len(at) == 0:
            return NO_ROWS
        state, out = self._state, loops.out[at]
        low, high = parameters.out_low[slot], parameters.out_high[slot]
        near = _AT_LIMIT * (high - low)
        side = np.where(out >= high - near, 1, np.where(out <= low + near, -1, 0)).astype(np.int8)
        away = np.abs(loops.error[at]) > loops.band[at]
        stays = away & (side != 0) & (side == state.side[slot])
        state.side[slot] = np.where(away, side, 0)
        state.there_ns[slot] = np.where(stays, state.there_ns[slot] + np.maximum(loops.passed_ns[at], 1), 0)
        state.since_ns[slot] = np.where(stays, state.since_ns[slot], loops.time_ns[at])
        state.samples[slot] = np.where(stays, state.samples[slot] + 1, 1)
        said = Judgement(
            outside=stays & (state.there_ns[slot] >= self._settle_ns),
            inside=(side == 0) | (np.abs(loops.error[at]) < loops.band[at] / 2),
            onset_ns=state.since_ns[slot],
            value=out,
            score=state.there_ns[slot] / self._settle_ns,
            low=low,
            high=high,
            direction=np.where(side < 0, FELL, ROSE).astype(np.int8),
            samples=state.samples[slot],
        )
        return slot, self.conditions.update(slot, loops.time_ns[at], said)

    def pause(self, slots: NDArray[np.intp]) -> None:
        """The gate of these tags has closed."""
        self._state.reset(slots)
