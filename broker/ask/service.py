"""From a question, or a query that a person corrected, to the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from broker.ask.calendar import Calendar
from broker.ask.execute import execute
from broker.ask.names import Names
from broker.ask.options import AskOptions
from broker.ask.parse import Parsed, parse
from broker.store import Reader
from schemas.question import Answer, Query


@dataclass(frozen=True, slots=True)
class Asker:
    """
    Answers questions on one store. ``zone`` is the site's.

    Every method raises Refused where something cannot be asked, NotUnderstood where a question is no common form,
    StoreError where the store cannot be read.
    """

    reader: Reader
    zone: ZoneInfo
    options: AskOptions
    now_s: Callable[[], float] = time.time

    def calendar(self) -> Calendar:
        """The present moment at the site."""
        return Calendar(self.zone, datetime.fromtimestamp(self.now_s(), UTC), self.reader.shifts())

    def names(self) -> Names:
        """Tags and equipment of the map in force."""
        return Names(self.reader.tags())

    def ask(self, question: str) -> Answer:
        """Answer a question of a common form."""
        names = self.names()
        return self.run(parse(question, names, self.calendar()), question, names, "code")

    def run(self, parsed: Parsed, question: str, names: Names, parsed_by: Literal["code", "model"]) -> Answer:
        """Answer what was read from a question."""
        return execute(
            parsed.query,
            self.reader,
            names,
            self.zone,
            self.options,
            question=question,
            parsed_by=parsed_by,
            notes=parsed.notes,
        )

    def run_query(self, query: Query, question: str = "") -> Answer:
        """Answer a query that a person wrote or corrected."""
        return execute(query, self.reader, self.names(), self.zone, self.options, question=question, parsed_by="person")
