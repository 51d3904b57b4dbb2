"""What the writer keeps in memory between transactions; all of it can be read again from SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import bulk, tables
from broker.store.levels import Level, levels
from broker.store.rollups import Inserted, counted_of, is_counted, joined
from broker.store.rows.manuals import ManualRow, PassageRow
from broker.store.text import clean
from broker.store.valid import not_replaced
from schemas.tagmap import Tag, TagMap

#: Rows read at once where many were not rolled up.
_PAGE: Final = 50_000
#: Before every time.
NEVER: Final = np.iinfo(np.int64).min


class Timeless(NamedTuple):
    """A stored event that came without a time: where it stands, and the time of arrival that it got."""

    seq: int
    time_ns: int


@dataclass(slots=True)
class Memory:
    """
    Counters, tag numbers, and what spares the writer a look into SQL.

    Attributes:
        counters: last used numbers by name; ``dirty`` are those to be written at the end of the transaction.
        numbering: by map revision: int64[tag number] of ``tag_id``.
        tag_ids: by stable tag id and unit.
        newest_ns: int64[tag_id], no stored row of the tag is newer; a row that is newer cannot be a redelivery.
            After a restart it leaves out rows that only confirm that nothing changed.
        told_ns: int64[tag_id], time of the row that the table ``newest`` names.
        rollups: the newest buckets of each level.
        pending: stored live rows that the roll-ups do not count yet, in order of seq. The counter ``rolled_seq`` says
            up to which row SQL holds all that the roll-ups count.
        timeless: by source and fingerprint, in order of ``seq``: late events that have a name and no time; None before
            they are asked for.
        manuals: imported files; None before they are asked for. ``passages``: what was found in them, by question.
    """

    counters: dict[str, int]
    tag_ids: dict[tuple[str, str], int]
    numbering: dict[bytes, NDArray[np.int64]]
    newest_ns: NDArray[np.int64]
    told_ns: NDArray[np.int64]
    rollups: tuple[Level, Level]
    pending: list[Inserted] = field(default_factory=list)
    dirty: set[str] = field(default_factory=set)
    timeless: dict[tuple[str, int], Timeless] | None = None
    manuals: list[ManualRow] | None = None
    passages: dict[tuple[object, ...], list[PassageRow]] = field(default_factory=dict)

    @classmethod
    def load(cls, connection: sa.Connection) -> Memory:
        """Read everything anew, at the start and after a transaction that failed."""
        counters: dict[str, int] = dict(connection.execute(sa.select(tables.counters)).all())
        known = tables.tags.c
        tag_ids = {
            (row.id, row.unit): row.tag_id for row in connection.execute(sa.select(known.id, known.unit, known.tag_id))
        }
        times = np.full(counters.get("tag_id", 0) + 1, NEVER, np.int64)
        for tag_id, source_ns in connection.execute(sa.select(tables.newest.c.tag_id, tables.newest.c.source_ts)):
            times[tag_id] = source_ns
        memory = cls(counters, tag_ids, {}, times, times.copy(), levels())
        for level in memory.rollups:
            level.make_room(times)
        memory._count_again(connection)
        return memory

    def _count_again(self, connection: sa.Connection) -> None:
        """Count the rows whose buckets waited in memory when the process ended."""
        if "rolled_seq" not in self.counters:
            # a store from before the roll-ups could wait: they hold everything
            self.set("rolled_seq", self.last("record_seq"))
            return
        seq = self.last("rolled_seq")
        records = tables.records.c
        columns = (records.seq, records.source_ts, records.tag_id, records.value, records.status)
        query = sa.select(*columns, records.increase, records.flags).order_by(records.seq).limit(_PAGE)
        # the buckets of what a replay wrote are noted as stale, and made anew as a whole
        query = query.where(records.revision == 0, is_counted(records.flags))
        if self.last("replay"):
            query = query.where(not_replaced())
        while True:
            rows = connection.execute(query.where(records.seq > seq)).all()
            if not rows:
                return
            seq = rows[-1].seq
            part = _inserted(rows)
            np.maximum.at(self.newest_ns, part.tag_id, part.source_ns)
            self.pending.append(part)
            self.count(connection)

    def count(self, connection: sa.Connection) -> None:
        """Let the roll-ups in memory count the rows stored so far, and name each tag's newest row in SQL."""
        waiting, self.pending = self.pending, []
        if waiting:
            rows = joined(waiting)
            minutes, hours = self.rollups
            self.note_newest(connection, minutes.add(connection, rows))
            hours.add(connection, rows)

    def roll_up(self, connection: sa.Connection, *, everything: bool = False) -> None:
        """Count, and write the buckets that have waited longest; *everything*: all."""
        self.count(connection)
        for level in self.rollups:
            level.write(connection, everything=everything)
        oldest = min(level.oldest_seq() for level in self.rollups)
        self.set("rolled_seq", min(oldest - 1, self.last("record_seq")))

    def note_newest(self, connection: sa.Connection, buckets: NDArray[np.void]) -> None:
        """Name the newest rows of these minutes, sorted by tag and begin, in ``newest`` where no newer one is named."""
        last = buckets[np.append(buckets["tag_id"][1:] != buckets["tag_id"][:-1], True)[: len(buckets)]]
        last = last[last["end_ns"] >= self.told_ns[last["tag_id"]]]
        if len(last):
            self.told_ns[last["tag_id"]] = last["end_ns"]
            columns = [last[name].tolist() for name in ("tag_id", "end_ns", "end_seq")]
            bulk.replace(connection, tables.newest, columns)

    def name_newest(self, connection: sa.Connection, rows: Inserted) -> None:
        """Name the newest of these rows of each tag in ``newest`` where no newer one is named."""
        order = np.lexsort((rows.seq, rows.source_ns, rows.tag_id))
        last = order[np.append(np.diff(rows.tag_id[order]) != 0, True)]
        last = last[rows.source_ns[last] >= self.told_ns[rows.tag_id[last]]]
        if len(last):
            columns = (rows.tag_id[last], rows.source_ns[last], rows.seq[last])
            self.told_ns[columns[0]] = columns[1]
            bulk.replace(connection, tables.newest, [column.tolist() for column in columns])

    def last(self, name: str) -> int:
        """Last used number of a counter, 0 before the first."""
        return self.counters.get(name, 0)

    def next(self, name: str) -> int:
        """Use the next number of a counter."""
        self.set(name, self.last(name) + 1)
        return self.counters[name]

    def set(self, name: str, value: int) -> None:
        """Set a counter; it is written when the transaction ends."""
        if self.counters.get(name) != value:
            self.counters[name] = value
            self.dirty.add(name)

    def make_room(self) -> None:
        """Let ``newest_ns`` and the roll-ups reach the highest ``tag_id``; new tags have no rows."""
        more = self.last("tag_id") + 1 - len(self.newest_ns)
        if more > 0:
            self.newest_ns = np.concatenate([self.newest_ns, np.full(more, NEVER, np.int64)])
            self.told_ns = np.concatenate([self.told_ns, np.full(more, NEVER, np.int64)])
            for level in self.rollups:
                level.make_room(self.newest_ns)

    def flush(self, connection: sa.Connection) -> None:
        """Write the counters that changed."""
        bulk.put(connection, tables.counters, [(name, self.counters[name]) for name in sorted(self.dirty)])
        self.dirty.clear()


