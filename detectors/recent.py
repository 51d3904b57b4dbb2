"""The last samples of each tag, and their order statistics each time a block of them is complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import Rows
from schemas.columns import Columns, Index, column

#: Samples of a block.
BLOCK: Final = 16
_MAD_TO_SIGMA: Final = 1.4826


@dataclass(frozen=True, slots=True)
class Blocks:
    """k tags whose block is complete: ``ordered`` float64[k, 16] is sorted, the other columns are of length k."""

    slot: Index
    time_ns: NDArray[np.int64]
    ordered: NDArray[np.float64]
    median: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.slot)


class Recent(Columns):
    """Values of the block that is being filled."""

    values: NDArray[np.float64] = column(np.float64, width=BLOCK)
    filled: NDArray[np.int8] = column(np.int8)

    def push(self, rows: Rows, wanted: NDArray[np.bool_]) -> Blocks | None:
        """Add finite rows of the *wanted* slots; the blocks they complete, None where none is."""
        rows = rows.only(wanted[rows.slot])
        slot = rows.slot
        filled = self.filled[slot]
        self.values[slot, filled] = rows.value
        filled = filled + 1
        done = filled >= BLOCK
        if not done.any():
            self.filled[slot] = filled
            return None
        self.filled[slot] = np.where(done, 0, filled)
        complete = slot[done]
        ordered = np.sort(self.values[complete], axis=1)
        half = BLOCK // 2
        with np.errstate(over="ignore", invalid="ignore"):
            median = ordered[:, half - 1] / 2 + ordered[:, half] / 2
            apart = np.sort(np.abs(ordered - median[:, None]), axis=1)
            sigma = _MAD_TO_SIGMA * apart[:, half]
        return Blocks(complete, rows.time_ns[done], ordered, median, sigma)
