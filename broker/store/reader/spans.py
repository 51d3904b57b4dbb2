"""
Rows of many tags over one span in one pass, thinned where there are too many.

Records are keyed by time, so a span of one tag reads every tag's rows of that time: at 100,000 values a second two
minutes are 12 million rows, and an equipment has many tags. A span with too many rows is read in even slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import tables
from broker.store.reader.values import any_of, tag_of
from broker.store.rollups import is_counted
from broker.store.rows.records import Window
from broker.store.valid import not_replaced

_R = tables.records
#: Rows of all tags that one span may read, about 0.1 s.
SCAN: Final = 200_000
#: Slices of a span that holds more.
SLICES: Final = 64


class Spans:
    """
    Windows of several tags between *from_ns* and *to_ns*, as they were up to the record *upto*.

    *middle_ns* parts the span in two, each of which is read, or thinned, for itself. Where nothing is thinned a window
    has the rows of :func:`broker.store.reader.values.window`.
    """

    def __init__(
        self, connection: sa.Connection, paths: Sequence[str], from_ns: int, middle_ns: int, to_ns: int, upto: int
    ) -> None:
        self._from_ns, self._to_ns, self._upto = from_ns, to_ns, upto
        tags = {path: tag_of(connection, path) for path in paths}
        self._ids = {path: tag.tag_id for path, tag in tags.items() if tag is not None}
        rows: list[Any] = []
        self.thinned = False
        for low, high in ((from_ns, middle_ns), (middle_ns, to_ns)):
            for start, stop in self._slices(connection, low, high):
                rows += _rows(connection, list(self._ids.values()), start, stop, upto)
        self._tag: NDArray[np.int64] = np.array([row.tag_id for row in rows], np.int64)
        self._time = np.array([row.source_ts for row in rows], np.int64)
        self._value = np.array([np.nan if row.value is None else row.value for row in rows], np.float64)
        self._status = np.array([row.status for row in rows], np.uint32)

    def window(self, path: str, from_ns: int, to_ns: int, upto: int, limit: int) -> Window | None:
        """Rows of a tag within the span, the latest *limit*, oldest first; None for what was not read."""
        if upto != self._upto or from_ns < self._from_ns or to_ns > self._to_ns or path not in self._ids:
            return None
        mine = (self._tag == self._ids[path]) & (self._time >= from_ns) & (self._time < to_ns)
        places = np.flatnonzero(mine)[-limit:]
        return Window(self._time[places], self._value[places], self._status[places])

    def _slices(self, connection: sa.Connection, low: int, high: int) -> list[tuple[int, int]]:
        if high <= low:
            return []
        inside = sa.and_(_R.c.source_ts >= low, _R.c.source_ts < high)
        some = sa.select(_R.c.source_ts).where(inside).limit(SCAN + 1).subquery()
        if (connection.execute(sa.select(sa.func.count()).select_from(some)).scalar() or 0) <= SCAN:
            return [(low, high)]
        self.thinned = True
        # rows that come in the order of time are numbered in it, so two seeks tell about how many there are
        edges = [
            connection.execute(sa.select(_R.c.seq).where(inside).order_by(order).limit(1)).scalar() or 0
            for order in (_R.c.source_ts, _R.c.source_ts.desc())
        ]
        rows = max(abs(edges[1] - edges[0]), SCAN)
        step = max((high - low) // SLICES, 1)
        length = max(step * SCAN // rows, 1)
        return [(stop - length, stop) for stop in (high - step * turn for turn in reversed(range(SLICES)))]


def _rows(connection: sa.Connection, ids: list[int], from_ns: int, to_ns: int, upto: int) -> Sequence[Any]:
    query = (
        sa.select(_R.c.tag_id, _R.c.source_ts, _R.c.value, _R.c.status)
        .where(_R.c.source_ts >= from_ns, _R.c.source_ts < to_ns, _R.c.seq <= upto)
        .where(any_of(connection, _R.c.tag_id, ids), not_replaced(upto), is_counted(_R.c.flags))
        .order_by(_R.c.source_ts, _R.c.seq)
    )
    return connection.execute(query).all()
