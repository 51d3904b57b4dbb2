"""
Where a condition on one tag's value began to hold.

The roll-ups say of most minutes that the condition holds for all of their numbers or for none; only the others are read
record by record. There is no index by tag, so that such a minute costs the rows of all tags: their number is limited,
and so is the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import sqlalchemy as sa

from broker.store import kept, tables
from broker.store.reader import values, waiting
from broker.store.reader.pieces import Piece, pieces
from broker.store.reader.series import Minute, lacks, last_before, minutes, rows
from broker.store.rollups import MINUTE_NS
from broker.store.rows.records import RecordRow

_BAD: Final = 0x80000000
#: Rows that are read at once.
PAGE: Final = 10_000
#: Minutes that are read at once.
_STEP_NS: Final = 1440 * MINUTE_NS


@dataclass(frozen=True, slots=True)
class Begins:
    """
    Records at which a condition began to hold, oldest first.

    ``held_before``: it held already when the window began. ``complete`` False: a limit of begins, of minutes or of time
    was reached, or (``removed``) retention has taken records that had to be read; up to ``until_ns`` all are found.
    ``other_units`` are those in which the tag has numbers in the window that were not looked at: its unit changed.
    """

    path: str
    unit: str
    records: list[RecordRow]
    held_before: bool
    complete: bool
    until_ns: int
    removed: bool = False
    other_units: tuple[str, ...] = ()


class Threshold(NamedTuple):
    """``above`` or ``below`` a limit, or ``equals`` a number."""

    comparison: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether the condition holds for a number."""
        if self.comparison == "above":
            return value > self.limit
        return value < self.limit if self.comparison == "below" else value == self.limit

    def of_minute(self, minute: Minute) -> bool | None:
        """Whether it holds for all (True) or none (False) of a minute's numbers; None where the records must say."""
        if self.comparison == "equals" and minute.min < minute.max:
            return None if minute.min <= self.limit <= minute.max else False
        low, high = self.holds(minute.min), self.holds(minute.max)
        return low if low == high else None


class _Stretch(NamedTuple):
    """Part of a window; ``told`` what its roll-up says, ``n_value`` how many numbers it counts at least."""

    from_ns: int
    to_ns: int
    told: bool | None
    n_value: int


class _Stop(Exception):
    """No more is looked at from ``until_ns`` on."""

    def __init__(self, until_ns: int, *, removed: bool = False) -> None:
        self.until_ns = until_ns
        self.removed = removed


def begins(
    connection: sa.Connection,
    path: str,
    from_ns: int,
    to_ns: int,
    test: Threshold,
    most: int,
    raw_minutes: int,
    in_time: Callable[[], bool] = lambda: True,
) -> Begins | None:
    """
    Where a condition began to hold in a window; None for an unknown path.

    Minutes of which the roll-up says everything are not read; of the others at most *raw_minutes* are. It ends with the
    begin that makes *most*, and before the next page of rows when *in_time* says no.
    """
    tag = values.tag_of(connection, path)
    if tag is None:
        return None
    others = values.other_units(connection, tag, from_ns, to_ns)
    gone = kept.gone(connection)
    held = _held_before(connection, path, tag.tag_id, from_ns, test, gone)
    if held is None:
        return Begins(path, tag.unit, [], False, False, from_ns, True, others)
    found: list[RecordRow] = []
    state, budget = held, raw_minutes
    try:
        for stretch in _stretches(connection, tag.tag_id, from_ns, to_ns, test, gone):
            if not in_time():
                raise _Stop(stretch.from_ns)
            if stretch.told is not None and (stretch.told == state or not stretch.told):
                state = stretch.told
                continue
            if budget == 0:
                raise _Stop(stretch.from_ns)
            budget -= 1
            read = 0
            for row in _read(connection, tag.tag_id, stretch, in_time):
                read += 1
                now = row.value is not None and test.holds(row.value)
                if now and not state:
                    found.append(row)
                    if len(found) == most:
                        raise _Stop(row.source_ns + 1)
                state = now
            if read < stretch.n_value:
                found = [row for row in found if row.source_ns < stretch.from_ns]
                raise _Stop(stretch.from_ns, removed=True)
    except _Stop as stop:
        return Begins(path, tag.unit, found, held, False, stop.until_ns, stop.removed, others)
    return Begins(path, tag.unit, found, held, True, to_ns, other_units=others)


def _held_before(
    connection: sa.Connection, path: str, tag_id: int, from_ns: int, test: Threshold, gone: kept.Gone
) -> bool | None:
    """What the newest record before a time says, or the roll-up of its minute; None where both are not there."""
    row = last_before(connection, path, from_ns)
    minute = tables.rollup_1m.c
    query = sa.select(minute.bucket_ns, minute.last, minute.last_ns, minute.end_ns).where(
        minute.tag_id == tag_id, minute.bucket_ns < from_ns, minute.revision == 0
    )
    # two: all rows of the newest may lie behind the begin of the window
    for newest in connection.execute(query.order_by(minute.bucket_ns.desc()).limit(2)).all():
        if row is not None and row.source_ns >= newest.bucket_ns:
            break
        if kept.records_missing(connection, tag_id, newest.bucket_ns, newest.bucket_ns + 1, gone):
            if newest.end_ns >= from_ns:
                return None
            return newest.last_ns == newest.end_ns and newest.last is not None and test.holds(newest.last)
    return row is not None and row.value is not None and row.status < _BAD and test.holds(row.value)


def _read(
    connection: sa.Connection, tag_id: int, stretch: _Stretch, in_time: Callable[[], bool]
) -> Iterator[RecordRow]:
    last: RecordRow | None = None
    while True:
        page = rows(connection, tag_id, stretch.from_ns, stretch.to_ns, limit=PAGE, behind=last)
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1]
        if not in_time():
            raise _Stop(last.source_ns)


def _stretches(
    connection: sa.Connection, tag_id: int, from_ns: int, to_ns: int, test: Threshold, gone: kept.Gone
) -> Iterator[_Stretch]:
    cut, late_ns = waiting.around(pieces(from_ns, to_ns, gone.records_ns), waiting.minutes(connection, tag_id))
    for piece in _steps(cut):
        if lacks(connection, tag_id, piece, gone):
            raise _Stop(piece.from_ns, removed=True)
        if piece.level == "raw":
            yield _Stretch(piece.from_ns, piece.to_ns, None, 0)
            continue
        for minute in minutes(connection, tag_id, piece.from_ns, piece.to_ns):
            if late_ns is not None and minute.bucket_ns >= late_ns:
                raise _Stop(late_ns)
            end_ns = minute.bucket_ns + MINUTE_NS
            yield _Stretch(minute.bucket_ns, end_ns, test.of_minute(minute), minute.n_value)
        if late_ns is not None and late_ns < piece.to_ns:
            raise _Stop(late_ns)


def _steps(parts: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces with minutes in the place of hours, none longer than a step."""
    for part in parts:
        for low, high in pairwise([*range(part.from_ns, part.to_ns, _STEP_NS), part.to_ns]):
            yield Piece("1m" if part.level == "1h" else part.level, low, high)
