"""
Roll-ups behind a replay: buckets that no longer say what ``v_records`` shows, and making them anew in small steps.

The transaction that stores corrected rows only notes which minutes they touch (table ``stale_buckets``). Each is then
made anew from the valid records, and the hours from their minutes, a few in one transaction, so that the live stream
gets its turn between any two. What a kill leaves noted, the next start makes.

A bucket whose rows retention has removed, in part or whole, would shrink: it stays as it is, and is counted.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import bulk, tables
from broker.store.kept import AHEAD_NS, MINUTES_GONE, RECORDS_GONE
from broker.store.memory import Memory
from broker.store.reader.values import any_of
from broker.store.rollups import (
    HOUR_NS,
    MINUTE_NS,
    Grouping,
    Inserted,
    buckets_of,
    count,
    counted_of,
    empty,
    is_counted,
    merge,
)
from broker.store.valid import not_replaced

#: Counter that is 1 while buckets may be noted.
NOTED: Final = "stale_buckets"
#: Records that one step reads, as far as the buckets know how many they count; never less than one tag's minute.
MOST_ROWS: Final = 20_000
#: Tags made anew in one step at most: with another deadband a minute may hold many more rows than it counted.
TAGS: Final = 300
#: Hours made anew in one step; each has up to 60 parts.
HOURS: Final = 100
#: For the steps of one transaction; a step that has begun is finished.
BUDGET_S: Final = 0.1
_MINUTE, _HOUR = 0, 1
_S: Final = tables.stale_buckets.c


class Progress(NamedTuple):
    """Whether more is noted, and how many buckets were left as they are."""

    more: bool
    left: int


def note(connection: sa.Connection, memory: Memory, rows: Inserted) -> None:
    """Note the minutes in which these corrected rows lie, and name a tag's newest row where it is one of them."""
    memory.count(connection)  # what waits is older than the correction, and must not be named after it
    memory.name_newest(connection, rows)
    _note(connection, _MINUTE, rows.source_ns // MINUTE_NS * MINUTE_NS, rows.tag_id)
    memory.set(NOTED, 1)


def _note(connection: sa.Connection, level: int, bucket_ns: NDArray[np.int64], tag_id: NDArray[np.int64]) -> None:
    buckets, ids = np.unique(np.stack([bucket_ns, tag_id]), axis=1).tolist()
    bulk.many(
        connection,
        "INSERT INTO stale_buckets(level, bucket_ns, tag_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(level, bucket, tag) for bucket, tag in zip(buckets, ids, strict=True)],
    )


def steps(connection: sa.Connection, memory: Memory, *, hours: bool, budget_s: float) -> Progress:
    """:func:`step` after step, for about *budget_s* seconds."""
    deadline, left = time.monotonic() + budget_s, 0
    while True:
        more, unmade = step(connection, memory, hours=hours)
        left += unmade
        if not more or time.monotonic() >= deadline:
            return Progress(more, left)


def step(connection: sa.Connection, memory: Memory, *, hours: bool) -> Progress:
    """Make some tags of the oldest noted minute anew; where no minute is noted and *hours*, of the oldest hour."""
    if not memory.last(NOTED):
        return Progress(False, 0)
    memory.count(connection)
    bucket_ns, ids = _next(connection, _MINUTE, TAGS)
    if len(ids):
        done, left = _minute(connection, memory, bucket_ns, ids)
        _forget(connection, _MINUTE, bucket_ns, done)
        return Progress(True, left)
    if not hours:
        return Progress(False, 0)
    bucket_ns, ids = _next(connection, _HOUR, HOURS)
    if not len(ids):
        memory.set(NOTED, 0)
        return Progress(False, 0)
    left = _hour(connection, memory, bucket_ns, ids)
    _forget(connection, _HOUR, bucket_ns, ids)
    return Progress(True, left)


def _next(connection: sa.Connection, level: int, limit: int) -> tuple[int, NDArray[np.int64]]:
    """The oldest bucket of a level that is noted, and the first of its tags."""
    first = connection.execute(sa.select(sa.func.min(_S.bucket_ns)).where(_S.level == level)).scalar()
    if first is None:
        return 0, np.zeros(0, np.int64)
    query = sa.select(_S.tag_id).where(_S.level == level, _S.bucket_ns == first).order_by(_S.tag_id).limit(limit)
    return first, np.array(connection.execute(query).scalars().all(), np.int64)


def _forget(connection: sa.Connection, level: int, bucket_ns: int, ids: NDArray[np.int64]) -> None:
    # in the order of the key: all tags up to the last one were looked at
    where = sa.and_(_S.level == level, _S.bucket_ns == bucket_ns, _S.tag_id <= int(ids[-1]))
    connection.execute(sa.delete(tables.stale_buckets).where(where))


def _minute(
    connection: sa.Connection, memory: Memory, bucket_ns: int, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Make a minute anew of as many of these tags as one step may read: (those tags, how many were left)."""
    if bucket_ns < memory.last(MINUTES_GONE):
        return ids, len(ids)
    minutes, _ = memory.rollups
    old = minutes.load(connection, ids, bucket_ns)
    ids = ids[: max(1, int(np.searchsorted(np.cumsum(old["n"] + 1), MOST_ROWS, side="right")))]
    old = old[: len(ids)]
    state = empty(ids, np.full(len(ids), bucket_ns, np.int64))
    rows = _valid(connection, bucket_ns, ids)
    if len(rows.seq):
        grouping = Grouping(rows, MINUTE_NS)
        found = empty(grouping.tag_id, grouping.bucket_ns)
        count(found, grouping)
        state[np.searchsorted(ids, found["tag_id"])] = found
    # every row that is stored by now is counted, or hidden for good
    state["counted_seq"] = memory.last("record_seq")
    whole = state["n"] > 0
    if bucket_ns < memory.last(RECORDS_GONE) + AHEAD_NS:
        lacks = (state["n"] < old["n"]) | (state["end_ns"] < old["end_ns"])
        whole &= ~(lacks | ((old["n_value"] > 0) & (state["first_ns"] > old["first_ns"])))
    made = state[whole]
    if len(made):
        minutes.put(connection, made)
        memory.note_newest(connection, made)
        _note(connection, _HOUR, made["bucket_ns"] // HOUR_NS * HOUR_NS, made["tag_id"])
    return ids, len(ids) - len(made)


def _valid(connection: sa.Connection, from_ns: int, ids: NDArray[np.int64]) -> Inserted:
    """What ``v_records`` shows of a minute of these tags, in order of ``seq``."""
    record = tables.records.c
    columns = (record.seq, record.source_ts, record.tag_id, record.value, record.status, record.increase, record.flags)
    query = (
        sa.select(*columns)
        .where(record.source_ts >= from_ns, record.source_ts < from_ns + MINUTE_NS, not_replaced())
        .where(is_counted(record.flags))
        .where(any_of(connection, record.tag_id, ids.tolist()))
        .order_by(record.seq)
    )
    found: list[Any] = list(connection.execute(query))
    seq, source_ns, tag_id = (np.array([row[place] for row in found], np.int64) for place in range(3))
    value = np.array([np.nan if row[3] is None else row[3] for row in found], np.float64)
    counted = counted_of([row[5] for row in found], [row[6] for row in found])
    return Inserted(seq, source_ns, tag_id, value, np.array([row[4] for row in found], np.uint32), counted)


def _hour(connection: sa.Connection, memory: Memory, hour_ns: int, ids: NDArray[np.int64]) -> int:
    """Make an hour of these tags anew from its minutes; how many were left."""
    if hour_ns < memory.last(MINUTES_GONE):
        return len(ids)
    minutes, hours = memory.rollups
    minutes.write_of(connection, ids)
    minute = tables.rollup_1m
    query = (
        sa.select(minute)
        .where(any_of(connection, minute.c.tag_id, ids.tolist()), minute.c.revision == 0)
        .where(minute.c.bucket_ns >= hour_ns, minute.c.bucket_ns < hour_ns + HOUR_NS)
        .order_by(minute.c.tag_id, minute.c.bucket_ns)
    )
    parts = buckets_of([tuple(row) for row in connection.execute(query)])
    if len(parts):
        state = merge(parts, HOUR_NS)
        state["counted_seq"] = memory.last("record_seq")
        hours.put(connection, state)
    return 0
