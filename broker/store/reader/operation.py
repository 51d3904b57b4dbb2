"""Gaps, quarantine, sources and figures: how the data came in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from broker.store import tables
from broker.store.reader.values import any_of, span
from broker.store.rollups import HOUR_NS, MINUTE_NS
from broker.store.rows.operation import Counts, GapRow, QuarantineRow, SourceRow

_G = tables.gaps
_T = tables.tags
#: Source of a gap that concerns all of them, such as a damaged journal.
EVERY_SOURCE: Final = ""


def gap_query() -> sa.Select[Any]:
    """Columns of a GapRow, one row a gap and tag."""
    marks = tables.gap_tags
    scope = sa.case((_G.c.tags_digest == tables.EVENTS, "events"), else_="samples").label("scope")
    columns = (_G.c.gap_id, _G.c.source, _T.c.path, _G.c.cause, _G.c.from_ns, _G.c.to_ns, _G.c.backfilled, _G.c.detail)
    return sa.select(*columns, scope, _T.c.id, _G.c.changed).select_from(
        _G.outerjoin(marks, marks.c.gap_id == _G.c.gap_id).outerjoin(_T, _T.c.tag_id == marks.c.tag_id)
    )


def gap_rows(rows: sa.CursorResult[Any]) -> list[GapRow]:
    """Rows of :func:`gap_query`."""
    return [GapRow._make(row)._replace(backfilled=bool(row.backfilled)) for row in rows]


def list_gaps(connection: sa.Connection, limit: int, source: str | None, state: str | None) -> list[GapRow]:
    """
    Gaps, newest first, one row a gap and tag; *state* ``open`` or ``closed``.

    *source* also brings those that concern every source (source ``""``).
    """
    query = gap_query().order_by(_G.c.gap_id.desc(), _T.c.path).limit(limit)
    if source is not None:
        query = query.where(_G.c.source.in_([source, EVERY_SOURCE]))
    if state is not None:
        query = query.where(_G.c.to_ns.is_(None) if state == "open" else _G.c.to_ns.is_not(None))
    return gap_rows(connection.execute(query))


def gaps_between(
    connection: sa.Connection, paths: Sequence[str], from_ns: int, to_ns: int, source: str | None
) -> list[GapRow]:
    """
    Gaps that overlap ``from_ns <= time < to_ns``, oldest first: of *paths*, of the whole of their sources and of
    *source*, and of every source.
    """
    found = connection.execute(sa.select(_T.c.tag_id, _T.c.source).where(_T.c.path.in_(list(paths)))).all()
    sources = {row.source for row in found} | {EVERY_SOURCE} | ({source} if source is not None else set())
    concerned = any_of(connection, tables.gap_tags.c.tag_id, [row.tag_id for row in found])
    whole = sa.and_(_G.c.whole_source == 1, _G.c.source.in_(sorted(sources)))
    query = (
        gap_query()
        .where(_G.c.from_ns < to_ns, sa.or_(_G.c.to_ns.is_(None), _G.c.to_ns > from_ns), sa.or_(whole, concerned))
        .order_by(_G.c.from_ns, _G.c.gap_id, _T.c.path)
    )
    return gap_rows(connection.execute(query))


def corrected_between(connection: sa.Connection, paths: Sequence[str], from_ns: int, to_ns: int) -> bool:
    """Whether minutes or hours of one of *paths* that touch ``from_ns <= time < to_ns`` wait to be made anew."""
    stale = tables.stale_buckets.c
    ids = connection.execute(sa.select(_T.c.tag_id).where(_T.c.path.in_(list(paths)))).scalars().all()
    width_ns = sa.case((stale.level == 0, MINUTE_NS), else_=HOUR_NS)
    where = sa.and_(stale.bucket_ns < to_ns, stale.bucket_ns + width_ns > from_ns)
    concerned = any_of(connection, stale.tag_id, ids)
    return connection.execute(sa.select(sa.literal(1)).where(where, concerned).limit(1)).first() is not None


def list_quarantine(connection: sa.Connection, limit: int, before: int | None) -> list[QuarantineRow]:
    """Quarantine rows, newest first, with ``quarantine_id < before``."""
    table = tables.quarantine
    columns = [table.c[name] for name in QuarantineRow._fields]
    query = sa.select(*columns).order_by(table.c.quarantine_id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.quarantine_id < before)
    return [QuarantineRow._make(row)._replace(raw=bytes(row.raw)) for row in connection.execute(query)]


def list_sources(connection: sa.Connection) -> list[SourceRow]:
    """Sources that the stream has named, by name."""
    table = tables.sources
    columns = [table.c[name] for name in SourceRow._fields]
    rows = connection.execute(sa.select(*columns).order_by(table.c.source))
    return [SourceRow._make(row)._replace(up=None if row.up is None else bool(row.up)) for row in rows]


def store_id(connection: sa.Connection) -> str:
    """The name of this store; empty for one that was made before names."""
    query = sa.select(tables.facts.c.value).where(tables.facts.c.name == tables.STORE_ID)
    return connection.execute(query).scalar() or ""


def counts(connection: sa.Connection) -> Counts:
    """Figures of the whole store, from counters and indexes: the time does not grow with what is stored."""
    first, last = span(connection)
    counters: dict[str, int] = dict(connection.execute(sa.select(tables.counters)).all())
    anomalies, rejects = tables.anomalies, sa.func.sum(tables.sources.c.quarantined)
    open_ = anomalies.c.state == "open"
    size, wal = _bytes(connection)
    return Counts(
        records=last,
        first_seq=first,
        gaps_open=_count(connection, _G, _G.c.to_ns.is_(None)),
        quarantine=int(connection.execute(sa.select(rejects)).scalar() or 0),
        anomalies_open=_count(connection, anomalies, open_ & anomalies.c.suppressed.is_(None)),
        anomalies_suppressed=_count(connection, anomalies, open_ & anomalies.c.suppressed.is_not(None)),
        suppressions=_count(connection, tables.suppressions, tables.suppressions.c.ended_ns.is_(None)),
        pending_review=_count(connection, anomalies, anomalies.c.waiting == 1),
        documents=counters.get("documents", 0),
        tags=counters.get("tags_in_map", 0),
        epoch=counters.get("epoch", 0),
        seq=counters.get("seq", 0),
        bytes=size,
        wal_bytes=wal,
    )


def _count(connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(where)).scalar_one())


def _bytes(connection: sa.Connection) -> tuple[int, int]:
    if connection.dialect.name != "sqlite":
        return int(connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()), 0
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    wal = Path(f"{connection.engine.url.database}-wal")
    return pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one(), _size(wal)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
