"""
Stale: samples of a tag keep coming, but their device time stands still.

A frozen clock, or a gateway that repeats its last value for ever. Ages are counted in ticks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import SILENT, Detector, Judgement, plain
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column

#: Samples at one device time, and how long: whichever of these takes longest.
_SAMPLES: Final = 3
_SCANS: Final = 10
_SHORTEST_NS: Final = 30_000_000_000


class _State(Columns):
    moved_ns: NDArray[np.int64] = column(np.int64)  #: when the device time last moved, tick clock
    stuck: NDArray[np.int32] = column(np.int32)  #: samples since then
    value: NDArray[np.float64] = column(np.float64, np.nan)


class Stale(Detector):
    """Device time that stands still."""

    name = "stale"
    kind = Kind.STALE

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def arrived(self, slot: Index, value: NDArray[np.float64], moved: NDArray[np.bool_], now_ns: int) -> Index:
        """Take samples, no slot twice; *moved* says whose device time is newer. The slots that this ends."""
        state = self._state
        if not moved.all():
            stuck = slot[~moved]
            state.stuck[stuck] = np.minimum(state.stuck[stuck] + 1, 2**30)
            state.value[stuck] = value[~moved]
            slot = slot[moved]
        state.moved_ns[slot] = now_ns
        state.stuck[slot] = 0
        return self.conditions.end(slot)

    def interrupted(self, slot: Index, now_ns: int) -> None:
        """The source of these slots went down: when it is back it may repeat a value with the time that it had."""
        self._state.moved_ns[slot] = now_ns
        self._state.stuck[slot] = 0

    def tick(self, now_ns: int, wall_ns: int, parameters: Parameters) -> Index:
        """Look at every tag at a tick; the slots whose condition begins now."""
        state = self._state
        slot = np.flatnonzero((state.stuck >= _SAMPLES) & parameters.fed)
        if len(slot) == 0:
            return slot
        allowed = np.maximum(np.maximum(_SCANS * parameters.scan_ns[slot], parameters.stale_ns[slot]), _SHORTEST_NS)
        age = now_ns - state.moved_ns[slot]
        # a constant value comes again with each subscription made anew; what is stuck comes at the pace of its scans
        often = age <= state.stuck[slot] * np.maximum(_SCANS * parameters.scan_ns[slot], parameters.stale_ns[slot])
        none, silent = plain(len(slot), SILENT)
        said = Judgement(
            outside=(age > allowed) & often,
            inside=np.zeros(len(slot), np.bool_),
            onset_ns=wall_ns - age,
            value=state.value[slot],
            score=age / allowed,
            low=none,
            high=none,
            direction=silent,
            samples=state.stuck[slot].astype(np.int64),
        )
        return slot[self.conditions.update(slot, np.full(len(slot), wall_ns, np.int64), said).began]
