"""Records, tags and windows of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np
import sqlalchemy as sa

from broker.store import blocks, meanings, tables
from broker.store.rollups import HOUR_NS, is_counted
from broker.store.rows.records import CurrentRow, RecordPage, RecordRow, TagRow, Window
from broker.store.valid import not_replaced
from schemas.status import BAD

_R = tables.records
_T = tables.tags
#: Rows that one filtered page looks at; a rare tag then takes more pages, never more time.
SCAN: Final = 200_000
_MINUTE_NS: Final = 60_000_000_000
#: Minutes with data that are searched for a last value before giving up.
_MINUTES: Final = 60


def tag_of(connection: sa.Connection, path: str, unit: str | None = None) -> TagRow | None:
    """
    The tag with this path, with what it has in *unit* where it ever had it, else in its present one.

    Of two that ever had the path it is the one in the map in force, then the newer one.
    """
    order = (sa.case((_T.c.unit == (unit or ""), 0), else_=1), _T.c.in_map.desc(), _T.c.former, _T.c.tag_id.desc())
    query = sa.select(_T).where(_T.c.path == path).order_by(*order).limit(1)
    row = connection.execute(query).first()
    return None if row is None else _tag_row(row)


def other_units(connection: sa.Connection, tag: TagRow, from_ns: int, to_ns: int) -> tuple[str, ...]:
    """Units other than that of *tag* in which it has numbers of ``from_ns <= time < to_ns``, in order."""
    other = sa.select(_T.c.tag_id, _T.c.unit).where(_T.c.id == tag.id, _T.c.tag_id != tag.tag_id).order_by(_T.c.unit)
    hour = tables.rollup_1h.c
    found = []
    for row in connection.execute(other).all():
        inside = sa.and_(hour.bucket_ns > from_ns - HOUR_NS, hour.bucket_ns < to_ns)
        counted = sa.select(hour.n).where(hour.tag_id == row.tag_id, inside, hour.n_value > 0).limit(1)
        if connection.execute(counted).first() is not None:
            found.append(row.unit)
    return tuple(found)


def list_tags(connection: sa.Connection, pattern: str | None) -> list[TagRow]:
    """Tags of the map in force in order of path; *pattern* may hold ``*``."""
    rows = connection.execute(sa.select(_T).where(_T.c.in_map == 1).order_by(_T.c.path, _T.c.tag_id))
    wanted = matcher(pattern)
    return [_tag_row(row) for row in rows if wanted.fullmatch(row.path)]


def _tag_row(row: sa.Row[Any]) -> TagRow:
    enum = None if row.enum is None else msgspec.json.decode(row.enum, type=dict[int, str])
    return TagRow(
        row.tag_id,
        row.id,
        row.path,
        row.source,
        row.address,
        row.type,
        row.unit,
        row.role,
        row.equipment,
        row.range_low,
        row.range_high,
        enum,
        row.description,
        bool(row.in_map),
    )


def matcher(pattern: str | None) -> re.Pattern[str]:
    """A regular expression for a path pattern: ``*`` is any text, also across ``/``; None is every path."""
    return re.compile(".*".join(map(re.escape, (pattern or "*").split("*"))), re.DOTALL)


def record_columns() -> list[sa.ColumnElement[Any]]:
    """The columns of a RecordRow, of ``records`` joined with ``tags``."""
    return [
        _R.c.seq,
        _T.c.path,
        _T.c.unit,
        _R.c.source_ts,
        _R.c.server_ts,
        _R.c.received_ts,
        _R.c.value,
        _R.c.value_int,
        _R.c.value_text,
        _R.c.status,
        _R.c.flags,
        _R.c.revision,
        _R.c.increase,
        _T.c.id,
        meanings.column(_R, _T.c.tag_id),
    ]


def span(connection: sa.Connection) -> tuple[int | None, int]:
    """(lowest seq still kept or None, highest seq ever given)."""
    first = connection.execute(sa.select(sa.func.min(_R.c.seq))).scalar()
    last = connection.execute(sa.select(tables.counters.c.value).where(tables.counters.c.name == "record_seq")).scalar()
    return first, last or 0


def page(
    connection: sa.Connection,
    after: int,
    limit: int,
    pattern: str | None,
    from_ns: int | None = None,
    to_ns: int | None = None,
) -> RecordPage:
    """One page of records with ``seq > after``; a filtered page looks at ``SCAN`` rows at most."""
    first, head = span(connection)
    if first is None:
        return RecordPage([], max(after, head), False)
    after = max(after, first - 1)
    until = head
    times: list[sa.ColumnElement[bool]] = []
    if from_ns is not None or to_ns is not None:
        start = blocks.next_within(connection, after, from_ns, to_ns)
        if start is None or start > head:
            return RecordPage([], max(after, head), False)
        after = start - 1
        until = min(head, after + SCAN)
        # + 0: the index on the time would bring all rows of the span, to be sorted for each page
        times += [] if from_ns is None else [_R.c.source_ts + 0 >= from_ns]
        times += [] if to_ns is None else [_R.c.source_ts + 0 < to_ns]
    query = sa.select(*record_columns()).join(_T, _T.c.tag_id == _R.c.tag_id)
    query = query.where(_R.c.seq > after, _R.c.seq <= until, *times)
    if pattern is not None and pattern != "*":
        wanted = matcher(pattern)
        ids = [
            row.tag_id for row in connection.execute(sa.select(_T.c.tag_id, _T.c.path)) if wanted.fullmatch(row.path)
        ]
        if not ids:
            return RecordPage([], head, False)
        until = min(head, after + SCAN)
        query = query.where(_R.c.seq <= until, any_of(connection, _R.c.tag_id, ids))
    rows = [RecordRow._make(row) for row in connection.execute(query.order_by(_R.c.seq).limit(limit))]
    if len(rows) == limit:
        return RecordPage(rows, rows[-1].seq, rows[-1].seq < head)
    return RecordPage(rows, until, until < head)


def any_of(connection: sa.Connection, column: sa.ColumnElement[int], ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """``column`` is one of *ids*, as one parameter however many there are."""
    if connection.dialect.name == "sqlite":
        each = sa.func.json_each(msgspec.json.encode(list(ids)).decode()).table_valued("value")
        return column.in_(sa.select(each.c.value))
    return column == sa.any_(sa.cast(sa.literal(list(ids), sa.ARRAY(sa.BigInteger())), sa.ARRAY(sa.BigInteger())))


def current(connection: sa.Connection, pattern: str | None, limit: int) -> list[CurrentRow]:
    """
    The newest row by device time of each tag in the map, in order of path, and what is missing since.

    A tag whose newest row is in a unit that it has no more has none.
    """
    newest, gap = tables.newest, tables.gaps
    query = sa.select(*record_columns(), gap.c.cause, gap.c.from_ns)
    query = query.select_from(_T).join(newest, newest.c.tag_id == _T.c.tag_id).join(_R, _R.c.seq == newest.c.seq)
    query = query.outerjoin(gap, gap.c.gap_id == _open_gap())
    query = query.where(_T.c.in_map == 1, ~_newer_in_another_unit()).order_by(_T.c.path, _T.c.tag_id)
    wanted = matcher(pattern)
    rows = (CurrentRow(RecordRow._make(row[:-2]), *row[-2:]) for row in connection.execute(query))
    return list(islice((row for row in rows if wanted.fullmatch(row.record.path)), limit))


def _newer_in_another_unit() -> sa.Exists:
    """As in ``v_current``: the tag went back to a unit in which it has said nothing since; one seek a tag."""
    other, last = _T.alias(), tables.newest.alias()
    of_it = sa.and_(other.c.id == _T.c.id, other.c.tag_id != _T.c.tag_id)
    later = sa.and_(last.c.tag_id == other.c.tag_id, last.c.source_ts > _R.c.source_ts)
    return sa.exists(other.c.tag_id).where(of_it, later).correlate(_T, _R)


def _open_gap() -> sa.ScalarSelect[int]:
    """As in ``v_current``: the oldest open gap of the tag, its source or every source, that no row came behind."""
    gap, of = tables.gaps.alias(), tables.gap_tags
    named = sa.exists().where(of.c.gap_id == gap.c.gap_id, of.c.tag_id == _T.c.tag_id).correlate(gap, _T)
    last = sa.or_(_R.c.received_ts <= gap.c.from_ns, _R.c.status >= BAD)
    concerned = sa.case((gap.c.whole_source == 1, gap.c.source.in_([_T.c.source, ""])), else_=named)
    return (
        sa.select(sa.func.min(gap.c.gap_id))
        .where(gap.c.to_ns.is_(None), gap.c.tags_digest != tables.EVENTS, last, concerned)
        .correlate(_T, _R)
        .scalar_subquery()
    )


def window(connection: sa.Connection, path: str, from_ns: int, to_ns: int, upto: int, limit: int) -> Window:
    """Rows of a tag with ``from_ns <= source_ts < to_ns`` and ``seq <= upto``, the latest *limit*, oldest first."""
    tag = tag_of(connection, path)
    rows: list[Any] = []
    if tag is not None:
        query = (
            sa.select(_R.c.source_ts, _R.c.value, _R.c.status)
            .where(_R.c.tag_id == tag.tag_id, _R.c.source_ts >= from_ns, _R.c.source_ts < to_ns, _R.c.seq <= upto)
            .where(not_replaced(upto), is_counted(_R.c.flags))
            .order_by(_R.c.source_ts.desc(), _R.c.seq.desc())
            .limit(limit)
        )
        rows = list(connection.execute(query))[::-1]
    return Window(
        np.array([row.source_ts for row in rows], np.int64),
        np.array([np.nan if row.value is None else row.value for row in rows], np.float64),
        np.array([row.status for row in rows], np.uint32),
    )


def last_value(
    connection: sa.Connection,
    path: str,
    before_ns: int,
    upto: int,
    in_memory: Callable[[int], Sequence[int]] = lambda _: (),
    unit: str | None = None,
) -> RecordRow | None:
    """
    The newest row of a tag with ``source_ts < before_ns`` and ``seq <= upto``, good or bad; None where there is none.

    The 1 min roll-ups say in which minute it lies, so that a quiet tag is found without a search through the others;
    *in_memory* gives the begins of a tag's minutes that may not be in SQL yet.
    """
    tag = tag_of(connection, path, unit)
    if tag is None:
        return None
    minute = tables.rollup_1m
    minutes = (
        sa.select(minute.c.bucket_ns)
        .where(minute.c.tag_id == tag.tag_id, minute.c.bucket_ns < before_ns)
        .order_by(minute.c.bucket_ns.desc())
        .limit(_MINUTES)
    )
    waiting = {start for start in in_memory(tag.tag_id) if start < before_ns}
    found = waiting.union(connection.execute(minutes).scalars().all())
    for start in sorted(found, reverse=True):
        query = (
            sa.select(*record_columns())
            .join(_T, _T.c.tag_id == _R.c.tag_id)
            .where(_R.c.tag_id == tag.tag_id, _R.c.source_ts >= start, _R.c.seq <= upto)
            .where(_R.c.source_ts < min(start + _MINUTE_NS, before_ns), not_replaced(upto))
            .order_by(_R.c.source_ts.desc(), _R.c.seq.desc())
            .limit(1)
        )
        row = connection.execute(query).first()
        if row is not None:
            return RecordRow._make(row)
    return None
