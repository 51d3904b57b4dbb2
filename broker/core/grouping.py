"""
Entries of the journal that are processed together.

A stage costs about 0.3 ms a call whatever the number of rows, so neighbouring batches go through the stages as one. The
rows that come out are the same: what the stages cannot take together they refuse (``Normalizer.join``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from schemas.entries import Entry
from schemas.samples import SampleBatch

#: Rows that are processed together; beyond it a call's own cost is no longer felt, and the arrays leave the cache.
MOST_ROWS: Final = 8192


def groups(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """
    The same entries in the same order: neighbouring batches of one map, origin and kind of time together, as long as no
    tag comes twice; every other entry alone.
    """
    start = 0
    while start < len(entries):
        stop = _end(entries, start)
        yield entries[start:stop]
        start = stop


def _end(entries: Sequence[Entry], start: int) -> int:
    first = entries[start].body
    if not _joins(first) or start + 1 == len(entries) or not _joins(entries[start + 1].body):
        return start + 1
    assert isinstance(first, SampleBatch)
    kind = _kind(first)
    highest = int(first.tag.max())
    seen = np.zeros(max(highest + 1, MOST_ROWS), np.bool_)
    seen[first.tag] = True
    rows = len(first)
    stop = start + 1
    while stop < len(entries):
        batch = entries[stop].body
        if not _joins(batch):
            break
        assert isinstance(batch, SampleBatch)
        rows += len(batch)
        if rows > MOST_ROWS or _kind(batch) != kind:
            break
        highest = int(batch.tag.max())
        if highest >= len(seen):
            seen = np.concatenate([seen, np.zeros(highest + 1 - len(seen), np.bool_)])
        if seen[batch.tag].any():
            break
        seen[batch.tag] = True
        stop += 1
    return stop


def _kind(batch: SampleBatch) -> tuple[object, ...]:
    return batch.origin, batch.map_revision, batch.server_ns is None


def _joins(body: object) -> bool:
    """A batch with rows, columns of one length and no impossible tag number."""
    if not isinstance(body, SampleBatch) or not len(body):
        return False
    try:
        body.check()
    except ValueError:
        return False
    return int(body.tag.min()) >= 0
