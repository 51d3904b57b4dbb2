"""
Passages of the site's manuals and log that are about an anomaly, as facts of its evidence.

What is looked for are the words of the causes that the rules think likely, of the tags that moved, and of the
equipment. The database proposes, and what is taken is decided here, so that both databases give nearly the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from broker.store.rows.manuals import PassageRow
from llm.cited import cause_words, speaks_of
from llm.rules import NAMED_FROM, score_causes
from schemas.evidence import CauseOption, Evidence, Fact
from schemas.words import words

#: Passages in one evidence: of manuals, and entries of the log.
MAX_MANUAL: Final = 2
MAX_LOG: Final = 1
#: Passages that the database proposes.
_CANDIDATES: Final = 40
#: Likely causes whose words are looked for.
_CAUSES: Final = 2
_TAG: Final = 0.75
_PLACE: Final = 1.0
#: A passage that speaks of no likely cause is taken when it has so many words of tags and causes.
_ENOUGH: Final = 3
MAX_WORDS: Final = 24


class Passages(Protocol):
    """The search that :func:`passage_facts` needs from the writer's transaction."""

    def passages(
        self, equipment: str, equipment_class: str | None, kind: str, words: Collection[str], limit: int
    ) -> list[PassageRow]:
        """Passages about an equipment that hold at least one of the words, best first."""
        ...


def passage_facts(store: Passages, evidence: Evidence) -> list[Fact]:
    """The best passages for evidence that is complete but for them; their ids are given by the caller."""
    scored, unknown = score_causes(evidence)
    likely = [one.option for i, one in enumerate(scored[:_CAUSES]) if i == 0 or one.probability >= NAMED_FROM]
    if not scored or unknown >= scored[0].probability:
        likely = likely[:1]
    tags = {word for fact in evidence.facts if fact.kind == "deviation" for word in words(fact.name)}
    weights = dict.fromkeys(sorted(tags), _TAG)
    for option in likely:
        weights |= {word: max(weight, weights.get(word, 0.0)) for word, weight in cause_words(option).items()}
    place = words(evidence.equipment.rsplit("/", 1)[-1])
    asked = sorted(weights, key=lambda word: -weights[word])[: MAX_WORDS - len(place)]
    if not asked:
        return []

    def search(kind: str, more: Sequence[str]) -> list[PassageRow]:
        wanted = [*more, *asked][:MAX_WORDS]
        return store.passages(evidence.equipment, evidence.equipment_class, kind, wanted, _CANDIDATES)

    def worth(row: PassageRow) -> float:
        own = _PLACE if row.equipment or row.words.issuperset(place) else 0.0
        return own + sum(weights[word] for word in sorted(weights.keys() & row.words))

    found = _best(search("manual", ()), likely, weights, worth)[:MAX_MANUAL]
    found += _best(search("log", place), likely, weights, worth)[:MAX_LOG]
    return [_fact(row) for row in found]


def _best(
    rows: Sequence[PassageRow],
    likely: Sequence[CauseOption],
    weights: dict[str, float],
    worth: Callable[[PassageRow], float],
) -> list[PassageRow]:
    """For each likely cause the passage that speaks most of it, then what else has many of the words."""
    found: list[PassageRow] = []
    for option in likely:
        about = [row for row in rows if row not in found and speaks_of(option, row.words) > 0]
        if about:
            found.append(max(about, key=lambda row: (speaks_of(option, row.words) + worth(row), -row.passage_id)))
    rest = [row for row in rows if row not in found and len(weights.keys() & row.words) >= _ENOUGH]
    return found + sorted(rest, key=lambda row: (-worth(row), row.passage_id))


def _fact(row: PassageRow) -> Fact:
    return Fact(id="E1", kind="passage", text=row.text, source=row.name, page=row.page, line=row.line)
