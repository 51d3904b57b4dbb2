"""
Retention: whole days, slice by slice, so that the writer is never held up for long.

How much goes is bounded by the time a call may take, not by rows, so that it keeps up with any rate of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from broker.store import blocks, tables
from broker.store.kept import GAPS_GONE, MINUTES_GONE, RECORDS_GONE
from broker.store.memory import Memory
from broker.store.options import KeepOptions

DAY_NS: Final = 86_400_000_000_000
#: What retention takes for the present moves on by no more than this in one call: a clock that jumps ahead by a year
#: takes three days to empty the store, at a call each half minute; a weekend without power is made up for in 24 min.
STEP_NS: Final = 3_600_000_000_000
#: 2025-01-01: this program is younger, a clock that says less was never set.
EARLIEST_NS: Final = 1_735_689_600_000_000_000
#: Time one call may take; a slice that has begun is finished.
BUDGET_S: Final = 1.0
#: Keys looked at in one slice.
SLICE: Final = 20_000
#: The same for quarantine, whose rows are up to 4 KiB long.
RAW_SLICE: Final = 2_000
#: Tags whose 1 min roll-ups are trimmed in one slice.
TAGS: Final = 200
#: Closed episodes, and closed gaps, removed in one slice.
EPISODES: Final = 100

#: (part, begin of the oldest day that stays): nothing older is left of this part.
Done = tuple[str, int]


def cutoff(now_ns: int, keep_s: float) -> int:
    """Begin of the oldest day that stays."""
    return (now_ns - int(keep_s) * 1_000_000_000) // DAY_NS * DAY_NS


def advance(memory: Memory, clock_ns: int) -> int | None:
    """
    The present as retention takes it: *clock_ns*, at most ``STEP_NS`` after the latest it ever took; None: no clock.

    The latest is kept (counter ``retention_ns``), so that a clock that goes back stops retention and no more.
    """
    if clock_ns < EARLIEST_NS:
        return None
    last_ns = memory.last("retention_ns")
    now_ns = min(clock_ns, last_ns + STEP_NS) if last_ns else clock_ns
    memory.set("retention_ns", max(last_ns, now_ns))
    return now_ns


def trim(
    connection: sa.Connection, memory: Memory, keep: KeepOptions, now_ns: int, clock_ns: int, done: set[Done]
) -> tuple[set[Done], bool]:
    """
    Remove one slice of each part that is past its time, in the caller's transaction.

    *clock_ns* is what the clock says: rows that came a day later than that were stamped by a wrong one. *done* is what
    the last slice that was committed returned: the parts that have nothing more to remove. The second result says
    whether others have.
    """
    clock_ns = max(clock_ns, memory.last("retention_ns"))

    def records(before_ns: int) -> bool:
        table = tables.records
        memory.set(RECORDS_GONE, max(memory.last(RECORDS_GONE), before_ns))
        # what the roll-ups may have to count again stays
        upto = memory.last("rolled_seq")
        key, time = table.c.seq, table.c.received_ts
        more = _sweep(connection, memory, key, time, before_ns, clock_ns, SLICE, _delete, upto)
        first = connection.execute(sa.select(sa.func.min(key))).scalar()
        blocks.forget(connection, memory.last("record_seq") + 1 if first is None else first)
        return more

    def quarantine(before_ns: int) -> bool:
        table = tables.quarantine
        key, time = table.c.quarantine_id, table.c.received_ns
        return _sweep(connection, memory, key, time, before_ns, clock_ns, RAW_SLICE, _delete_rejects)

    def documents(before_ns: int) -> bool:
        def delete(connection: sa.Connection, where: sa.ColumnElement[bool]) -> int:
            removed = _delete(connection, where, tables.outbox)
            memory.set("documents", memory.last("documents") - removed)
            return removed

        table = tables.outbox
        return _sweep(connection, memory, table.c.seq, table.c.time_ns, before_ns, clock_ns, SLICE, delete)

    def told(before_ns: int) -> bool:
        def delete(connection: sa.Connection, where: sa.ColumnElement[bool]) -> int:
            return _delete(connection, where, tables.events)

        table = tables.events
        return _sweep(connection, memory, table.c.seq, table.c.received_ts, before_ns, clock_ns, SLICE, delete)

    parts: tuple[tuple[str, float, Callable[[int], bool]], ...] = (
        ("records", keep.records, records),
        ("quarantine", keep.quarantine, quarantine),
        ("events", keep.events, told),
        ("documents", keep.documents, documents),
        ("episodes", keep.documents, lambda before_ns: _episodes(connection, before_ns)),
        ("gaps", keep.documents, lambda before_ns: _gaps(connection, memory, before_ns)),
        ("clocks", keep.rollups_1m, lambda before_ns: _clocks(connection, before_ns)),
        ("minutes", keep.rollups_1m, lambda before_ns: _minutes(connection, memory, before_ns)),
    )
    finished: set[Done] = set()
    for name, keep_s, part in parts:
        item = (name, cutoff(now_ns, keep_s))
        if item in done or not part(item[1]):
            finished.add(item)
    return finished, len(finished) < len(parts)


_Delete = Callable[[sa.Connection, sa.ColumnElement[bool]], int]


def _delete(connection: sa.Connection, where: sa.ColumnElement[bool], table: sa.Table = tables.records) -> int:
    return connection.execute(sa.delete(table).where(where)).rowcount


def _delete_rejects(connection: sa.Connection, where: sa.ColumnElement[bool]) -> int:
    rejects, sources = tables.quarantine, tables.sources
    removed = 0
    by_source = sa.select(rejects.c.source, sa.func.count()).where(where).group_by(rejects.c.source)
    for source, rows in connection.execute(by_source).all():
        left = sources.c.quarantined - rows
        connection.execute(sources.update().where(sources.c.source == source).values(quarantined=left))
        removed += rows
    if removed:
        connection.execute(rejects.delete().where(where))
    return removed


def _sweep(
    connection: sa.Connection,
    memory: Memory,
    key: sa.Column[int],
    time: sa.Column[int],
    before_ns: int,
    clock_ns: int,
    size: int,
    delete: _Delete,
    upto: int | None = None,
) -> bool:
    """
    One slice in order of *key*, none beyond *upto*, from where the last one stopped; whether more may be left.

    Rows that a wrong clock stamped with a time to come are stepped over, so that they hold nothing back; they go
    from the low end when their time has come. The first row that is young for certain ends the sweep.
    """
    # two queries: SQLite seeks for a single min or max, and scans for both at once
    low, high = (connection.execute(sa.select(edge(key))).scalar() for edge in (sa.func.min, sa.func.max))
    if low is None or high is None:
        return False
    high = high if upto is None else min(high, upto)
    name = f"{key.table.name}_kept_from"
    start = connection.execute(sa.select(sa.func.min(key)).where(key >= memory.last(name))).scalar()
    start = high + 1 if start is None else start
    removed = 0
    if low < start:
        removed = delete(connection, sa.and_(key >= low, key < min(low + size, start), time < before_ns))
    young = sa.and_(key >= start, key < start + size, time >= before_ns, time <= clock_ns + DAY_NS)
    # ordered instead of min(): the walk along the key ends at the first such row
    stop = connection.execute(sa.select(key).where(young).order_by(key).limit(1)).scalar()
    end = min(start + size, high + 1) if stop is None else stop
    if end > start:
        delete(connection, sa.and_(key >= start, key < end, time < before_ns))
    memory.set(name, end)
    return removed > 0 or (stop is None and end <= high)


def _episodes(connection: sa.Connection, before_ns: int) -> bool:
    heads, notes = tables.anomalies, tables.annotations
    # an episode bears the device's times: in a recording of years ago it was found, and explained, only now
    explained_lately = sa.exists().where(notes.c.anomaly_id == heads.c.anomaly_id, notes.c.created_ns >= before_ns)
    query = (
        sa.select(heads.c.anomaly_id)
        .where(heads.c.state == "closed", heads.c.updated_ns < before_ns, ~explained_lately)
        .order_by(heads.c.updated_ns)
        .limit(EPISODES)
    )
    ids = list(connection.execute(query).scalars())
    if ids:
        attempts, evidence = tables.annotation_attempts, tables.evidence
        old = sa.select(evidence.c.evidence_id).where(evidence.c.anomaly_id.in_(ids))
        connection.execute(attempts.delete().where(attempts.c.evidence_id.in_(old)))
        for table in (tables.reviews, tables.annotations, evidence, tables.anomaly_revisions, heads):
            connection.execute(table.delete().where(table.c.anomaly_id.in_(ids)))
    return len(ids) == EPISODES


def _gaps(connection: sa.Connection, memory: Memory, before_ns: int) -> bool:
    gaps, marks = tables.gaps, tables.gap_tags
    query = sa.select(gaps.c.gap_id, gaps.c.changed).where(gaps.c.to_ns < before_ns).order_by(gaps.c.to_ns)
    found = connection.execute(query.limit(EPISODES)).all()
    ids = [row.gap_id for row in found]
    if ids:
        memory.set(GAPS_GONE, max(memory.last(GAPS_GONE), *(row.changed for row in found)))
        connection.execute(marks.delete().where(marks.c.gap_id.in_(ids)))
        connection.execute(gaps.delete().where(gaps.c.gap_id.in_(ids)))
    return len(ids) == EPISODES


def _clocks(connection: sa.Connection, before_ns: int) -> bool:
    minute = tables.source_clocks.c.minute_ns
    oldest: int | None = connection.execute(sa.select(sa.func.min(minute))).scalar()
    if oldest is None or oldest >= before_ns:
        return False
    until_ns = min(before_ns, oldest + DAY_NS)
    connection.execute(tables.source_clocks.delete().where(minute < until_ns))
    return until_ns < before_ns


def _minutes(connection: sa.Connection, memory: Memory, before_ns: int) -> bool:
    memory.set(MINUTES_GONE, max(memory.last(MINUTES_GONE), before_ns))
    tags, minutes = tables.tags, tables.rollup_1m
    turn = memory.last("rollup_1m_turn")
    query = sa.select(tags.c.tag_id).where(tags.c.tag_id > turn).order_by(tags.c.tag_id).limit(TAGS)
    ids = list(connection.execute(query).scalars())
    for tag_id in ids:
        connection.execute(minutes.delete().where(minutes.c.tag_id == tag_id, minutes.c.bucket_ns < before_ns))
    memory.set("rollup_1m_turn", ids[-1] if len(ids) == TAGS else 0)
    return len(ids) == TAGS
