"""The reads that evidence needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from broker.store.rows.episodes import PastEpisode
from broker.store.rows.manuals import PassageRow
from broker.store.rows.operation import GapRow
from broker.store.rows.records import RecordRow, Window


class Records(Protocol):
    """The reads that evidence needs from the writer's transaction."""

    def window(self, path: str, from_ns: int, to_ns: int, *, upto: int, limit: int = 5000) -> Window:
        """Samples of a tag with ``from_ns <= source_ts < to_ns`` and ``seq <= upto``; the latest *limit* of them."""
        ...

    def last_value(self, path: str, before_ns: int, *, upto: int) -> RecordRow | None:
        """The newest record of a tag before a time with ``seq <= upto``, or None."""
        ...

    def gaps_between(
        self, paths: Sequence[str], from_ns: int, to_ns: int, *, source: str | None = None
    ) -> Sequence[GapRow]:
        """Holes of these tags (and of everything) that touch a span."""
        ...

    def past_episodes(self, equipment: str, before_ns: int, limit: int) -> list[PastEpisode]:
        """Closed episodes, latest first, with the verdicts of people."""
        ...

    def passages(
        self, equipment: str, equipment_class: str | None, kind: str, words: Collection[str], limit: int
    ) -> list[PassageRow]:
        """Passages of the site's manuals or log about an equipment, best first."""
        ...