def _inserted(rows: Sequence[Sequence[Any]]) -> Inserted:
    """Rows (seq, time, tag, value, status, increase, flags) as columns; NULL is NaN."""
    seq, source_ns, tag_id, value, status, increase, flags = zip(*rows, strict=True)
    return Inserted(
        np.array(seq, np.int64),
        np.array(source_ns, np.int64),
        np.array(tag_id, np.int64),
        np.array(value, np.float64),
        np.array(status, np.uint32),
        counted_of(increase, flags),
    )


def identity(tag: Tag) -> tuple[str, str]:
    """What a ``tag_id`` stands for: the stable id and the unit, as SQL has them."""
    return clean(tag.id), clean(tag.unit)


def numbers(memory: Memory, tag_map: TagMap) -> NDArray[np.int64]:
    """int64[tag number] of ``tag_id`` of a map whose tags are all registered; -1 where a number is not used."""
    size = max((tag.number for tag in tag_map.tags), default=-1) + 1
    found = np.full(size, -1, np.int64)
    for tag in tag_map.tags:
        found[tag.number] = memory.tag_ids[identity(tag)]
    return found


def upsert(connection: sa.Connection, table: sa.Table, key: dict[str, object], values: dict[str, object]) -> None:
    """Set *values* in the row with this key, or insert it; the same statement on both databases."""
    where = sa.and_(*(table.c[name] == item for name, item in key.items()))
    if connection.execute(table.update().where(where).values(**values)).rowcount == 0:
        connection.execute(table.insert().values(**key, **values))
