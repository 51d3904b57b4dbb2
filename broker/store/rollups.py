"""
Roll-ups of 1 min and 1 h.

Writing a bucket costs more than storing a row, so the pipeline lets rows wait and rolls them up at each tick
(``Transaction.roll_up``): a bucket is then written once a second, not once a transaction. ``rolled_seq`` is committed
with them; rows beyond it are read again after a crash.

A sum is carried on value by value in the order of ``seq``, beginning with what is stored, so that the result is the
same to the last bit however the stream was cut into transactions. Late rows join the bucket they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import bulk, tables
from schemas.status import quality_of

MINUTE_NS: Final = 60_000_000_000
HOUR_NS: Final = 3_600_000_000_000
_NEVER: Final = np.iinfo(np.int64).min
_FOREVER: Final = np.iinfo(np.int64).max

#: One bucket; NaN stands for NULL in real columns, ``n_value`` 0 for NULL in ``first_ns`` and ``last_ns``.
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
    ]
)
_COLUMNS: Final = tuple(BUCKET.names or ())
_REAL: Final = frozenset({"min", "max", "sum", "first", "last"})
_TIMES: Final = frozenset({"first_ns", "last_ns"})


@dataclass(slots=True)
class Inserted:
    """Columns of rows that are really in SQL now, in order of ``seq``, all of one length."""

    seq: NDArray[np.int64]
    source_ns: NDArray[np.int64]
    tag_id: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    revision: int

    def part(self, low: int, high: int, revision: int) -> Inserted:
        """Rows *low* to *high* as rows of *revision*."""
        rows = slice(low, high)
        return Inserted(
            self.seq[rows], self.source_ns[rows], self.tag_id[rows], self.value[rows], self.status[rows], revision
        )


def joined(parts: Sequence[Inserted]) -> Inserted:
    """Parts of one revision, in order of ``seq``, as one."""
    if len(parts) == 1:
        return parts[0]
    return Inserted(
        np.concatenate([part.seq for part in parts]),
        np.concatenate([part.source_ns for part in parts]),
        np.concatenate([part.tag_id for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.status for part in parts]),
        parts[0].revision,
    )


class Level:
    """
    One resolution: which table, and one bucket of each tag as it stands in SQL.

    ``bound_ns`` of a tag: no bucket of it is newer. ``cached`` says that ``cache`` holds a bucket of the tag, the
    newest that was touched.
    """

    __slots__ = ("bound_ns", "cache", "cached", "table", "width_ns")

    def __init__(self, table: sa.Table, width_ns: int) -> None:
        self.table = table
        self.width_ns = width_ns
        self.cache = np.zeros(0, BUCKET)
        self.cached = np.zeros(0, np.bool_)
        self.bound_ns = np.zeros(0, np.int64)

    def make_room(self, newest_ns: NDArray[np.int64]) -> None:
        """Let every tag id of *newest_ns* be used, int64[tag_id]: the time of the tag's newest row."""
        old = len(self.bound_ns)
        more = len(newest_ns) - old
        if more > 0:
            self.cache = np.concatenate([self.cache, np.zeros(more, BUCKET)])
            self.cached = np.concatenate([self.cached, np.zeros(more, np.bool_)])
            self.bound_ns = np.concatenate([self.bound_ns, newest_ns[old:]])

    def add(self, connection: sa.Connection, rows: Inserted) -> None:
        """Count *rows* in and write every bucket they touch."""
        bucket = rows.source_ns // self.width_ns * self.width_ns
        order = np.lexsort((bucket, rows.tag_id))
        changed = np.empty(len(order), np.bool_)
        changed[:1] = True
        changed[1:] = (np.diff(rows.tag_id[order]) != 0) | (np.diff(bucket[order]) != 0)
        starts = np.flatnonzero(changed)
        group = np.empty(len(order), np.intp)
        group[order] = np.cumsum(changed) - 1
        state = self._stored(connection, rows.tag_id[order][starts], bucket[order][starts], rows.revision)
        _count(state, rows, group, order, starts)
        bulk.replace(connection, self.table, [_column(state, name) for name in _COLUMNS])
        self._remember(state, rows.revision)

    def _stored(
        self, connection: sa.Connection, tag_id: NDArray[np.int64], bucket: NDArray[np.int64], revision: int
    ) -> NDArray[np.void]:
        """The buckets as they stand, empty ones where there is none."""
        state = np.zeros(len(tag_id), BUCKET)
        state["tag_id"], state["bucket_ns"], state["revision"] = tag_id, bucket, revision
        state["min"], state["max"] = np.inf, -np.inf
        state["first_ns"], state["last_ns"], state["end_ns"] = _FOREVER, _NEVER, _NEVER
        state["first"] = state["last"] = np.nan
        if revision:
            look = np.ones(len(tag_id), np.bool_)
        else:
            same = self.cached[tag_id] & (self.cache["bucket_ns"][tag_id] == bucket)
            state[same] = self.cache[tag_id[same]]
            look = ~same & (bucket <= self.bound_ns[tag_id])
        places = np.flatnonzero(look)
        if len(places):
            keys = [tag_id[places], bucket[places], np.full(len(places), revision, np.int64)]
            for index, row in bulk.look_up(connection, self.table, ("tag_id", "bucket_ns", "revision"), keys, _COLUMNS):
                state[places[index]] = _state(row)
        return state

    def _remember(self, state: NDArray[np.void], revision: int) -> None:
        if revision:
            return
        # sorted by tag and bucket: the last one of a tag is its newest
        fresh = state[np.append(state["tag_id"][1:] != state["tag_id"][:-1], True)]
        tag_id = fresh["tag_id"]
        newer = ~self.cached[tag_id] | (fresh["bucket_ns"] >= self.cache["bucket_ns"][tag_id])
        self.cache[tag_id[newer]] = fresh[newer]
        self.cached[tag_id] = True
        self.bound_ns[tag_id] = np.maximum(self.bound_ns[tag_id], fresh["bucket_ns"])


def levels() -> tuple[Level, ...]:
    """A fresh memory of both levels."""
    return (Level(tables.rollup_1m, MINUTE_NS), Level(tables.rollup_1h, HOUR_NS))


def _count(
    state: NDArray[np.void],
    rows: Inserted,
    group: NDArray[np.intp],
    order: NDArray[np.intp],
    starts: NDArray[np.intp],
) -> None:
    quality = quality_of(rows.status)
    state["n"] += np.diff(np.append(starts, len(order)))
    state["n_good"] += np.bincount(group[quality == 0], minlength=len(state))
    state["n_bad"] += np.bincount(group[quality == 2], minlength=len(state))
    _end(state, rows.source_ns, rows.seq, group)
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


def _end(state: NDArray[np.void], at: NDArray[np.int64], seq: NDArray[np.int64], group: NDArray[np.intp]) -> None:
    edge = state["end_ns"].copy()
    np.maximum.at(edge, group, at)
    hits = np.flatnonzero(at == edge[group])
    state["end_seq"][group[hits]] = seq[hits]
    state["end_ns"] = edge


def _column(state: NDArray[np.void], name: str) -> list[Any]:
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


def _state(row: tuple[Any, ...]) -> tuple[Any, ...]:
    values = dict(zip(_COLUMNS, row, strict=True))
    if not values["n_value"]:
        values.update(min=np.inf, max=-np.inf, first_ns=_FOREVER, last_ns=_NEVER)
    for name in _REAL:
        if values[name] is None:
            values[name] = np.nan
    return tuple(values.values())
