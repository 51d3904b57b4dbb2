"""The steps that need no memory of earlier rows: exact values, sentinels and NaN, scale, range, clamp."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from normalizers import quality
from normalizers.base import TagColumns
from normalizers.exact import TooDeep, as_number, encodable, repair
from normalizers.scale import clamp, scale
from schemas.samples import Exact, Origin, SampleBatch
from schemas.status import Flag

_FLOAT32: Final = np.uint32(Flag.FLOAT32)


def normalize_values(
    batch: SampleBatch, columns: TagColumns
) -> tuple[NDArray[np.float64], NDArray[np.uint32], NDArray[np.uint32], dict[int, Exact]]:
    """Value, status and flags of a batch after these steps, all of its length, and the exact values by row."""
    flags = batch.flags.copy()
    if batch.origin is Origin.RETAINED:
        flags |= np.uint32(Flag.RETAINED)
    bad = quality.is_bad(batch.status)
    raw, exact, text = _exact(batch, bad, columns, flags)
    mark = quality.sentinels(raw, batch.tag, columns) & ~bad
    if mark.any():
        flags[mark] |= np.uint32(Flag.SENTINEL)
        for row in [row for row in exact if mark[row]]:
            del exact[row]
    no_number = bad | mark | text
    flags |= quality.number_flags(raw, ~no_number)
    flags[quality.overflowed(batch.status)] |= np.uint32(Flag.OVERFLOW)
    value, cut = scale(raw, batch.tag, columns)
    value[no_number] = np.nan
    status = batch.status
    if columns.any_range:
        # Before the clamp, which would hide what is outside.
        status, outside = quality.judge_range(value, batch.tag, status, columns)
        flags[outside] |= np.uint32(Flag.OUT_OF_RANGE)
    cut |= clamp(value, batch.tag, columns)
    cut &= ~no_number
    flags[cut] |= np.uint32(Flag.CLAMPED)
    single = flags & _FLOAT32
    if single.any():
        # what was scaled or cut, or is no number, is a double
        flags[(single != 0) & (columns.scaled[batch.tag] | cut | np.isnan(value))] &= ~_FLOAT32
    status = quality.clamped(batch.status, status, cut)
    return value, status, flags, exact


def _exact(
    batch: SampleBatch, bad: NDArray[np.bool_], columns: TagColumns, flags: NDArray[np.uint32]
) -> tuple[NDArray[np.float64], dict[int, Exact], NDArray[np.bool_]]:
    """
    Raw numbers with wide integers as their nearest double, the exact values to keep, and the rows without a number.

    A wide integer of a scaled tag becomes a number: its scaled value has no exact form.
    """
    text = np.zeros(len(batch), np.bool_)
    if not batch.exact:
        return batch.value, {}, text
    raw = batch.value.copy()
    kept: dict[int, Exact] = {}
    for row, item in batch.exact.items():
        if bad[row]:
            continue
        wide = as_number(item)
        if wide is not None:
            raw[row] = wide
            if not columns.scaled[batch.tag[row]]:
                kept[row] = item
            continue
        text[row] = True
        try:
            fixed = repair(item)
        except TooDeep:
            flags[row] |= np.uint32(Flag.DECODE_LOSS)
            continue
        if not encodable(fixed):
            flags[row] |= np.uint32(Flag.DECODE_LOSS)
            continue
        if fixed is not item and fixed != item:
            flags[row] |= np.uint32(Flag.DECODE_LOSS)
        kept[row] = fixed
    return raw, kept, text
