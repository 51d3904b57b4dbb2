"""
Quality: what is no number becomes NaN with a flag, what is outside its range uncertain, what was cut GoodClamped.

Source of the codes: OPC UA Part 8, 6.3.2 (EngineeringUnitsExceeded), Part 4, 7.39 (GoodClamped); of the rules: W4,
W7, W14.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from normalizers.base import TagColumns
from schemas.status import BAD, GOOD, GOOD_CLAMPED, OVERFLOW_MASK, UNCERTAIN_EU_EXCEEDED, Flag

_BAD = np.uint32(BAD)
_SEVERITY = np.uint32(0xC0000000)
_CODE = np.uint32(0xFFFF0000)
_INFO_BITS = np.uint32(0x0000FFFF)


def is_bad(status: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Rows whose status is bad; the reserved severity 3 counts as bad."""
    bad: NDArray[np.bool_] = (status & _BAD) != 0
    return bad


def overflowed(status: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Rows before which the server's queue lost values (info type DataValue and Overflow bit)."""
    lost: NDArray[np.bool_] = (status & np.uint32(OVERFLOW_MASK)) == np.uint32(OVERFLOW_MASK)
    return lost


def sentinels(raw: NDArray[np.float64], tag: NDArray[np.int32], columns: TagColumns) -> NDArray[np.bool_]:
    """Rows whose raw value is one of the tag's declared "not available" marks."""
    mask = np.zeros(len(raw), np.bool_)
    rows = np.flatnonzero(columns.has_sentinels[tag])
    if len(rows):
        mask[rows] = (raw[rows, None] == columns.sentinels[tag[rows]]).any(axis=1)
    return mask


def judge_range(
    value: NDArray[np.float64], tag: NDArray[np.int32], status: NDArray[np.uint32], columns: TagColumns
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """
    Status after the range check, and the rows outside.

    Good becomes UncertainEngineeringUnitsExceeded with the info bits kept; any other status stays as it came.
    """
    outside = (value < columns.low[tag]) | (value > columns.high[tag])
    if not outside.any():
        return status, outside
    was_good = (status & _SEVERITY) == np.uint32(GOOD)
    exceeded = np.uint32(UNCERTAIN_EU_EXCEEDED) | (status & _INFO_BITS)
    return np.where(outside & was_good, exceeded, status), outside


def clamped(came: NDArray[np.uint32], judged: NDArray[np.uint32], cut: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """
    Status of rows that were *cut*: what *came* as plain Good is GoodClamped, info bits kept, whatever its range said.

    Any other status stays as it was *judged*.
    """
    if not cut.any():
        return judged
    plain = cut & ((came & _CODE) == np.uint32(GOOD))
    return np.where(plain, np.uint32(GOOD_CLAMPED) | (came & _INFO_BITS), judged)


def uncut(status: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Status with GoodClamped as Good: a signal that plays around its clamp has not changed its status."""
    cut = (status & _CODE) == np.uint32(GOOD_CLAMPED)
    return np.where(cut, status & _INFO_BITS, status) if cut.any() else status


def number_flags(raw: NDArray[np.float64], numeric: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """NAN and INF of what the device said, for the *numeric* rows."""
    flags = np.zeros(len(raw), np.uint32)
    finite = np.isfinite(raw)
    if not finite.all():
        nan = np.isnan(raw)
        flags[nan & numeric] = np.uint32(Flag.NAN)
        flags[~nan & ~finite & numeric] = np.uint32(Flag.INF)
    return flags
