"""
Rows and revisions: what a replay has to write, and which live rows it hides.

A corrected record hides the one it replaces, so it may not be left out because the corrected deadband would hold it
back: the wrong one would go on being shown. And what a source delivers again behind a replay is stored, but hidden by
the corrected row of the same time: roll-ups and current values must not count what ``v_records`` does not show.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import bulk, tables
from broker.store.columns import Columns
from broker.store.memory import Memory
from schemas.records import RecordBatch
from schemas.status import Flag

_DEADBAND: Final = np.uint32(Flag.DEADBAND)


def keep_stored(connection: sa.Connection, batch: RecordBatch, numbering: NDArray[np.int64]) -> RecordBatch:
    """*batch* with the deadband's mark taken from rows whose tag and time are in SQL already, at any revision."""
    held = np.flatnonzero(batch.flags & _DEADBAND)
    if not len(held):
        return batch
    keys = [batch.source_ns[held], numbering[batch.tag[held]]]
    found = {place for place, _ in bulk.look_up(connection, tables.records, ("source_ts", "tag_id"), keys, ("seq",))}
    if not found:
        return batch
    flags = batch.flags.copy()
    flags[held[sorted(found)]] &= ~_DEADBAND
    return replace(batch, flags=flags)


def hidden(connection: sa.Connection, memory: Memory, columns: Columns) -> NDArray[np.bool_]:
    """Which of these live rows, not yet stored, a replay's row of the same tag and time hides, bool[n]."""
    found = np.zeros(len(columns), np.bool_)
    if not memory.last("replay"):
        return found
    places = np.flatnonzero(columns.source_ns <= memory.newest_ns[columns.tag_id])
    if len(places):
        keys = [columns.source_ns[places], columns.tag_id[places]]
        names = ("source_ts", "tag_id")
        for index, (revision,) in bulk.look_up(connection, tables.records, names, keys, ("revision",)):
            if revision > 0:
                found[places[index]] = True
    return found
