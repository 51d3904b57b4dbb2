"""
What retention has taken from one tag's past: records that minutes still count, minutes that hours still count.

Retention removes by time of arrival, and a query names device times. So a counter says only where something may be
missing, and the coarser roll-up says what was there.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import sqlalchemy as sa

from broker.store import tables
from broker.store.rollups import HOUR_NS, MINUTE_NS, is_counted
from broker.store.valid import not_replaced

#: Counters: records received before, and minutes that begin before, may be removed (set by retention).
RECORDS_GONE: Final = "records_gone_ns"
MINUTES_GONE: Final = "minutes_gone_ns"
#: Counter: the highest place of a change of a gap that retention removed; others may be left in lower ones.
GAPS_GONE: Final = "gap_changes_gone"
#: A device time may be ahead of reception by so much; a minute that is younger than this in retention's eyes is whole.
AHEAD_NS: Final = 86_400_000_000_000
_R = tables.records


class Gone(NamedTuple):
    """Records that came before ``records_ns``, and minutes that begin before ``minutes_ns``, may be removed."""

    records_ns: int
    minutes_ns: int


def gone(connection: sa.Connection) -> Gone:
    """How far retention has come; 0 where it removed nothing yet."""
    counter = tables.counters.c
    query = sa.select(counter.name, counter.value).where(counter.name.in_((RECORDS_GONE, MINUTES_GONE)))
    found = {row.name: row.value for row in connection.execute(query)}
    return Gone(found.get(RECORDS_GONE, 0), found.get(MINUTES_GONE, 0))


def records_missing(connection: sa.Connection, tag_id: int, from_ns: int, to_ns: int, gone: Gone) -> bool:
    """Whether the minutes that a span touches count more rows than are there; a span of few minutes."""
    if not gone.records_ns or from_ns >= gone.records_ns + AHEAD_NS:
        return False
    low, high = from_ns // MINUTE_NS * MINUTE_NS, -(-to_ns // MINUTE_NS) * MINUTE_NS
    there = sa.select(sa.func.count()).where(
        _R.c.tag_id == tag_id, _R.c.source_ts >= low, _R.c.source_ts < high, is_counted(_R.c.flags), not_replaced()
    )
    counted = _counted(connection, tables.rollup_1m, tag_id, low, high)
    return counted > 0 and counted > (connection.execute(there).scalar() or 0)


def minutes_missing(connection: sa.Connection, tag_id: int, from_ns: int, to_ns: int, gone: Gone) -> bool:
    """Whether the hours that a span touches count more rows than their minutes do."""
    if from_ns >= gone.minutes_ns:
        return False
    low, high = from_ns // HOUR_NS * HOUR_NS, -(-min(to_ns, gone.minutes_ns) // HOUR_NS) * HOUR_NS
    hours, minutes = (_counted(connection, table, tag_id, low, high) for table in (tables.rollup_1h, tables.rollup_1m))
    return hours > minutes


def _counted(connection: sa.Connection, table: sa.Table, tag_id: int, low: int, high: int) -> int:
    query = sa.select(sa.func.sum(table.c.n)).where(
        table.c.tag_id == tag_id, table.c.bucket_ns >= low, table.c.bucket_ns < high, table.c.revision == 0
    )
    return int(connection.execute(query).scalar() or 0)
