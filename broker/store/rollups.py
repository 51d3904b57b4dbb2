"""
Roll-ups as arrays of buckets: counting rows in, merging, and the form that SQL takes.

A sum is carried on value by value in the order of ``seq``, beginning with what is stored, so that the result is the
same to the last bit however the stream was cut into transactions. Late rows join the bucket they belong to. Rows that
confirm that nothing changed are no measurements, and count in no bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from schemas.status import Flag, quality_of

MINUTE_NS: Final = 60_000_000_000
HOUR_NS: Final = 3_600_000_000_000
_CONFIRMED: Final = int(Flag.NO_CHANGE_CONFIRMED)
_MEASURED: Final = int(Flag.CORNER)  # a value inside the deadband that was stored since nothing had been for long
_NEVER: Final = np.iinfo(np.int64).min
_FOREVER: Final = np.iinfo(np.int64).max

#: One bucket; NaN stands for NULL in real columns, ``n_value`` 0 for NULL in ``first_ns`` and ``last_ns``. Rows up to
#: ``counted_seq`` are in it.
BUCKET: Final = np.dtype(
    [
        ("tag_id", np.int64),
        ("bucket_ns", np.int64),
        ("revision", np.int64),
        ("n", np.int64),
        ("n_good", np.int64),
        ("n_bad", np.int64),
        ("n_value", np.int64),
        ("min", np.float64),
        ("max", np.float64),
        ("sum", np.float64),
        ("first_ns", np.int64),
        ("first", np.float64),
        ("last_ns", np.int64),
        ("last", np.float64),
        ("end_ns", np.int64),
        ("end_seq", np.int64),
        ("counted_seq", np.int64),
        ("increase", np.float64),
        ("counter_resets", np.int64),
        ("counter_uncertain", np.int64),
    ]
)
COLUMNS: Final = tuple(BUCKET.names or ())
_REAL: Final = frozenset({"min", "max", "sum", "first", "last", "increase"})
#: Columns that count rows with a flag.
_MARKS: Final = {"counter_resets": Flag.COUNTER_RESET, "counter_uncertain": Flag.COUNTER_UNCERTAIN}
_TIMES: Final = frozenset({"first_ns", "last_ns"})
#: Rows are grouped by a table of places while it has at most so many for each of them.
_PLACES_A_ROW: Final = 8


@dataclass(frozen=True, slots=True)
class Counted:
    """Of counters: the increase of each row (NaN: none), and its flags."""

    increase: NDArray[np.float64]
    flags: NDArray[np.int64]


@dataclass(slots=True)
class Inserted:
    """
    Columns of rows that are really in SQL now, in order of ``seq``, all of one length.

    ``counted`` None: no row is of a counter.
    """

    seq: NDArray[np.int64]
    source_ns: NDArray[np.int64]
    tag_id: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    counted: Counted | None = None

    def only(self, keep: NDArray[np.bool_]) -> Inserted:
        """The rows where *keep* is true."""
        counted = self.counted and Counted(self.counted.increase[keep], self.counted.flags[keep])
        columns = (self.seq[keep], self.source_ns[keep], self.tag_id[keep], self.value[keep], self.status[keep])
        return Inserted(*columns, counted)


def counted_of(increase: Sequence[float | None], flags: Sequence[int]) -> Counted | None:
    """Columns of SQL as what rows say of counters; None where they say nothing."""
    marks = np.array(flags, np.int64)
    if all(one is None for one in increase) and not (marks & sum(_MARKS.values())).any():
        return None
    return Counted(np.array([np.nan if one is None else one for one in increase], np.float64), marks)


def are_counted(flags: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows buckets count and may be a tag's newest: all but those that only say that nothing changed, bool[n]."""
    counted: NDArray[np.bool_] = (flags & (_CONFIRMED | _MEASURED)) != _CONFIRMED
    return counted


