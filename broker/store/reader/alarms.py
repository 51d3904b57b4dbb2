"""Events of servers, in the order in which they came and by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from broker.store import tables
from broker.store.reader.values import matcher
from broker.store.rows.alarms import EventPage, EventRow, EventTail

_E: Final = tables.events
#: Rows that one filtered page looks at.
SCAN: Final = 50_000
_COLUMNS: Final = [_E.c[name] for name in EventRow._fields]
_H: Final = _E.alias("h")
#: No correction of it is stored.
_VALID: Final = ~sa.exists().where(
    _H.c.source == _E.c.source,
    _H.c.time_ns == _E.c.time_ns,
    _H.c.fingerprint == _E.c.fingerprint,
    _H.c.revision > _E.c.revision,
)
_SWITCHES: Final = ("retain", "enabled", "acked", "confirmed", "active")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """
    Which events: all that *equipment* (``*`` stands for anything) and *source* name, of *severity* or more.

    ``since_ns``: that happened then or later.
    """

    equipment: str | None = None
    source: str | None = None
    severity: int | None = None
    since_ns: int | None = None

    def where(self) -> list[sa.ColumnElement[bool]]:
        """
        The conditions; a pattern still has to be compared exactly (:meth:`fits`).

        Written so that no index serves them: the walk along ``seq`` is bounded, all events of a source are not.
        """
        found: list[sa.ColumnElement[bool]] = []
        if self.equipment is not None and self.equipment != "*":
            like = _E.c.equipment.like(self._pattern, escape="\\")
            found.append(like if self._open else _E.c.equipment + "" == self.equipment)
        if self.source is not None:
            found.append(_E.c.source + "" == self.source)
        if self.severity is not None:
            found.append(_E.c.severity >= self.severity)
        if self.since_ns is not None:
            found.append(_E.c.time_ns + 0 >= self.since_ns)
        return found

    def fits(self, rows: list[EventRow]) -> list[EventRow]:
        """SQLite compares a pattern without regard to case."""
        if not self._open:
            return rows
        wanted = matcher(self.equipment)
        return [row for row in rows if wanted.fullmatch(row.equipment)]

    @property
    def _pattern(self) -> str:
        literal = (self.equipment or "*").replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return literal.replace("*", "%")

    @property
    def _open(self) -> bool:
        return "*" in (self.equipment or "*")


def span(connection: sa.Connection) -> tuple[int | None, int]:
    """(lowest seq still kept or None, highest seq ever given)."""
    first = connection.execute(sa.select(sa.func.min(_E.c.seq))).scalar()
    last = connection.execute(sa.select(tables.counters.c.value).where(tables.counters.c.name == "event_seq")).scalar()
    return first, last or 0


def page(connection: sa.Connection, after: int, limit: int, wanted: EventFilter) -> EventPage:
    """
    One page of events with ``seq > after``, all revisions; a filtered page looks at ``SCAN`` rows at most.

    What is corrected later is on it as it was stored: the correction has a ``seq`` of its own.
    """
    first, head = span(connection)
    if first is None:
        return EventPage([], max(after, head), False)
    after = max(after, first - 1)
    where = wanted.where()
    until = min(head, after + SCAN) if where else head
    query = sa.select(*_COLUMNS).where(_E.c.seq > after, _E.c.seq <= until, *where).order_by(_E.c.seq).limit(limit)
    rows = _rows(connection.execute(query))
    if len(rows) == limit:
        return EventPage(wanted.fits(rows), rows[-1].seq, rows[-1].seq < head)
    return EventPage(wanted.fits(rows), until, until < head)


def newest(
    connection: sa.Connection, limit: int, wanted: EventFilter, in_time: Callable[[], bool] = lambda: True
) -> EventTail:
    """
    The last events by arrival, each as its highest revision says.

    A filtered search goes back ``SCAN`` rows at a time, as long as *in_time* says so.
    """
    first, head = span(connection)
    if first is None:
        return EventTail([], None)
    where = wanted.where()
    rows: list[EventRow] = []
    upto = head
    while True:
        low = max(upto - SCAN, first - 1) if where else first - 1
        query = sa.select(*_COLUMNS).where(_E.c.seq > low, _E.c.seq <= upto, *where).order_by(_E.c.seq.desc())
        found = _rows(connection.execute(query.where(_VALID).limit(limit)))
        upto = found[-1].seq - 1 if len(found) == limit else low
        rows += wanted.fits(found)
        if len(rows) >= limit or upto < first:
            return EventTail(rows[:limit][::-1], None)
        if not in_time():
            return EventTail(rows[::-1], upto + 1)


def between(connection: sa.Connection, equipment: str, from_ns: int, to_ns: int, limit: int) -> list[EventRow]:
    """Events of one piece of equipment with ``from_ns <= time < to_ns``: the last *limit*, oldest first."""
    query = (
        sa.select(*_COLUMNS)
        .where(_E.c.equipment == equipment, _E.c.time_ns >= from_ns, _E.c.time_ns < to_ns, _VALID)
        .order_by(_E.c.time_ns.desc(), _E.c.seq.desc())
        .limit(limit)
    )
    return _rows(connection.execute(query))[::-1]


def _rows(found: sa.CursorResult[Any]) -> list[EventRow]:
    rows = []
    for row in found:
        values = row._asdict()
        values.update({name: None if values[name] is None else bool(values[name]) for name in _SWITCHES})
        values["fields"] = msgspec.json.decode(values["fields"])
        rows.append(EventRow(**values))
    return rows
