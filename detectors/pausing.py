"""
Learning pauses while something is wrong with the equipment.

What is normal for a tag must not be taken from the time in which its neighbour's condition tells that the process is
elsewhere. A tag's own signal health pauses its own learning alone (that is the panel's matter): a dead transmitter
says nothing about the pump. What is wrong for longer than ``relearn_after`` is how the equipment is run, and is
learned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.parameters import Parameters
from schemas.columns import Columns, column


class _State(Columns):
    since_ns: NDArray[np.int64] = column(np.int64)  #: tick clock when the equipment's trouble began, 0 for none


class Pausing:
    """Equipment in trouble; *relearn_after_s* is how long that may keep its tags from being learned."""

    def __init__(self, relearn_after_s: float) -> None:
        self._relearn_ns = round(relearn_after_s * 1e9)
        self._state = _State()

    @property
    def memory(self) -> tuple[Columns, ...]:
        """When the trouble of each tag's equipment began."""
        return (self._state,)

    def tick(self, now_ns: int, parameters: Parameters, wrong: NDArray[np.bool_]) -> None:
        """Take note of the slots on which a detector of the process finds something *wrong* at this tick."""
        since = self._state.since_ns
        if not wrong.any():
            if since.any():
                since[:] = 0
            return
        troubled = np.zeros(len(parameters.equipments), np.bool_)
        troubled[parameters.equipment[wrong & parameters.known]] = True
        pauses = troubled[parameters.equipment] & parameters.known
        # the tick clock begins at 0, which means none here
        since[:] = np.where(pauses, np.where(since > 0, since, max(now_ns, 1)), 0)

    def learns(self, now_ns: int) -> NDArray[np.bool_]:
        """By slot: nothing on the tag's equipment keeps it from being learned."""
        since = self._state.since_ns
        free: NDArray[np.bool_] = (since == 0) | (now_ns - since >= self._relearn_ns)
        return free
