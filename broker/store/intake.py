"""
Batches on their way into SQL: gathered as they come, inserted together.

A call has its price whatever the number of rows (about 0.4 ms for columns, keys, savepoint and lists), so rows wait
until there are many, or until something wants to see them. What is stored, and in which order, is the same either way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import Final

import numpy as np
import sqlalchemy as sa

from broker.store import revise, rollups
from broker.store.columns import Columns, columns_of
from broker.store.insert import insert_rows, new_rows
from broker.store.memory import Memory
from broker.store.registry import numbering_of
from broker.store.rollups import Counted, Inserted
from schemas.records import Piece, RecordBatch

#: So many rows are inserted without waiting for the end of the transaction.
ENOUGH: Final = 20_000

#: (batch, piece, row in the batch, tag_id, reason): called for each row that SQL refuses, in their order.
Refuse = Callable[[RecordBatch, Piece, int, int, str], None]


class Intake:
    """
    Rows of one transaction that wait to be inserted.

    ``sources``: live rows stored so far, and the last time of reception, by source. ``revised``: what a replay has
    stored. ``took``: whether there was a batch of live rows. ``tally``: what became of all rows: stored, redelivered,
    deadband, quarantined.
    """

    def __init__(self, connection: sa.Connection, memory: Memory, refuse: Refuse) -> None:
        self._connection = connection
        self._memory = memory
        self._refuse = refuse
        self._batches: list[RecordBatch] = []
        self._parts: list[Columns] = []
        self._rows = 0
        self._revision = 0
        self.took = False
        self.sources: dict[str, tuple[int, int]] = {}
        self.tally: Counter[str] = Counter()
        self.revised: list[Inserted] = []

    def add(self, batch: RecordBatch, revision: int) -> None:
        """
        Take the rows of *batch* outside the deadband.

        Raises:
            ValueError: the batch's map was never registered, or a tag number is not in it.
        """
        numbering = numbering_of(self._memory, self._connection, batch.map_revision)
        if revision != self._revision:
            self.write()
            self._revision = revision
        if revision:
            batch = revise.keep_stored(self._connection, batch, numbering)
        columns = columns_of(batch, numbering)
        self.tally["deadband"] += len(batch) - len(columns)
        self.took |= not revision
        self._batches.append(batch)
        self._parts.append(columns)
        self._rows += len(columns)
        if self._rows >= ENOUGH or revision:
            self.write()

    def write(self) -> None:
        """Insert what waits; what is stored waits in ``Memory.pending`` for the roll-ups."""
        batches, parts = self._batches, self._parts
        if not batches:
            return
        self._batches, self._parts, self._rows = [], [], 0
        first_rows = [0, *accumulate(len(batch) for batch in batches)]
        columns = Columns.joined(parts, first_rows[:-1])
        fresh = new_rows(self._connection, self._memory, columns, self._revision)
        hidden = np.zeros(0, np.int64)
        if not self._revision:
            hidden = fresh.row[revise.hidden(self._connection, self._memory, fresh)]
        outcome = insert_rows(self._connection, self._memory, fresh, self._revision)
        stored = outcome.stored
        self.tally["redelivered"] += len(columns) - len(fresh)
        self.tally["stored"] += len(stored)
        self.tally["quarantined"] += len(outcome.refused)
        if len(stored):
            seq = np.arange(outcome.first_seq, outcome.first_seq + len(stored), dtype=np.int64)
            counted = None if stored.increase is None else Counted(stored.increase, stored.flags)
            rows = Inserted(seq, stored.source_ns, stored.tag_id, stored.value, stored.status, counted)
            ours = rollups.are_counted(stored.flags) & ~np.isin(stored.row, hidden)
            rows = rows if ours.all() else rows.only(ours)
            if len(rows.seq):
                (self.revised if self._revision else self._memory.pending).append(rows)
        owners = [
            (first + piece.first, first, batch, piece)
            for first, batch in zip(first_rows, batches, strict=False)
            for piece in batch.parts()
        ]
        begins = [owner[0] for owner in owners]
        counts = np.diff(np.searchsorted(stored.row, [*begins, first_rows[-1]])).tolist()
        for (_, _, _, piece), count in zip(owners, counts, strict=True):
            if self._revision:
                break
            before, _ = self.sources.get(piece.source, (0, 0))
            self.sources[piece.source] = (before + count, piece.received_ns)
        tags = dict(zip(columns.row.tolist(), columns.tag_id.tolist(), strict=True)) if outcome.refused else {}
        for row, reason in sorted(outcome.refused.items()):
            _, first, batch, piece = owners[bisect_right(begins, row) - 1]
            self._refuse(batch, piece, row - first, tags[row], reason)
