"""
Counters: how far a tag went since its last usable row, through roll-over, with resets told apart by rate.

A row is compared with the last one before it that is good, in time, and a number that the counter can show. What its
rate allows since then decides: at most ``max_rate`` over the time between, one scan or second more (times of arrival
jitter by that much), and one count.

- It rose within that: the difference. It rose further: set from outside or misread, so that nothing can be told.
- It fell, and over its modulus the way is within that: rolled over.
- It fell, and the way over the modulus is too far: reset, and what it shows has been counted since. A value that
  cannot have been counted since was set from outside: a reset whose increase cannot be told.
- In the time between it may have gone half round, and fell: roll-over and reset look alike. It may have gone round as
  a whole: any value may be another round. Nothing can be told. (RFC 1982, 3.2: no order beyond half of the numbers.)

Source of the rule: W5. Differences are of the raw integers, in uint64, so that 64 bits lose nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.columns import Columns, Index, column
from schemas.samples import SampleBatch
from schemas.status import Flag, Quality, quality_of
from schemas.tagmap import Tag

#: Times between two rows are true to a scan, and to this where scans are faster.
_JITTER_S: Final = 1.0
#: No fresh value of the device, or one that may have come before. What the last good row lacks, the next one has.
#: Rows that say that nothing changed are in no roll-up, so that no increase may stand in one.
_NOT_COUNTED: Final = np.uint32(
    Flag.LATE | Flag.RETAINED | Flag.SENTINEL | Flag.NAN | Flag.INF | Flag.NO_CHANGE_CONFIRMED
)
_MAY_REPEAT: Final = np.uint32(Flag.DUP_POSSIBLE)


def counter_form(tag: Tag) -> int:
    """64-bit hash of what makes two raw readings comparable; scale, unit and rate may change between them."""
    parts = (tag.source, tag.address, tag.type, tag.byte_order, tag.counter and tag.counter.modulus)
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).digest(), "little", signed=True)


class CounterColumns:
    """
    What a map says of its counters, each of length n = number of tags; ``round`` and ``most`` are in the tag's unit.

    ``modulus`` is uint64, 0 for 2**64: adding it is the same, modulo 2**64. ``most`` is what may be counted in a
    second, ``slack`` what may be counted at any time.
    """

    def __init__(self, tags: Sequence[Tag]) -> None:
        size = len(tags)
        self.counts: NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.form = np.zeros(size, np.int64)
        self.modulus = np.zeros(size, np.uint64)
        self.round, self.most, self.slack = np.zeros(size), np.zeros(size), np.zeros(size)
        for place, tag in enumerate(tags):
            if tag.counter is None:
                continue
            self.counts[place] = True
            self.form[place] = counter_form(tag)
            self.modulus[place] = tag.counter.modulus % 2**64
            self.round[place] = tag.counter.modulus * tag.factor
            self.most[place] = tag.counter.max_rate
            self.slack[place] = tag.counter.max_rate * max(tag.scan_ms / 1000, _JITTER_S) + tag.factor
        self.any = bool(self.counts.any())


class CounterState(Columns):
    """Per tag the last row that was counted from; ``suspect``: its source time is that of arrival, or a new base's."""

    form: NDArray[np.int64] = column(np.int64)
    known: NDArray[np.bool_] = column(np.bool_)
    raw: NDArray[np.uint64] = column(np.uint64)
    source_ns: NDArray[np.int64] = column(np.int64)
    received_ns: NDArray[np.int64] = column(np.int64)
    suspect: NDArray[np.bool_] = column(np.bool_)


@dataclass(frozen=True, slots=True)
class Arrived:
    """Slots and times of the rows of a batch, all of length n; ``suspect``: the time is not that of the device."""

    slot: Index
    source_ns: NDArray[np.int64]
    received_ns: NDArray[np.int64]
    suspect: NDArray[np.bool_]


