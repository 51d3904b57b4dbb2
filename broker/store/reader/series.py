"""
One tag over one window: exact aggregates from roll-ups and records, minutes, and single rows.

Whole hours and minutes come from the roll-ups, the rest from the records (:mod:`broker.store.reader.pieces`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa

from broker.store import kept, tables
from broker.store.reader import values, waiting
from broker.store.reader.pieces import WIDTH, Piece, pieces
from broker.store.rollups import is_counted
from broker.store.rows.records import RecordRow
from broker.store.valid import not_replaced

_R = tables.records
_T = tables.tags
_ROLLUP: Final = {"1m": tables.rollup_1m, "1h": tables.rollup_1h}
_BAD: Final = 0x80000000


class Minute(NamedTuple):
    """What a minute's numbers did; ``n_value`` of them are finite and not bad."""

    bucket_ns: int
    n_value: int
    min: float
    max: float
    first_ns: int
    last: float


@dataclass(frozen=True, slots=True)
class Summary:
    """
    ``n`` rows, of which ``n_value`` carry a number that is not bad; min, max and mean of these.

    ``at_min`` and ``at_max`` are the earliest records with these values; None where there is no number, or where
    retention has removed them. ``unit`` is the tag's. ``complete`` False: retention has removed records of the window
    that no kept roll-up stands for, or too many minutes of it are being rolled up; these are in none of the figures.
    ``other_units`` are those in which the tag has numbers in the window that are in none of them: its unit changed.
    """

    path: str
    unit: str
    n: int
    n_bad: int
    n_value: int
    min: float | None
    max: float | None
    mean: float | None
    at_min: RecordRow | None
    at_max: RecordRow | None
    complete: bool
    other_units: tuple[str, ...] = ()


def _usable() -> sa.ColumnElement[Any]:
    """The number of a row where it is finite and not bad."""
    huge = sys.float_info.max
    return sa.case((sa.and_(_R.c.status < _BAD, _R.c.value.between(-huge, huge)), _R.c.value))


def _rows(tag_id: int, from_ns: int, to_ns: int) -> list[sa.ColumnElement[bool]]:
    inside = (_R.c.source_ts >= from_ns, _R.c.source_ts < to_ns)
    return [_R.c.tag_id == tag_id, *inside, is_counted(_R.c.flags), not_replaced(None)]


def _of_piece(connection: sa.Connection, tag_id: int, piece: Piece) -> Any:
    """n, n_bad, n_value, sum, min, max of one piece; the last four NULL without numbers."""
    if piece.level == "raw":
        usable = _usable()
        query = sa.select(
            sa.func.count(),
            sa.func.sum(sa.case((_R.c.status >= _BAD, 1), else_=0)),
            sa.func.count(usable),
            sa.func.sum(usable),
            sa.func.min(usable),
            sa.func.max(usable),
        ).where(*_rows(tag_id, piece.from_ns, piece.to_ns))
    else:
        table = _ROLLUP[piece.level]
        query = sa.select(
            *(sa.func.sum(table.c[name]) for name in ("n", "n_bad", "n_value")),
            sa.func.sum(sa.case((table.c.n_value > 0, table.c.sum))),
            sa.func.min(table.c.min),
            sa.func.max(table.c.max),
        ).where(*_buckets(table, tag_id, piece))
    return connection.execute(query).one()


def _buckets(table: sa.Table, tag_id: int, piece: Piece) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.tag_id == tag_id,
        table.c.bucket_ns >= piece.from_ns,
        table.c.bucket_ns < piece.to_ns,
        table.c.revision == 0,
    ]


def summary(connection: sa.Connection, path: str, from_ns: int, to_ns: int, unit: str | None = None) -> Summary | None:
    """Aggregates of a tag in ``from_ns <= t < to_ns``; None for an unknown path."""
    tag = values.tag_of(connection, path, unit)
    if tag is None:
        return None
    gone = kept.gone(connection)
    cut, late_ns = waiting.around(pieces(from_ns, to_ns, gone.records_ns), waiting.minutes(connection, tag.tag_id))
    parts = [(piece, _of_piece(connection, tag.tag_id, piece)) for piece in cut]
    n, n_bad, n_value = (sum(int(row[i] or 0) for _, row in parts) for i in range(3))
    least = min(((row[4], piece) for piece, row in parts if row[4] is not None), key=lambda p: p[0], default=None)
    most = max(((row[5], piece) for piece, row in parts if row[5] is not None), key=lambda p: p[0], default=None)
    total = sum(float(row[3]) for _, row in parts if row[3] is not None)
    return Summary(
        path=path,
        unit=tag.unit,
        n=n,
        n_bad=n_bad,
        n_value=n_value,
        min=None if least is None else float(least[0]),
        max=None if most is None else float(most[0]),
        mean=total / n_value if n_value else None,
        at_min=None if least is None else _record_with(connection, tag.tag_id, least[1], float(least[0]), "min"),
        at_max=None if most is None else _record_with(connection, tag.tag_id, most[1], float(most[0]), "max"),
        complete=late_ns is None and not any(lacks(connection, tag.tag_id, piece, gone) for piece in cut),
        other_units=values.other_units(connection, tag, from_ns, to_ns),
    )


