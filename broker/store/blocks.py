"""
Between which times each block of records lies, so that a pull of a span passes over the others.

A pull goes in order of ``seq``, and rows of one time may stand anywhere (late, from history), so no index on the time
gives both; an index (time, seq) would be read over the whole span for each page. Blocks of 65,536 rows cost one
statement a transaction and 1,500 rows for 100 million records.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import bulk, tables

BITS: Final = 16
_B: Final = tables.record_blocks


def note(connection: sa.Connection, first_seq: int, source_ns: NDArray[np.int64]) -> None:
    """Rows with these times were stored under ``seq`` from *first_seq* on."""
    least, greatest = ("min", "max") if connection.dialect.name == "sqlite" else ("least", "greatest")
    rows = []
    at, end = first_seq, first_seq + len(source_ns)
    while at < end:
        block = at >> BITS
        until = min(end, (block + 1) << BITS)
        part = source_ns[at - first_seq : until - first_seq]
        rows.append((block, int(part.min()), int(part.max())))
        at = until
    wider = (
        f"first_ns = {least}(record_blocks.first_ns, excluded.first_ns), "
        f"last_ns = {greatest}(record_blocks.last_ns, excluded.last_ns)"
    )
    insert = "INSERT INTO record_blocks (block, first_ns, last_ns) VALUES (?, ?, ?)"
    bulk.many(connection, f"{insert} ON CONFLICT (block) DO UPDATE SET {wider}", rows)


def next_within(connection: sa.Connection, after: int, from_ns: int | None, to_ns: int | None) -> int | None:
    """The lowest ``seq`` above *after* at which a row of ``from_ns <= time < to_ns`` may stand; None: nowhere."""
    query = sa.select(sa.func.min(_B.c.block)).where(_B.c.block >= (after + 1) >> BITS)
    if from_ns is not None:
        query = query.where(_B.c.last_ns >= from_ns)
    if to_ns is not None:
        query = query.where(_B.c.first_ns < to_ns)
    block = connection.execute(query).scalar()
    return None if block is None else max(after + 1, block << BITS)


def forget(connection: sa.Connection, first_seq: int) -> None:
    """Retention has removed every record before *first_seq*."""
    connection.execute(_B.delete().where(_B.c.block < first_seq >> BITS))
