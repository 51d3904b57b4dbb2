"""The reads that evidence, reviews and documents need inside the writing transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from broker.store import manuals
from broker.store.intake import Intake
from broker.store.memory import Memory
from broker.store.reader import episodes, outbox, values
from broker.store.reader.lookups import Lookups
from broker.store.reader.spans import Spans
from broker.store.rows.episodes import PastEpisode
from broker.store.rows.manuals import PassageRow
from broker.store.rows.records import RecordRow, Window
from schemas.documents import Document

P = ParamSpec("P")
T = TypeVar("T")


class TransactionReads(Lookups):
    """What a transaction can be asked: the answers have what it wrote, and no limit of time."""

    def __init__(self, connection: sa.Connection, memory: Memory, intake: Intake) -> None:
        self._connection = connection
        self._memory = memory
        self._intake = intake
        self._spans: Spans | None = None

    def _ask(self, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return query(self._connection, *args, **kwargs)

    def passages(
        self, equipment: str, equipment_class: str | None, kind: str, words: Collection[str], limit: int
    ) -> list[PassageRow]:
        """Passages about an equipment that hold at least one of the words, best first; *kind*: manual or log."""
        return manuals.remembered(self._connection, self._memory, equipment, equipment_class, kind, words, limit)

    def read_ahead(self, paths: Sequence[str], from_ns: int, middle_ns: int, to_ns: int, *, upto: int) -> None:
        """
        Read what :meth:`window` will be asked for of these tags, in one pass, thinned where there are too many rows.

        *middle_ns* parts what is thinned by itself.
        """
        self._intake.write()
        self._spans = Spans(self._connection, paths, from_ns, middle_ns, to_ns, upto)

    def window(self, path: str, from_ns: int, to_ns: int, *, upto: int, limit: int = 5000) -> Window:
        """Rows of a tag with ``from_ns <= source_ts < to_ns`` and ``seq <= upto``; the latest *limit*, oldest first."""
        self._intake.write()
        read = None if self._spans is None else self._spans.window(path, from_ns, to_ns, upto, limit)
        if read is not None:
            return read
        return values.window(self._connection, path, from_ns, to_ns, upto, limit)

    def last_value(self, path: str, before_ns: int, *, upto: int) -> RecordRow | None:
        """The newest row of a tag with ``source_ts < before_ns`` and ``seq <= upto``, good or bad."""
        self._intake.write()
        self._memory.count(self._connection)
        return values.last_value(self._connection, path, before_ns, upto, self._memory.rollups[0].in_memory)

    def past_episodes(self, equipment: str, before_ns: int, limit: int) -> list[PastEpisode]:
        """Closed episodes that began before *before_ns*, latest first, with the verdicts of people."""
        return episodes.past_episodes(self._connection, equipment, before_ns, limit)

    def document_by_id(self, document_id: str) -> Document | None:
        """One document of the outbox."""
        return outbox.document_by_id(self._connection, document_id)
