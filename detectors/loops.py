"""
Control loops: process value, set point and output of one loop, looked at together at each tick.

The map says which tags they are: role ``pv``, ``sp`` and ``out`` on one piece of equipment, and one ``loop`` name where
it has several. Values are compared at ticks, because within a batch no order of different tags counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.parameters import Parameters
from schemas.columns import Columns, Index, column

#: The deviation is out of the ordinary beyond so many of its usual sizes (a normal one's mean size is 0.8 sigma).
_FAR: Final = 7.5
#: Also at least this part of the span.
_SPAN: Final = 0.005
_FEWEST: Final = 32
#: While it is learned, a deviation counts for at most so many usual ones.
_CUT: Final = 5.0
#: One interval counts for at most so many scans.
_LONGEST_SCANS: Final = 3


@dataclass(frozen=True, slots=True)
class LoopRows:
    """
    k loops with a new process value; columns of length k, by the slot of their process value.

    ``error`` is set point minus process value, ``band`` what is usual of it (NaN while unknown). ``out`` is NaN and
    ``out_slot`` -1 where the map names no output. ``passed_ns`` is device time since the last look.
    """

    slot: Index
    out_slot: Index
    time_ns: NDArray[np.int64]
    passed_ns: NDArray[np.int64]
    set_point: NDArray[np.float64]
    value: NDArray[np.float64]
    error: NDArray[np.float64]
    out: NDArray[np.float64]
    band: NDArray[np.float64]
    usual: NDArray[np.float64]


class _State(Columns):
    time_ns: NDArray[np.int64] = column(np.int64)
    usual: NDArray[np.float64] = column(np.float64)  #: mean size of the deviation
    seen: NDArray[np.int32] = column(np.int32)
    learned_ns: NDArray[np.int64] = column(np.int64)


class Loops:
    """What is usual of each loop's deviation. *clean_window_s* is how much steady time that takes."""

    def __init__(self, clean_window_s: float) -> None:
        self._window_ns = round(clean_window_s * 1e9)
        self._state = _State()

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Usual deviations."""
        return (self._state,)

    def take(
        self,
        parameters: Parameters,
        row_ns: NDArray[np.int64],
        row_value: NDArray[np.float64],
        steady: NDArray[np.bool_],
        healthy: NDArray[np.bool_],
        learns: NDArray[np.bool_],
    ) -> LoopRows | None:
        """
        Look at loops whose process value is new and steady; by slot: time and value of the last row, and gates.

        *learns* says by slot that nothing on the equipment keeps the loop from being learned.
        """
        slot = parameters.loop_pv
        state = self._state
        new = (row_ns[slot] > state.time_ns[slot]) & np.isfinite(row_value[slot])
        slot, set_slot, out_slot = slot[new], parameters.loop_sp[new], parameters.loop_out[new]
        if len(slot) == 0:
            return None
        time_ns = row_ns[slot]
        passed_ns = np.minimum(time_ns - state.time_ns[slot], _LONGEST_SCANS * parameters.scan_ns[slot])
        state.time_ns[slot] = time_ns
        set_point = row_value[set_slot]
        out = np.where(out_slot >= 0, row_value[out_slot], np.nan)
        look = steady[slot] & np.isfinite(set_point) & (np.abs(set_point) < 1e30) & (np.abs(row_value[slot]) < 1e30)
        look &= healthy[slot] & healthy[set_slot]
        if not look.any():
            return None
        slot, out_slot, time_ns, passed_ns = slot[look], out_slot[look], time_ns[look], passed_ns[look]
        set_point, value, out = set_point[look], row_value[slot], out[look]
        error = set_point - value
        free = learns[slot]
        self._learn(slot[free], np.abs(error[free]), passed_ns[free])
        usual = state.usual[slot]
        known = (state.learned_ns[slot] >= self._window_ns) & (state.seen[slot] >= _FEWEST)
        span = parameters.high[slot] - parameters.low[slot]
        band = np.maximum(_FAR * usual, np.where(np.isfinite(span), _SPAN * span, 0.0))
        known &= band > 0
        return LoopRows(
            slot, out_slot, time_ns, passed_ns, set_point, value, error, out, np.where(known, band, np.nan), usual
        )

    def _learn(self, slot: Index, size: NDArray[np.float64], passed_ns: NDArray[np.int64]) -> None:
        state = self._state
        learns = (state.learned_ns[slot] < self._window_ns) | (state.seen[slot] < _FEWEST)
        slot, size, passed_ns = slot[learns], size[learns], passed_ns[learns]
        count = np.minimum(state.seen[slot] + 1, 2**30)
        size = np.where(count > _FEWEST, np.minimum(size, _CUT * state.usual[slot]), size)
        state.usual[slot] += (size - state.usual[slot]) / count
        state.seen[slot] = count
        state.learned_ns[slot] += np.maximum(passed_ns, 0)
