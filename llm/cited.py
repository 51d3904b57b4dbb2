"""
What code cites for a named cause beside the measured facts: a passage that speaks of it, an episode a person judged.

A model may cite them itself; a model that was not trained on such facts does not see them, and gets them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.evidence import CauseOption, Fact
from schemas.words import words

#: A passage speaks of a cause when it holds so many of its words, or all there are.
ENOUGH: Final = 2
_NAME: Final = 2.0
_TEXT: Final = 1.0


@dataclass(frozen=True, slots=True)
class Judged:
    """Past episodes that a person judged, as far as they are about one cause: fact ids."""

    confirmed: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()


def cause_words(option: CauseOption) -> dict[str, float]:
    """The words of a cause with their weights; those of its name weigh most."""
    weights = dict.fromkeys(words(option.text), _TEXT)
    return weights | dict.fromkeys(words(option.id.replace("_", " ")), _NAME)


def speaks_of(option: CauseOption, held: frozenset[str]) -> float:
    """How much a text with these words speaks of a cause: weight of the words it shares; 0 where it does not."""
    weights = cause_words(option)
    shared = weights.keys() & held
    return sum(weights[word] for word in sorted(shared)) if len(shared) >= min(ENOUGH, len(weights)) else 0.0


def passage_for(option: CauseOption, facts: Sequence[Fact]) -> str | None:
    """Id of the passage that speaks most of a cause; of equals the first. None where none does."""
    best, most = None, 0.0
    for fact in facts:
        if fact.kind == "passage":
            found = speaks_of(option, frozenset(words(fact.text)))
            if found > most:
                best, most = fact.id, found
    return best


def judged(cause_id: str, facts: Sequence[Fact]) -> Judged:
    """What people said of a cause in similar episodes."""
    about = [fact for fact in facts if fact.kind == "history" and fact.cause == cause_id]
    return Judged(
        confirmed=tuple(fact.id for fact in about if fact.verdict in ("approved", "edited")),
        refuted=tuple(fact.id for fact in about if fact.verdict == "rejected"),
    )


def by_code(option: CauseOption, facts: Sequence[Fact]) -> tuple[str, ...]:
    """Facts to cite for a cause: episodes in which a person confirmed it, and the passage that speaks most of it."""
    passage = passage_for(option, facts)
    return (*judged(option.id, facts).confirmed, *(() if passage is None else (passage,)))
