"""Raw value to engineering unit: optional square root, factor and offset with the unit conversion in them, clamp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from normalizers.base import TagColumns
from schemas.status import Flag


def scale(
    raw: NDArray[np.float64], tag: NDArray[np.int32], columns: TagColumns
) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    """
    Values in the tag's unit and the flags this gave, both of length n.

    Linear: ``raw * factor + offset``. Square root (Kepware, Ignition): ``sqrt(share) * factor + offset`` with
    ``share = (raw - raw_low) / (raw_high - raw_low)``; a negative share is noise around zero flow and becomes 0,
    flagged clamped. The clamp cuts finite values only: an infinite one is no measurement that could be cut.
    """
    flags = np.zeros(len(raw), np.uint32)
    value = raw.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        if columns.any_root:
            rows = np.flatnonzero(columns.root[tag])
            share = (raw[rows] - columns.raw_low[tag[rows]]) / columns.raw_span[tag[rows]]
            negative = share < 0
            value[rows] = np.sqrt(np.where(negative, 0.0, share))
            flags[rows[negative]] |= np.uint32(Flag.CLAMPED)
        if columns.any_scaled:
            value *= columns.factor[tag]
            value += columns.offset[tag]
    if columns.any_clamp:
        finite = np.isfinite(value)
        low, high = columns.clamp_low[tag], columns.clamp_high[tag]
        under, over = finite & (value < low), finite & (value > high)
        value[under] = low[under]
        value[over] = high[over]
        flags[under | over] |= np.uint32(Flag.CLAMPED)
    return value, flags
