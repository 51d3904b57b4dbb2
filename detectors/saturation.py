"""
Saturation: the signal is cut off, at an end of its measuring range or at a ceiling of its own.

Two signs. A tag with a range whose samples lie exactly at an end of it, and stay: one that goes beyond was measured
there. And, without any configuration, a block of 16
samples of a continuous signal of which five or more are equal to its highest (or lowest) one and all others differ,
in two blocks running at the same value. An end that is 0, outputs, and percentages are
not judged by the first sign: that is how a valve that is shut, or equipment at rest, looks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, NO_ROWS, ROSE, Detector, Fed, Judgement, Rows
from detectors.parameters import AT_END, Parameters
from detectors.recent import BLOCK, Blocks
from schemas.anomaly import Kind
from schemas.columns import Columns, column

#: So many samples and so long at an end.
_SAMPLES: Final = 10
_AFTER_NS: Final = 30_000_000_000
#: One interval counts for at most so many scans.
_LONGEST_SCANS: Final = 3
#: Equal samples of a block at the ceiling, and the fewest of the rest.
_EQUAL: Final = 5
_REST: Final = 4
_IN_A_ROW: Final = 2
_MOST: Final = 4
#: Blocks before a ceiling is no habit.
_KNOWN: Final = 32
_HIGH, _LOW = 1, -1


class _Ends(Columns):
    side: NDArray[np.int8] = column(np.int8)
    samples: NDArray[np.int64] = column(np.int64)
    since_ns: NDArray[np.int64] = column(np.int64)
    time_ns: NDArray[np.int64] = column(np.int64)
    there_ns: NDArray[np.int64] = column(np.int64)


class _Ceiling(Columns):
    blocks: NDArray[np.int32] = column(np.int32)
    value: NDArray[np.float64] = column(np.float64, np.nan)
    cut: NDArray[np.int8] = column(np.int8)
    since_ns: NDArray[np.int64] = column(np.int64)
    habit: NDArray[np.bool_] = column(np.bool_)


class Saturation(Detector):
    """Cut-off signals."""

    name = "saturation"
    kind = Kind.SATURATION
    invalidates = True

    def __init__(self) -> None:
        self._ends = _Ends()
        self._ceiling = _Ceiling()
        super().__init__(self._ends, self._ceiling)

    def feed(self, rows: Rows, parameters: Parameters) -> Fed:
        """Tags with a range. Score is the time at the end over the allowed one."""
        at = np.flatnonzero(parameters.has_ends[rows.slot])
        if len(at) == 0:
            return NO_ROWS
        slot, value, time_ns = rows.slot[at], rows.value[at], rows.time_ns[at]
        low, high = parameters.low[slot], parameters.high[slot]
        near = AT_END * (high - low)
        # a value beyond the end was measured there, and is no cut-off one: `range` tells of it
        with np.errstate(over="ignore"):
            side = np.where((np.abs(value - high) <= near) & (high != 0), _HIGH, 0).astype(np.int8)
            side[(np.abs(value - low) <= near) & (low != 0)] = _LOW
        side[~rows.steady[at]] = 0
        ends = self._ends
        if not side.any() and not ends.side[slot].any() and not self.conditions.active[slot].any():
            return NO_ROWS
        stays = (side != 0) & (side == ends.side[slot])
        passed = np.clip(time_ns - ends.time_ns[slot], 0, _LONGEST_SCANS * parameters.scan_ns[slot])
        there_ns = np.where(stays, ends.there_ns[slot] + passed, 0)
        since_ns = np.where(stays, ends.since_ns[slot], time_ns)
        samples = np.where(stays, ends.samples[slot] + 1, 1)
        moved = (side != 0) | (ends.side[slot] != 0)
        told = slot[moved]
        ends.side[told], ends.time_ns[told], ends.there_ns[told] = side[moved], time_ns[moved], there_ns[moved]
        ends.since_ns[told], ends.samples[told] = since_ns[moved], samples[moved]
        at_ceiling = self._ceiling.cut[slot] >= _IN_A_ROW
        said = Judgement(
            outside=stays & (samples >= _SAMPLES) & (there_ns >= _AFTER_NS),
            inside=(side == 0) & ~at_ceiling,
            onset_ns=since_ns,
            value=value,
            score=there_ns / _AFTER_NS,
            low=low,
            high=high,
            direction=np.where(side == _LOW, FELL, ROSE).astype(np.int8),
            samples=samples,
        )
        return slot, self.conditions.update(slot, time_ns, said)

    def judge(self, blocks: Blocks) -> Fed:
        """Signals that hit a ceiling or a floor. Score is the number of equal samples over the allowed one."""
        ceiling, slot, ordered = self._ceiling, blocks.slot, blocks.ordered
        ceiling.blocks[slot] = np.minimum(ceiling.blocks[slot] + 1, 2**30)
        steps = ordered[:, 1:] > ordered[:, :-1]
        different = np.count_nonzero(steps, axis=1) + 1
        # equal ones all at one end: as many differences as the others give, and none in between
        equal = BLOCK - different + 1
        some = (equal >= _EQUAL) & (different > _REST)
        place = np.arange(BLOCK - 1)
        top = some & (steps == (place < (BLOCK - equal)[:, None])).all(axis=1)
        floor = some & (steps == (place >= (equal - 1)[:, None])).all(axis=1)
        cut = top | floor
        if not cut.any() and not ceiling.cut[slot].any() and not self.conditions.active[slot].any():
            return NO_ROWS
        value = np.where(top, ordered[:, -1], ordered[:, 0])
        again = cut & (value == ceiling.value[slot])
        ceiling.since_ns[slot[cut & ~again]] = blocks.time_ns[cut & ~again]
        count = ceiling.cut[slot]
        # by chance a block has fewer equal samples: that alone does not end it
        ceiling.cut[slot] = np.where(again, np.minimum(count + 1, _MOST), np.where(cut, 1, np.maximum(count - 1, 0)))
        ceiling.value[slot] = np.where(cut, value, ceiling.value[slot])
        reached = cut & (ceiling.cut[slot] >= _IN_A_ROW)
        early = reached & (ceiling.blocks[slot] <= _KNOWN)
        ceiling.habit[slot[early]] = True
        none = np.full(len(slot), np.nan)
        # the highest and lowest value there can be, where it has been cut
        said = Judgement(
            outside=reached & ~ceiling.habit[slot],
            inside=(ceiling.cut[slot] == 0) & (self._ends.side[slot] == 0),
            onset_ns=ceiling.since_ns[slot],
            value=value,
            score=equal / _EQUAL,
            low=np.where(top, none, value),
            high=np.where(top, value, none),
            direction=np.where(top, ROSE, FELL).astype(np.int8),
            samples=np.full(len(slot), BLOCK, np.int64),
        )
        return slot, self.conditions.update(slot, blocks.time_ns, said)
