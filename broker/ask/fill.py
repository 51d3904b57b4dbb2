"""
A model fills in the form of a question that the common forms do not fit.

It chooses from closed lists only: form, equipment, tag, aggregate and time word. What code could read (names, times,
a limit) is not asked again, and the query is checked and run like any other.
"""

from __future__ import annotations

import asyncio
import difflib
from typing import Final
from weakref import WeakSet

from pydantic import ValidationError

from broker.ask import left, times
from broker.ask import names as naming
from broker.ask.calendar import WORDS, Calendar
from broker.ask.names import Names, last_part, split_words
from broker.ask.parse import Parsed, find_times, plain, spans_of, without_times
from llm.client import Reasoner
from llm.form import FormField
from schemas.errors import FairleadError
from schemas.question import FORMS, Aggregate, Query, Span

#: Names that a model chooses from.
MAX_OPTIONS: Final = 20
_NONE: Final = "none"
_AGGREGATES: Final[tuple[Aggregate, ...]] = ("max", "min", "mean", "last")


#: Reasoners that read a question now: questions wait behind annotations, so no queue of them may form there.
_reading: Final[WeakSet[Reasoner]] = WeakSet()


async def fill(question: str, names: Names, calendar: Calendar, reasoner: Reasoner, deadline_s: float) -> Parsed | None:
    """
    The query that a model makes of a question; None where there is no such model or it made none.

    One question at a time: while the model reads another one there is none for this.
    """
    if not reasoner.reads_questions or reasoner in _reading:
        return None
    _reading.add(reasoner)
    try:
        found, equipment, tags = await asyncio.to_thread(_lists, question, names, calendar)
        fields = [FormField("form", FORMS), FormField("aggregate", (_NONE, *_AGGREGATES))]
        if not found.spans:
            fields.append(FormField("time", tuple(WORDS)))
        fields += [FormField("equipment", (_NONE, *equipment)), FormField("tag", (_NONE, *tags))]
        chosen = await reasoner.fill(question, fields, deadline_s)
        spans = spans_of(found, _aggregate(chosen))
        if not spans:
            owner = equipment.get(chosen["equipment"])
            local = calendar.of([owner]) if owner and "shift" in chosen["time"] else calendar
            spans = (times.window(WORDS[chosen["time"]](local), local, chosen["time"]),)
        return Parsed(_query(chosen, spans, equipment, tags), ("a model read the question; look at the query",))
    except (ValidationError, FairleadError):
        return None
    finally:
        _reading.discard(reasoner)


def _lists(question: str, names: Names, calendar: Calendar) -> tuple[times.Found, dict[str, str], dict[str, str]]:
    """
    The times that code reads, and labels of equipment and tags to choose from; with 100,000 tags that takes long.

    Raises:
        Refused: a word that no choice could say, see :func:`broker.ask.left.refuse`.
    """
    question = plain(question)
    found = find_times(question, names, calendar)
    named = naming.find(without_times(question, found), names, left.IGNORED)
    left.refuse(left.meaning(named.left, found.rest, None), names)
    equipment = _labels(list(named.equipment) or _likely(question, names.equipment))
    owners = set(equipment.values())
    tags = _labels(list(named.tags) or _likely(question, [t.path for t in names.tags if t.equipment in owners]))
    return found, equipment, tags


def _aggregate(chosen: dict[str, str]) -> Aggregate | None:
    if chosen["form"] != "value":
        return None
    return next((one for one in _AGGREGATES if one == chosen["aggregate"]), "last")


def _query(chosen: dict[str, str], spans: tuple[Span, ...], equipment: dict[str, str], tags: dict[str, str]) -> Query:
    form, tag, owner = chosen["form"], tags.get(chosen["tag"]), equipment.get(chosen["equipment"])
    return Query.model_validate(
        {
            "form": form,
            "tags": (tag,) if tag else (),
            "equipment": (owner,) if owner and not (tag and form == "value") else (),
            "windows": spans[: 2 if form == "compare" else 1],
            "aggregate": _aggregate(chosen),
        }
    )


def _likely(question: str, paths: list[str] | tuple[str, ...]) -> list[str]:
    """The paths whose last parts look most like words of the question; all where they are few."""
    if len(paths) <= MAX_OPTIONS:
        return list(paths)
    words = question.lower().split()

    def likeness(path: str) -> float:
        parts = (last_part(path).lower(), *split_words(last_part(path)))
        return max(difflib.SequenceMatcher(None, part, word).ratio() for part in parts for word in words)

    return sorted(paths, key=lambda path: (-likeness(path), path))[:MAX_OPTIONS]


def _labels(paths: list[str]) -> dict[str, str]:
    """Short labels that a model can spell, each once: last parts, numbered where two are alike."""
    found: dict[str, str] = {}
    for path in paths[:MAX_OPTIONS]:
        plain = "".join(ch if ch.isascii() and (ch.isalnum() or ch in "_-.") else " " for ch in last_part(path))
        label = " ".join(plain.split())[:40] or "tag"
        number = 2
        while (unique := label if label not in found and label != _NONE else f"{label} {number}") in found:
            number += 1
        found[unique] = path
    return found
