"""
Both resolutions of the roll-ups, between memory and SQL.

A bucket costs more to write than a record, and lies on a page of its own once a tag has a few dozen: written at each
tick, 10,000 tags would cost 40 MB of log a second. So the newest two buckets of each tag are counted in memory, and a
tick writes those that have waited longest, all of them within ``TURNS`` ticks. A bucket knows up to which ``seq`` it
counts: after a crash the records behind the oldest unwritten one are read again, and none is counted twice.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import bulk, tables
from broker.store.rollups import (
    BUCKET,
    COLUMNS,
    HOUR_NS,
    MINUTE_NS,
    Grouping,
    Inserted,
    bucket_of,
    column_of,
    count,
    empty,
)

#: So many buckets of a level are written at a tick where more wait.
FEWEST: Final = 500
#: Ticks within which every bucket is written.
TURNS: Final = 20
#: ``since`` of a bucket that SQL holds as it is.
WRITTEN: Final = np.iinfo(np.int64).max


class _Kept:
    """One bucket of each tag where ``known``; ``since`` is the first ``seq`` in it that SQL does not hold."""

    __slots__ = ("bucket", "known", "since")

    def __init__(self) -> None:
        self.bucket = np.zeros(0, BUCKET)
        self.known = np.zeros(0, np.bool_)
        self.since = np.zeros(0, np.int64)

    def make_room(self, more: int) -> None:
        self.bucket = np.concatenate([self.bucket, np.zeros(more, BUCKET)])
        self.known = np.concatenate([self.known, np.zeros(more, np.bool_)])
        self.since = np.concatenate([self.since, np.full(more, WRITTEN, np.int64)])

    def holds(self, tag_id: NDArray[np.int64], bucket_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.known[tag_id] & (self.bucket["bucket_ns"][tag_id] == bucket_ns)
        return found

    def take(self, state: NDArray[np.void], since: int) -> None:
        tag_id = state["tag_id"]
        self.bucket[tag_id] = state
        self.known[tag_id] = True
        self.since[tag_id] = np.minimum(self.since[tag_id], since)


class Level:
    """
    One resolution: its table, and the newest bucket of each tag and the one before it as they shall be in SQL.

    ``bound_ns`` of a tag: no bucket of it is newer.
    """

    def __init__(self, table: sa.Table, width_ns: int) -> None:
        self.table = table
        self.width_ns = width_ns
        self.bound_ns = np.zeros(0, np.int64)
        self._now, self._before = _Kept(), _Kept()

    def make_room(self, newest_ns: NDArray[np.int64]) -> None:
        """Let every tag id of *newest_ns* be used, int64[tag_id]: the time of the tag's newest row."""
        old = len(self.bound_ns)
        more = len(newest_ns) - old
        if more > 0:
            self._now.make_room(more)
            self._before.make_room(more)
            self.bound_ns = np.concatenate([self.bound_ns, newest_ns[old:]])

    def add(self, connection: sa.Connection, rows: Inserted) -> NDArray[np.void]:
        """Count *rows* in; the buckets they touched, sorted by tag and begin. Rows that are counted already are not."""
        if not len(rows.seq):
            return np.zeros(0, BUCKET)
        grouping = Grouping(rows, self.width_ns)
        state = empty(grouping.tag_id, grouping.bucket_ns)
        self._load(connection, state)
        if rows.seq[0] <= state["counted_seq"].max():
            fresh = rows.seq > state["counted_seq"][grouping.group]
            if not fresh.all():
                return self.add(connection, rows.only(fresh))
        count(state, grouping)
        self._keep(connection, state, int(rows.seq[0]))
        return state

    def load(self, connection: sa.Connection, tag_id: NDArray[np.int64], bucket_ns: int) -> NDArray[np.void]:
        """The bucket of each of these tags that begins then, as it stands; empty where there is none."""
        state = empty(tag_id, np.full(len(tag_id), bucket_ns, np.int64))
        self._load(connection, state)
        return state

    def put(self, connection: sa.Connection, state: NDArray[np.void]) -> None:
        """Write whole buckets in the place of what stood there."""
        self._write(connection, state)
        for kept in (self._now, self._before):
            same = state[kept.holds(state["tag_id"], state["bucket_ns"])]
            kept.bucket[same["tag_id"]] = same
            kept.since[same["tag_id"]] = WRITTEN
        np.maximum.at(self.bound_ns, state["tag_id"], state["bucket_ns"])

    def write(self, connection: sa.Connection, *, everything: bool) -> None:
        """Write the buckets that have waited longest; *everything*: all that wait."""
        waiting = [np.flatnonzero(kept.since != WRITTEN) for kept in (self._before, self._now)]
        if not everything:
            most = max(FEWEST, -(-len(self.bound_ns) // TURNS))
            waiting = self._longest(waiting, most)
        parts = [kept.bucket[places] for kept, places in zip((self._before, self._now), waiting, strict=True)]
        state = np.concatenate(parts)
        if len(state):
            # in the order of the key, so that what lies on one page is written at once
            self._write(connection, state[np.lexsort((state["bucket_ns"], state["tag_id"]))])
        for kept, places in zip((self._before, self._now), waiting, strict=True):
            kept.since[places] = WRITTEN

    def write_of(self, connection: sa.Connection, tag_id: NDArray[np.int64]) -> None:
        """Write what waits of these tags."""
        for kept in (self._before, self._now):
            places = tag_id[kept.since[tag_id] != WRITTEN]
            if len(places):
                self._write(connection, kept.bucket[places])
                kept.since[places] = WRITTEN

    def _longest(self, waiting: list[NDArray[np.intp]], most: int) -> list[NDArray[np.intp]]:
        before, now = waiting
        if len(before) + len(now) <= most:
            return waiting
        since = np.concatenate([self._before.since[before], self._now.since[now]])
        chosen = np.sort(np.argsort(since, kind="stable")[:most])
        edge = int(np.searchsorted(chosen, len(before)))
        return [before[chosen[:edge]], now[chosen[edge:] - len(before)]]

    def oldest_seq(self) -> int:
        """First ``seq`` that a bucket counts and SQL does not hold yet; ``WRITTEN`` where there is none."""
        return min((int(kept.since.min()) for kept in (self._now, self._before) if len(kept.since)), default=WRITTEN)

    def in_memory(self, tag_id: int) -> list[int]:
        """Begins of the buckets of a tag that SQL may not hold yet."""
        return [int(kept.bucket["bucket_ns"][tag_id]) for kept in (self._now, self._before) if kept.known[tag_id]]

    def _load(self, connection: sa.Connection, state: NDArray[np.void]) -> None:
        """Fill empty buckets with what they are, where they are something."""
        tag_id, bucket = state["tag_id"], state["bucket_ns"]
        look = bucket <= self.bound_ns[tag_id]
        for kept in (self._now, self._before):
            same = kept.holds(tag_id, bucket)
            state[same] = kept.bucket[tag_id[same]]
            look &= ~same
        places = np.flatnonzero(look)
        if len(places):
            keys = [tag_id[places], bucket[places], np.zeros(len(places), np.int64)]
            for index, row in bulk.look_up(connection, self.table, ("tag_id", "bucket_ns", "revision"), keys, COLUMNS):
                state[places[index]] = bucket_of(row)

    def _keep(self, connection: sa.Connection, state: NDArray[np.void], since: int) -> None:
        """Remember buckets that were counted into; those that are neither a tag's newest nor before it are written."""
        left = np.ones(len(state), np.bool_)
        for kept in (self._now, self._before):
            same = kept.holds(state["tag_id"], state["bucket_ns"])
            kept.take(state[same], since)
            left &= ~same
        newest = np.append(state["tag_id"][1:] != state["tag_id"][:-1], True)
        tag_id = state["tag_id"]
        fresh = (
            left & newest & (~self._now.known[tag_id] | (state["bucket_ns"] > self._now.bucket["bucket_ns"][tag_id]))
        )
        moved = state["tag_id"][fresh]
        spilled = moved[self._before.since[moved] != WRITTEN]
        if len(spilled):
            self._write(connection, self._before.bucket[spilled])
        for name in ("bucket", "known", "since"):
            getattr(self._before, name)[moved] = getattr(self._now, name)[moved]
        self._now.since[moved] = WRITTEN
        self._now.take(state[fresh], since)
        if (left & ~fresh).any():
            self._write(connection, state[left & ~fresh])
        np.maximum.at(self.bound_ns, tag_id, state["bucket_ns"])

    def _write(self, connection: sa.Connection, state: NDArray[np.void]) -> None:
        bulk.replace(connection, self.table, [column_of(state, name) for name in COLUMNS])


def levels() -> tuple[Level, Level]:
    """A fresh memory of both levels, the finer first."""
    return (Level(tables.rollup_1m, MINUTE_NS), Level(tables.rollup_1h, HOUR_NS))