def is_counted(flags: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """:func:`are_counted` in SQL."""
    return flags.op("&")(_CONFIRMED | _MEASURED) != _CONFIRMED


def counted_text(flags: str) -> str:
    """:func:`are_counted` as text of SQL, *flags* being the column."""
    return f"({flags} & {_CONFIRMED | _MEASURED}) <> {_CONFIRMED}"


def joined(parts: Sequence[Inserted]) -> Inserted:
    """Parts, in order of ``seq``, as one."""
    if len(parts) == 1:
        return parts[0]
    return Inserted(
        np.concatenate([part.seq for part in parts]),
        np.concatenate([part.source_ns for part in parts]),
        np.concatenate([part.tag_id for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.status for part in parts]),
        _joined_counts(parts),
    )


def _joined_counts(parts: Sequence[Inserted]) -> Counted | None:
    if all(part.counted is None for part in parts):
        return None
    counted = [
        part.counted or Counted(np.full(len(part.seq), np.nan), np.zeros(len(part.seq), np.int64)) for part in parts
    ]
    return Counted(np.concatenate([one.increase for one in counted]), np.concatenate([one.flags for one in counted]))


def empty(tag_id: NDArray[np.int64], bucket_ns: NDArray[np.int64]) -> NDArray[np.void]:
    """Buckets that count nothing yet."""
    state = np.zeros(len(tag_id), BUCKET)
    state["tag_id"], state["bucket_ns"] = tag_id, bucket_ns
    state["min"], state["max"] = np.inf, -np.inf
    state["first_ns"], state["last_ns"], state["end_ns"] = _FOREVER, _NEVER, _NEVER
    state["first"] = state["last"] = state["increase"] = np.nan
    return state


def buckets_of(rows: Sequence[tuple[Any, ...]]) -> NDArray[np.void]:
    """Rows of a roll-up table, columns in its order, as buckets."""
    state = np.zeros(len(rows), BUCKET)
    for place, row in enumerate(rows):
        state[place] = bucket_of(row)
    return state


def merge(parts: NDArray[np.void], width_ns: int) -> NDArray[np.void]:
    """
    Buckets of *width_ns* that count what the finer *parts* count; parts are sorted by tag and begin.

    The sum is that of the parts' sums in order of time, so its last bits may differ from a sum value by value.
    """
    begin = parts["bucket_ns"] // width_ns * width_ns
    changed = np.ones(len(parts), np.bool_)
    changed[1:] = (np.diff(parts["tag_id"]) != 0) | (np.diff(begin) != 0)
    starts = np.flatnonzero(changed)
    group = np.cumsum(changed) - 1
    state = empty(parts["tag_id"][starts], begin[starts])
    for name in ("n", "n_good", "n_bad", "n_value"):
        state[name] = np.add.reduceat(parts[name], starts)
    state["counted_seq"] = np.maximum.reduceat(parts["counted_seq"], starts)
    np.minimum.at(state["min"], group, parts["min"])
    np.maximum.at(state["max"], group, parts["max"])
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.zeros(len(starts))
        np.add.at(total, group, parts["sum"])
    state["sum"] = np.where(np.isfinite(total), total, np.nan)
    for name in _MARKS:
        state[name] = np.add.reduceat(parts[name], starts)
    _add_increase(state, group, parts["increase"])
    for place in range(len(parts)):
        into, part = group[place], parts[place]
        if part["n_value"]:
            if part["first_ns"] < state["first_ns"][into]:
                state["first_ns"][into], state["first"][into] = part["first_ns"], part["first"]
            if part["last_ns"] >= state["last_ns"][into]:
                state["last_ns"][into], state["last"][into] = part["last_ns"], part["last"]
        if part["end_ns"] >= state["end_ns"][into]:
            state["end_ns"][into], state["end_seq"][into] = part["end_ns"], part["end_seq"]
    return state


class Grouping:
    """Rows by bucket: ``tag_id`` and ``bucket_ns`` of each, sorted; ``group`` is each row's bucket."""

    __slots__ = ("bucket_ns", "group", "rows", "tag_id")

    def __init__(self, rows: Inserted, width_ns: int) -> None:
        bucket = rows.source_ns // width_ns
        self.rows = rows
        self.group: NDArray[np.intp]
        if not self._by_place(rows.tag_id, bucket):
            self._by_order(rows.tag_id, bucket)
        self.bucket_ns *= width_ns

    def _by_place(self, tag_id: NDArray[np.int64], bucket: NDArray[np.int64]) -> bool:
        """Group without sorting, where a place for each tag and bucket that there could be is not too many."""
        if not len(tag_id):
            return False
        first_tag, first = int(tag_id.min()), int(bucket.min())
        span = int(bucket.max()) - first + 1
        places = (int(tag_id.max()) - first_tag + 1) * span
        if places > _PLACES_A_ROW * len(tag_id):
            return False
        place = (tag_id - first_tag) * span + (bucket - first)
        used = np.zeros(places, np.bool_)
        used[place] = True
        found = np.flatnonzero(used)
        self.tag_id: NDArray[np.int64] = found // span + first_tag
        self.bucket_ns: NDArray[np.int64] = found % span + first
        self.group = (np.cumsum(used) - 1)[place]
        return True

    def _by_order(self, tag_id: NDArray[np.int64], bucket: NDArray[np.int64]) -> None:
        order = np.lexsort((bucket, tag_id))
        changed = np.empty(len(order), np.bool_)
        changed[:1] = True
        changed[1:] = (np.diff(tag_id[order]) != 0) | (np.diff(bucket[order]) != 0)
        first = order[changed]
        self.tag_id = tag_id[first]
        self.bucket_ns = bucket[first]
        self.group = np.empty(len(order), np.intp)
        self.group[order] = np.cumsum(changed) - 1


def count(state: NDArray[np.void], grouping: Grouping) -> None:
    """Count rows into their buckets, in order of ``seq``."""
    rows, group = grouping.rows, grouping.group
    state["counted_seq"][group] = rows.seq  # of several the last one stays
    quality = quality_of(rows.status)
    state["n"] += np.bincount(group, minlength=len(state))
    state["n_good"] += np.bincount(group[quality == 0], minlength=len(state))
    state["n_bad"] += np.bincount(group[quality == 2], minlength=len(state))
    _end(state, rows.source_ns, rows.seq, group)
    if rows.counted is not None:
        _add_increase(state, group, rows.counted.increase)
        for name, flag in _MARKS.items():
            state[name] += np.bincount(group[(rows.counted.flags & flag) != 0], minlength=len(state))
    usable = np.flatnonzero((quality != 2) & np.isfinite(rows.value))
    if not len(usable):
        return
    place = group[usable]
    # SQLite stores -0.0 as 0.0 (trap S6); memory must say what SQL says
    value, at = rows.value[usable] + 0.0, rows.source_ns[usable]
    state["n_value"] += np.bincount(place, minlength=len(state))
    np.minimum.at(state["min"], place, value)
    np.maximum.at(state["max"], place, value)
    with np.errstate(over="ignore", invalid="ignore"):
        total = state["sum"].copy()
        np.add.at(total, place, value)  # one after another, in order of seq
    state["sum"] = np.where(np.isfinite(total), total, np.nan)
    for when, what, latest in (("first_ns", "first", False), ("last_ns", "last", True)):
        edge = state[when].copy()
        (np.maximum if latest else np.minimum).at(edge, place, at)
        hits = np.flatnonzero((at == edge[place]) & ((edge != state[when])[place] | latest))
        # of equal times the first arrival is first, the last arrival is last
        chosen = hits if latest else hits[::-1]
        state[what][place[chosen]] = value[chosen]
        state[when] = edge


def _add_increase(state: NDArray[np.void], group: NDArray[np.intp], increase: NDArray[np.float64]) -> None:
    """Add increases (NaN: none), one after another."""
    told = np.flatnonzero(~np.isnan(increase))
    if not len(told):
        return
    total = state["increase"].copy()
    places = np.unique(group[told])
    total[places] = np.nan_to_num(total[places])
    np.add.at(total, group[told], increase[told])
    state["increase"] = total


def _end(state: NDArray[np.void], at: NDArray[np.int64], seq: NDArray[np.int64], group: NDArray[np.intp]) -> None:
    edge = state["end_ns"].copy()
    np.maximum.at(edge, group, at)
    hits = np.flatnonzero(at == edge[group])
    state["end_seq"][group[hits]] = seq[hits]
    state["end_ns"] = edge


def column_of(state: NDArray[np.void], name: str) -> list[Any]:
    """One column of buckets as SQL takes it."""
    column: list[Any] = state[name].tolist()
    if name in _REAL:
        empty = np.isnan(state[name])
        if name in {"min", "max"}:
            empty |= state["n_value"] == 0
    elif name in _TIMES:
        empty = state["n_value"] == 0
    else:
        return column
    for place in np.flatnonzero(empty).tolist():
        column[place] = None
    return column


def bucket_of(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of SQL as a bucket."""
    values = dict(zip(COLUMNS, row, strict=True))
    if not values["n_value"]:
        values.update(min=np.inf, max=-np.inf, first_ns=_FOREVER, last_ns=_NEVER)
    for name in _REAL:
        if values[name] is None:
            values[name] = np.nan
    return tuple(values.values())
