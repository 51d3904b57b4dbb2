"""
Rows of one tag that the roll-ups in SQL may not count yet: the writer keeps the newest buckets some ticks in memory.

The counter ``rolled_seq`` says up to which row SQL holds all that the roll-ups count; what came after it is walked
along ``seq``, twenty ticks of all tags at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa

from broker.store import tables
from broker.store.reader.pieces import WIDTH, Piece
from broker.store.rollups import MINUTE_NS, is_counted

_R = tables.records
#: Minutes that are read record by record for this reason; a delivery of history may touch any number at once.
MOST: Final = 10


def minutes(connection: sa.Connection, tag_id: int) -> list[int]:
    """Begins of the minutes in which such rows lie, in order."""
    counter = tables.counters.c
    rolled = connection.execute(sa.select(counter.value).where(counter.name == "rolled_seq")).scalar()
    if rolled is None:
        return []  # a store from before roll-ups could wait
    start = _R.c.source_ts - _R.c.source_ts % MINUTE_NS
    query = (
        sa.select(start)
        .distinct()
        .where(_R.c.seq > rolled, _R.c.tag_id == tag_id, _R.c.revision == 0, is_counted(_R.c.flags))
    )
    return sorted(connection.execute(query).scalars())


def around(parts: Sequence[Piece], found: Sequence[int]) -> tuple[list[Piece], int | None]:
    """
    The pieces with these minutes read from the records, as far as ``MOST`` go.

    The second result is the begin of the first one that is not.
    """
    inside = [start for start in found if any(p.level != "raw" and p.from_ns <= start < p.to_ns for p in parts)]
    cut = [piece for part in parts for piece in _cut(part, inside[:MOST])]
    return cut, next(iter(inside[MOST:]), None)


def _cut(piece: Piece, found: Sequence[int]) -> Iterator[Piece]:
    if piece.level == "raw":
        yield piece
        return
    width, at = WIDTH[piece.level], piece.from_ns
    for start in sorted({one // width * width for one in found if piece.from_ns <= one < piece.to_ns}):
        if start > at:
            yield Piece(piece.level, at, start)
        at = start + width
        yield from _cut(Piece("1m", start, at), found) if piece.level == "1h" else [Piece("raw", start, at)]
    if at < piece.to_ns:
        yield Piece(piece.level, at, piece.to_ns)
