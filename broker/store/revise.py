"""
What a replay needs of the store: which held-back rows have to be written, and roll-ups that count the valid rows.

A corrected record hides the one it replaces, so it may not be left out because the corrected deadband would hold it
back: the wrong one would go on being shown. Roll-ups are made anew, in place: minutes from the valid records, hours
from the minutes. A bucket thus always says what ``v_records`` shows, and live rows go on joining it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import bulk, tables
from broker.store.levels import Level
from broker.store.memory import Memory
from broker.store.reader.values import any_of
from broker.store.rollups import HOUR_NS, MINUTE_NS, Inserted, buckets_of, merge
from schemas.records import RecordBatch
from schemas.status import Flag

_DEADBAND: Final = np.uint32(Flag.DEADBAND)


def keep_stored(connection: sa.Connection, batch: RecordBatch, numbering: NDArray[np.int64]) -> RecordBatch:
    """*batch* with the deadband's mark taken from rows whose tag and time are in SQL already, at any revision."""
    held = np.flatnonzero(batch.flags & _DEADBAND)
    if not len(held):
        return batch
    keys = [batch.source_ns[held], numbering[batch.tag[held]]]
    found = {place for place, _ in bulk.look_up(connection, tables.records, ("source_ts", "tag_id"), keys, ("seq",))}
    if not found:
        return batch
    flags = batch.flags.copy()
    flags[held[sorted(found)]] &= ~_DEADBAND
    return replace(batch, flags=flags)


def rebuild(connection: sa.Connection, memory: Memory, tag_id: NDArray[np.int64], source_ns: NDArray[np.int64]) -> None:
    """Make every bucket anew in which one of these rows (columns of one length) lies."""
    minutes, hours = memory.rollups
    touched = np.unique(np.stack([source_ns // MINUTE_NS * MINUTE_NS, tag_id]), axis=1)
    starts = np.unique(touched[0])
    # one query for each run of minutes that follow each other
    for run in np.split(starts, np.flatnonzero(np.diff(starts) != MINUTE_NS) + 1):
        of_run = touched[:, (touched[0] >= run[0]) & (touched[0] <= run[-1])]
        _minutes(connection, memory, minutes, of_run, int(run[0]), int(run[-1]) + MINUTE_NS)
    of_hours = np.unique(np.stack([touched[0] // HOUR_NS * HOUR_NS, touched[1]]), axis=1)
    for hour in np.unique(of_hours[0]).tolist():
        _hour(connection, hours, of_hours[1][of_hours[0] == hour], hour)


def _minutes(
    connection: sa.Connection,
    memory: Memory,
    level: Level,
    touched: NDArray[np.int64],
    from_ns: int,
    to_ns: int,
) -> None:
    """*touched*: int64[2, n] of minute and tag id, all of them within the span."""
    record, higher = tables.records, tables.records.alias("higher")
    newer = sa.exists().where(
        higher.c.source_ts == record.c.source_ts,
        higher.c.tag_id == record.c.tag_id,
        higher.c.revision > record.c.revision,
    )
    columns = (record.c.seq, record.c.source_ts, record.c.tag_id, record.c.value, record.c.status)
    query = (
        sa.select(*columns)
        .where(record.c.source_ts >= from_ns, record.c.source_ts < to_ns, ~newer)
        .where(any_of(connection, record.c.tag_id, np.unique(touched[1]).tolist()))
        .order_by(record.c.seq)
    )
    found: list[Any] = list(connection.execute(query))
    if not found:
        return
    seq, source_ns, tag_id = (np.array([row[place] for row in found], np.int64) for place in range(3))
    value = np.array([np.nan if row[3] is None else row[3] for row in found], np.float64)
    status = np.array([row[4] for row in found], np.uint32)
    pairs = np.stack([source_ns // MINUTE_NS * MINUTE_NS, tag_id])
    wanted = np.isin(_joined(pairs), _joined(touched))
    rows = Inserted(seq[wanted], source_ns[wanted], tag_id[wanted], value[wanted], status[wanted])
    if len(rows.seq):
        memory.note_newest(connection, level.anew(connection, rows))


def _joined(pairs: NDArray[np.int64]) -> NDArray[np.void]:
    """Each column of int64[2, n] as one comparable item."""
    return np.ascontiguousarray(pairs.T).view(np.dtype([("bucket", np.int64), ("tag", np.int64)]))[:, 0]


def _hour(connection: sa.Connection, level: Level, tag_ids: NDArray[np.int64], hour_ns: int) -> None:
    minute = tables.rollup_1m
    query = (
        sa.select(minute)
        .where(any_of(connection, minute.c.tag_id, tag_ids.tolist()), minute.c.revision == 0)
        .where(minute.c.bucket_ns >= hour_ns, minute.c.bucket_ns < hour_ns + HOUR_NS)
        .order_by(minute.c.tag_id, minute.c.bucket_ns)
    )
    parts = buckets_of([tuple(row) for row in connection.execute(query)])
    if len(parts):
        level.put(connection, merge(parts, HOUR_NS))
