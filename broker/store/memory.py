"""What the writer keeps in memory between transactions; all of it can be read again from SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import bulk, tables
from broker.store.rollups import Inserted, Level, joined, levels
from schemas.tagmap import TagMap

#: Rows read at once where many wait for the roll-ups.
_PARTITION: Final = 50_000
#: Before every time.
NEVER: Final = np.iinfo(np.int64).min


@dataclass(slots=True)
class Memory:
    """
    Counters, tag numbers, and what spares the writer a look into SQL.

    Attributes:
        counters: last used numbers by name; ``dirty`` are those to be written at the end of the transaction.
        numbering: by map revision: int64[tag number] of ``tag_id``.
        tag_ids: by stable tag id.
        newest_ns: int64[tag_id], no stored row of the tag is newer; a row that is newer cannot be a redelivery.
        rollups: the open buckets of each level.
        pending: stored rows that the roll-ups do not hold yet, in order of seq; the counter ``rolled_seq`` is the
            last row that they hold.
    """

    counters: dict[str, int]
    tag_ids: dict[str, int]
    numbering: dict[bytes, NDArray[np.int64]]
    newest_ns: NDArray[np.int64]
    rollups: tuple[Level, ...]
    pending: list[Inserted] = field(default_factory=list)
    dirty: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, connection: sa.Connection) -> Memory:
        """Read everything anew, at the start and after a transaction that failed."""
        counters: dict[str, int] = dict(connection.execute(sa.select(tables.counters)).all())
        tag_ids = dict(connection.execute(sa.select(tables.tags.c.id, tables.tags.c.tag_id)).all())
        memory = cls(counters, tag_ids, {}, np.empty(0, np.int64), levels())
        hour = tables.rollup_1h
        newest = (
            sa.select(hour.c.end_ns)
            .where(hour.c.tag_id == tables.tags.c.tag_id)
            .order_by(hour.c.bucket_ns.desc())
            .limit(1)
            .scalar_subquery()
        )
        times = np.full(memory.last("tag_id") + 1, NEVER, np.int64)
        for tag_id, end_ns in connection.execute(sa.select(tables.tags.c.tag_id, newest)):
            if end_ns is not None:
                times[tag_id] = end_ns
        memory.newest_ns = times
        for level in memory.rollups:
            level.make_room(times)
        memory._load_pending(connection)
        return memory

    def _load_pending(self, connection: sa.Connection) -> None:
        """Rows that were stored, and not yet rolled up when the process ended."""
        if "rolled_seq" not in self.counters:
            # a store from before the roll-ups could wait: they hold everything
            self.set("rolled_seq", self.last("record_seq"))
            return
        records = tables.records.c
        query = sa.select(
            records.seq, records.source_ts, records.tag_id, records.value, records.status, records.revision
        )
        found = connection.execute(query.where(records.seq > self.last("rolled_seq")).order_by(records.seq))
        for rows in found.partitions(_PARTITION):
            self.pending += _parts(rows)
        for part in self.pending:
            if not part.revision:
                # the newest row of a tag may be one that no roll-up names yet
                np.maximum.at(self.newest_ns, part.tag_id, part.source_ns)

    def roll_up(self, connection: sa.Connection) -> None:
        """Bring the roll-ups up to the rows stored so far."""
        waiting, self.pending = self.pending, []
        if not waiting:
            return
        self.set("rolled_seq", int(waiting[-1].seq[-1]))
        while waiting:
            revision = waiting[0].revision
            rows = joined([part for part in waiting if part.revision == revision])
            waiting = [part for part in waiting if part.revision != revision]
            for level in self.rollups:
                level.add(connection, rows)

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
            for level in self.rollups:
                level.make_room(self.newest_ns)

    def flush(self, connection: sa.Connection) -> None:
        """Write the counters that changed."""
        bulk.put(connection, tables.counters, [(name, self.counters[name]) for name in sorted(self.dirty)])
        self.dirty.clear()


def _parts(rows: Iterable[Sequence[Any]]) -> list[Inserted]:
    """Rows as runs of one revision; NULL is NaN."""
    seq, source_ns, tag_id, value, status, revision = zip(*rows, strict=True)
    revisions = np.array(revision, np.int64)
    edges = [0, *(np.flatnonzero(np.diff(revisions)) + 1).tolist(), len(revisions)]
    whole = Inserted(
        np.array(seq, np.int64),
        np.array(source_ns, np.int64),
        np.array(tag_id, np.int64),
        np.array(value, np.float64),
        np.array(status, np.uint32),
        0,
    )
    return [whole.part(low, high, int(revisions[low])) for low, high in pairwise(edges)]


def numbering_of(memory: Memory, connection: sa.Connection, revision: bytes) -> NDArray[np.int64]:
    """
    int64[tag number] of ``tag_id`` for a map revision; maps of former runs are read from SQL.

    Raises:
        ValueError: the revision was never registered.
    """
    known = memory.numbering.get(revision)
    if known is None:
        query = sa.select(tables.maps.c.body).where(tables.maps.c.revision == revision)
        body = connection.execute(query).scalar()
        if body is None:
            raise ValueError(f"tag map {revision.hex()} was never registered; call use_map first")
        known = numbers(memory, TagMap.from_body(bytes(body)))
        memory.numbering[revision] = known
    return known


def numbers(memory: Memory, tag_map: TagMap) -> NDArray[np.int64]:
    """int64[tag number] of ``tag_id`` of a map whose tags are all registered; -1 where a number is not used."""
    size = max((tag.number for tag in tag_map.tags), default=-1) + 1
    found = np.full(size, -1, np.int64)
    for tag in tag_map.tags:
        found[tag.number] = memory.tag_ids[tag.id]
    return found


def upsert(connection: sa.Connection, table: sa.Table, key: dict[str, object], values: dict[str, object]) -> None:
    """Set *values* in the row with this key, or insert it; the same statement on both databases."""
    where = sa.and_(*(table.c[name] == item for name, item in key.items()))
    if connection.execute(table.update().where(where).values(**values)).rowcount == 0:
        connection.execute(table.insert().values(**key, **values))
