"""
A window cut into whole hours and minutes, which come from the roll-ups, and the rest, which comes from the records.

The last whole minute is read from the records as well, because roll-ups may be written later than rows; not so where
retention has removed its records.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from broker.store.rollups import HOUR_NS, MINUTE_NS

Level = Literal["raw", "1m", "1h"]
WIDTH: Final = {"1m": MINUTE_NS, "1h": HOUR_NS}


class Piece(NamedTuple):
    """Part of a window that is answered from one table."""

    level: Level
    from_ns: int
    to_ns: int


def pieces(from_ns: int, to_ns: int, gone_ns: int = 0) -> list[Piece]:
    """
    ``from_ns <= t < to_ns`` in order of time, without holes.

    The tail of one to two minutes is raw; of less than one where the last whole minute is older than *gone_ns*, the
    time before which records may be removed.
    """
    minute_from = -(-from_ns // MINUTE_NS) * MINUTE_NS
    minute_to = to_ns // MINUTE_NS * MINUTE_NS - MINUTE_NS
    if minute_to < gone_ns:
        minute_to += MINUTE_NS
    if minute_to <= minute_from:
        return [Piece("raw", from_ns, to_ns)]
    found = [Piece("raw", from_ns, minute_from)]
    hour_from = -(-minute_from // HOUR_NS) * HOUR_NS
    hour_to = minute_to // HOUR_NS * HOUR_NS
    if hour_to > hour_from:
        found += [
            Piece("1m", minute_from, hour_from),
            Piece("1h", hour_from, hour_to),
            Piece("1m", hour_to, minute_to),
        ]
    else:
        found.append(Piece("1m", minute_from, minute_to))
    found.append(Piece("raw", minute_to, to_ns))
    return [piece for piece in found if piece.to_ns > piece.from_ns]
