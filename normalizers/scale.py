"""Raw value to engineering unit: optional square root, factor and offset with the unit conversion in them; clamp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from normalizers.base import TagColumns


def scale(
    raw: NDArray[np.float64], tag: NDArray[np.int32], columns: TagColumns
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """
    Values in the tag's unit before the clamp, and rows where a square root had to be cut, both of length n.

    Linear: ``raw * factor + offset``. Square root (Kepware, Ignition): ``sqrt(share) * factor + offset`` with
    ``share = (raw - raw_low) / (raw_high - raw_low)``; a negative share is noise around zero flow and becomes 0.
    """
    cut = np.zeros(len(raw), np.bool_)
    value = raw.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        if columns.any_root:
            rows = np.flatnonzero(columns.root[tag])
            share = (raw[rows] - columns.raw_low[tag[rows]]) / columns.raw_span[tag[rows]]
            negative = share < 0
            value[rows] = np.sqrt(np.where(negative, 0.0, share))
            cut[rows[negative]] = True
        if columns.any_scaled:
            value *= columns.factor[tag]
            value += columns.offset[tag]
    return value, cut


def clamp(value: NDArray[np.float64], tag: NDArray[np.int32], columns: TagColumns) -> NDArray[np.bool_]:
    """
    Cut values to the ends of their tag's clamp, in place; the rows that were cut.

    Finite values only: an infinite one is no measurement that could be cut.
    """
    if not columns.any_clamp:
        return np.zeros(len(value), np.bool_)
    finite = np.isfinite(value)
    low, high = columns.clamp_low[tag], columns.clamp_high[tag]
    under, over = finite & (value < low), finite & (value > high)
    value[under] = low[under]
    value[over] = high[over]
    cut: NDArray[np.bool_] = under | over
    return cut