def count(
    batch: SampleBatch,
    rows: Index,
    arrived: Arrived,
    flags: NDArray[np.uint32],
    factor: NDArray[np.float64],
    columns: CounterColumns,
    state: CounterState,
) -> NDArray[np.float64]:
    """
    The increase of each row of a batch, float64[n], NaN for none; the counters' flags are set in *flags*.

    *rows* are those of counters, *factor* is by tag. The result is that of taking the rows one after the other.
    """
    increase = np.full(len(batch), np.nan)
    _begin_anew(batch.tag[rows], arrived.slot[rows], columns, state)
    usable = quality_of(batch.status[rows]) == Quality.GOOD
    usable &= ((flags[rows] & _NOT_COUNTED) == 0) & ((batch.flags[rows] & _MAY_REPEAT) == 0)
    rows = rows[usable]
    raw, shown = _raw(batch, rows, columns)
    flags[rows[~shown]] |= np.uint32(Flag.COUNTER_UNCERTAIN)
    rows, raw = rows[shown], raw[shown]
    if not len(rows):
        return increase

    order = np.argsort(arrived.slot[rows], kind="stable")
    rows, raw = rows[order], raw[order]
    slot = arrived.slot[rows]
    first = np.ones(len(slot), np.bool_)
    first[1:] = slot[1:] != slot[:-1]
    source_ns, received_ns, suspect = arrived.source_ns[rows], arrived.received_ns[rows], arrived.suspect[rows]
    before = _before(raw, first, state.raw[slot])
    by_source = source_ns - _before(source_ns, first, state.source_ns[slot])
    by_arrival = received_ns - _before(received_ns, first, state.received_ns[slot])
    known = ~first | state.known[slot]
    doubtful = suspect | _before(suspect, first, state.suspect[slot]) | (by_source < 0)
    seconds = np.where(doubtful, by_arrival, by_source) / 1e9
    last = np.append(first[1:], True)
    state.known[slot[last]] = True
    state.raw[slot[last]] = raw[last]
    state.source_ns[slot[last]], state.received_ns[slot[last]] = source_ns[last], received_ns[last]
    state.suspect[slot[last]] = suspect[last]

    tag = batch.tag[rows]
    fell = raw < before
    step = (raw - before + np.where(fell, columns.modulus[tag], np.uint64(0))).astype(np.float64) * factor[tag]
    since = raw.astype(np.float64) * factor[tag]
    most = columns.most[tag] * seconds + columns.slack[tag]
    unsure = (seconds < 0) | (most >= np.where(fell, columns.round[tag] / 2, columns.round[tag]))
    far = step > most
    reset = fell & far & ~unsure
    unsure |= far & ~(reset & (since <= most))
    flags[rows[known & fell & ~far & ~unsure]] |= np.uint32(Flag.COUNTER_ROLLOVER)
    flags[rows[known & reset]] |= np.uint32(Flag.COUNTER_RESET)
    flags[rows[known & unsure]] |= np.uint32(Flag.COUNTER_UNCERTAIN)
    told = known & ~unsure
    increase[rows[told]] = np.where(reset, since, step)[told]
    return increase


def _begin_anew(tag: NDArray[np.int32], slot: Index, columns: CounterColumns, state: CounterState) -> None:
    other = state.form[slot] != columns.form[tag]
    if other.any():
        slots, at = np.unique(slot[other], return_index=True)
        state.reset(slots)
        state.form[slots] = columns.form[tag[other][at]]


def _before(values: NDArray[Any], first: NDArray[np.bool_], kept: NDArray[Any]) -> NDArray[Any]:
    """The value of the row before, of the same tag; what was *kept* for the first row of each."""
    before = np.empty_like(values)
    before[1:] = values[:-1]
    before[first] = kept[first]
    return before


def _raw(batch: SampleBatch, rows: Index, columns: CounterColumns) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Raw counts of *rows*, uint64, and which are counts that the tag can show."""
    value, modulus = batch.value[rows], columns.modulus[batch.tag[rows]]
    # 2**64 itself is the first double that is no uint64
    shown = (value >= 0) & (value < 2.0**64) & (value == np.floor(value))
    raw = np.where(shown, value, 0.0).astype(np.uint64)
    shown &= (modulus == 0) | (raw < modulus)
    if batch.exact:
        for place, row in enumerate(rows.tolist()):
            if row in batch.exact:
                item, end = batch.exact[row], int(modulus[place]) or 2**64
                count = item if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < end else None
                shown[place], raw[place] = count is not None, count or 0
    return raw, shown
