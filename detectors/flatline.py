"""
Flatline: a live signal that does not move although samples come.

Where the map says after how long, that holds. Elsewhere the tag's own ways decide: one that has moved with most of its
samples, and never stood still for long, is stuck when it stands for many times that. A value of exactly 0, or at an
end of its range, is how equipment at rest looks, and is never taken for stuck without the map's word.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FLAT, NO_ROWS, Detector, Fed, Judgement, Rows, plain
from detectors.parameters import AT_END, Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column

#: One interval counts for at most this part of the flatline time, so that a hole in the data proves nothing.
_SHARE: Final = 4
_LONGEST_SCANS: Final = 10
#: Samples after which the tag's own ways are known, and the share of them that must have moved.
_KNOWN: Final = 512
_MOVES: Final = 0.3
#: Samples a tag that moves with every sample has to stand; with share m of moving ones, 1 / m² as many.
_STILL: Final = 60
#: Also so many times the longest standstill it has shown, and so long at least.
_LONGEST: Final = 8
_SHORTEST_NS: Final = 60_000_000_000


class _State(Columns):
    value: NDArray[np.float64] = column(np.float64, np.nan)
    since_ns: NDArray[np.int64] = column(np.int64)
    time_ns: NDArray[np.int64] = column(np.int64)
    still_ns: NDArray[np.int64] = column(np.int64)
    samples: NDArray[np.int64] = column(np.int64)
    seen: NDArray[np.int32] = column(np.int32)
    moved: NDArray[np.int32] = column(np.int32)
    longest: NDArray[np.int32] = column(np.int32)  #: samples of the longest standstill so far


class Flatline(Detector):
    """Stuck signals, by the map's time or by what the tag has shown."""

    name = "flatline"
    kind = Kind.FLATLINE
    invalidates = True

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def feed(self, rows: Rows, parameters: Parameters) -> Fed:
        """Score is the time (the samples, where the map gives none) without a change over the allowed one."""
        told_ns = parameters.flat_ns[rows.slot]
        rows = rows.only((told_ns > 0) | parameters.chart[rows.slot])
        if len(rows.slot) == 0:
            return NO_ROWS
        slot, value, time_ns, told_ns = rows.slot, rows.value, rows.time_ns, parameters.flat_ns[rows.slot]
        state = self._state
        equal = value == state.value[slot]
        steady = rows.steady
        self._habits(slot[steady & ~equal], slot[steady], parameters)
        if not equal.any() and not self.conditions.active[slot].any():
            state.value[slot] = value
            state.time_ns[slot], state.since_ns[slot] = time_ns, time_ns
            state.still_ns[slot], state.samples[slot] = 0, 1
            return NO_ROWS
        same = equal & steady
        longest_ns = np.where(told_ns > 0, told_ns // _SHARE, _LONGEST_SCANS * parameters.scan_ns[slot])
        passed = np.clip(time_ns - state.time_ns[slot], 0, longest_ns)
        still_ns = np.where(same, state.still_ns[slot] + passed, 0)
        since_ns = np.where(same, state.since_ns[slot], time_ns)
        samples = np.where(same, state.samples[slot] + 1, 1)
        state.value[slot], state.time_ns[slot] = value, time_ns
        state.still_ns[slot], state.since_ns[slot], state.samples[slot] = still_ns, since_ns, samples
        score = np.where(told_ns > 0, still_ns / np.maximum(told_ns, 1), self._own(slot, value, parameters))
        none, flat = plain(len(slot), FLAT)
        said = Judgement(same & (score >= 1), ~same, since_ns, value, score, none, none, flat, samples)
        return slot, self.conditions.update(slot, time_ns, said)

    def _habits(self, moved: Index, seen: Index, parameters: Parameters) -> None:
        state = self._state
        state.seen[seen] = np.minimum(state.seen[seen] + 1, 2**30)
        state.moved[moved] = np.minimum(state.moved[moved] + 1, 2**30)
        longer = moved[(state.samples[moved] > state.longest[moved]) & ~self.conditions.active[moved]]
        longer = longer[_in_between(longer, state.value[longer], parameters)]
        state.longest[longer] = np.minimum(state.samples[longer], 2**30)

    def _own(self, slot: Index, value: NDArray[np.float64], parameters: Parameters) -> NDArray[np.float64]:
        """Standstill over what the tag's own ways allow; 0 where they say nothing."""
        state = self._state
        share = state.moved[slot] / np.maximum(state.seen[slot], 1)
        knows = (state.seen[slot] >= _KNOWN) & (share >= _MOVES) & parameters.chart[slot]
        knows &= _in_between(slot, value, parameters) & (state.still_ns[slot] >= _SHORTEST_NS)
        allowed = np.maximum(_STILL / np.maximum(share, _MOVES) ** 2, _LONGEST * state.longest[slot])
        return np.where(knows, state.samples[slot] / allowed, 0.0)


def _in_between(slot: Index, value: NDArray[np.float64], parameters: Parameters) -> NDArray[np.bool_]:
    """
    Neither 0 nor at an end of the range: not what equipment at rest shows.

    Beyond an end at which signals are cut off is not at rest either: there a transmitter's own limits lie (NE 43).
    """
    low, high = parameters.low[slot], parameters.high[slot]
    between = (value > low) & (value < high)
    with np.errstate(over="ignore", invalid="ignore"):
        near = AT_END * (high - low)
        beyond = ((value > high + near) & (high != 0)) | ((value < low - near) & (low != 0))
    found: NDArray[np.bool_] = (value != 0) & (between | (parameters.has_ends[slot] & beyond))
    return found