def lacks(connection: sa.Connection, tag_id: int, piece: Piece, gone: kept.Gone) -> bool:
    """Whether retention has removed what a piece is answered from, in part or whole."""
    if piece.level == "raw" and kept.records_missing(connection, tag_id, piece.from_ns, piece.to_ns, gone):
        return True
    return piece.level != "1h" and kept.minutes_missing(connection, tag_id, piece.from_ns, piece.to_ns, gone)


def _record_with(
    connection: sa.Connection, tag_id: int, piece: Piece, value: float, which: Literal["min", "max"]
) -> RecordRow | None:
    """The earliest record of a piece with this value: hours lead to a minute, the minute to the row."""
    while piece.level != "raw":
        table = _ROLLUP[piece.level]
        query = sa.select(table.c.bucket_ns).where(*_buckets(table, tag_id, piece), table.c[which] == value)
        start = connection.execute(query.order_by(table.c.bucket_ns).limit(1)).scalar()
        if start is None:
            return None
        piece = Piece("1m" if piece.level == "1h" else "raw", start, start + WIDTH[piece.level])
    found = rows(connection, tag_id, piece.from_ns, piece.to_ns, limit=1, value=value)
    return found[0] if found else None


def rows(
    connection: sa.Connection,
    tag_id: int,
    from_ns: int,
    to_ns: int,
    *,
    limit: int,
    value: float | None = None,
    behind: RecordRow | None = None,
) -> list[RecordRow]:
    """
    Records of a tag in order of time and ``seq``, with a number that is not bad.

    Those with *value* and those *behind* a row, where these are given.
    """
    query = sa.select(*values.record_columns()).join(_T, _T.c.tag_id == _R.c.tag_id)
    query = query.where(*_rows(tag_id, from_ns, to_ns), _usable().is_not(None))
    if value is not None:
        query = query.where(_R.c.value == value)
    if behind is not None:
        after = sa.and_(_R.c.source_ts == behind.source_ns, _R.c.seq > behind.seq)
        query = query.where(sa.or_(_R.c.source_ts > behind.source_ns, after))
    query = query.order_by(_R.c.source_ts, _R.c.seq).limit(limit)
    return [RecordRow._make(row) for row in connection.execute(query)]


def last_before(connection: sa.Connection, path: str, before_ns: int, unit: str | None = None) -> RecordRow | None:
    """The newest record of a tag before a time, good or bad; None for none and for an unknown path."""
    tag = values.tag_of(connection, path, unit)
    if tag is None:
        return None
    newest = tables.newest.c
    query = sa.select(*values.record_columns()).join(_T, _T.c.tag_id == _R.c.tag_id)
    query = query.join(tables.newest, newest.seq == _R.c.seq).where(newest.tag_id == tag.tag_id)
    row = connection.execute(query.where(_R.c.source_ts < before_ns)).first()
    if row is not None:
        return RecordRow._make(row)
    head = values.span(connection)[1]
    return values.last_value(
        connection, path, before_ns, head, lambda tag_id: waiting.minutes(connection, tag_id), unit
    )


def minutes(connection: sa.Connection, tag_id: int, from_ns: int, to_ns: int) -> list[Minute]:
    """Whole minutes with numbers from the roll-ups, in order."""
    table = tables.rollup_1m
    columns = [table.c[name] for name in Minute._fields]
    piece = Piece("1m", from_ns, to_ns)
    query = sa.select(*columns).where(*_buckets(table, tag_id, piece), table.c.n_value > 0).order_by(table.c.bucket_ns)
    return [Minute._make(row) for row in connection.execute(query)]
