"""
One answer of a model for alike anomalies.

Two evidence snapshots are alike when a model would be asked the same but for names of equipment, areas and numbered
tags, and for the exact figures: the same class, kind, causes and actions, and facts that are the same line for line.
Free text holds no figure and no tag name, so that an answer holds for both once its citations are put on the other's
facts; all checks are made again there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import partial
from typing import Final

import msgspec

from llm.compose import CLAIMS, conclude
from llm.prompt import row, shown_facts, tag_words
from llm.rules import UNKNOWN_ACTION
from llm.wording import OWN
from schemas.annotation import Annotation
from schemas.errors import AnswerRefused
from schemas.evidence import Evidence, Fact

_CITATION: Final = re.compile(r"\[(E[1-9][0-9]?)\]")


def _lines(evidence: Evidence) -> dict[str, str]:
    """By fact id a fact without its id, figures and place: what makes it alike to another one."""
    shown = shown_facts(evidence)
    called = tag_words(evidence, shown)
    return {fact.id: _line(fact, evidence.equipment, called[fact.id]) for fact in shown}


def _line(fact: Fact, equipment: str, called: str) -> str:
    told = f"{called} {row(fact, equipment).partition(' ')[2]}"
    exact = (fact.role, fact.detected, fact.text, fact.source, fact.page, fact.line, fact.cause, fact.comment)
    return f"{fact.kind} {told} {exact}"


def likeness(evidence: Evidence) -> str:
    """Equal for alike evidence, as a model sees it (see ``Reasoner.shown``); 32 hex digits."""
    asked = [
        evidence.equipment_class,
        evidence.kind.value,
        sorted(_lines(evidence).values()),
        [option.model_dump(mode="json") for option in evidence.causes],
        [action.model_dump(mode="json") for action in evidence.actions],
    ]
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:32]


def _ordered(evidence: Evidence) -> list[Fact]:
    lines = _lines(evidence)
    return sorted(shown_facts(evidence), key=lambda fact: (lines[fact.id], int(fact.id[1:])))


def _pairs(one: Evidence, other: Evidence) -> dict[str, str]:
    """By fact id of *one*: the id of the fact of *other* that says the same."""
    first, second = (_ordered(evidence) for evidence in (one, other))
    return {a.id: b.id for a, b in zip(first, second, strict=True)}


def transfer(
    told: Annotation,
    about: tuple[Evidence, Evidence],
    seen: tuple[Evidence, Evidence],
    *,
    detector_score: float,
    created_ns: int,
    claims: int = CLAIMS,
) -> Annotation:
    """
    The answer *told* of one anomaly as the annotation of an alike one.

    *about* are both evidence snapshots, *seen* the same as the model sees them; ``provenance.shared_with`` names the
    annotation that the model was asked for.

    Raises:
        AnswerRefused: a check does not hold for the other anomaly.
    """
    pairs = _pairs(*seen)
    evidence = about[1]
    added = set(told.provenance.cited_by_code)
    causes = [
        cause.model_copy(update={"cites": _sorted(pairs[i] for i in cause.cites if place or i not in added)})
        for place, cause in enumerate(told.causes)
    ]
    ids = {action.text: action.id for action in evidence.actions}
    actions = [ids.get(text, f"{OWN}{text}") for text in told.actions if text != UNKNOWN_ACTION]
    text = _CITATION.sub(lambda match: f"[{pairs[match.group(1)]}]", told.text)
    known = told.provenance.model_copy(update={"shared_with": told.annotation_id, "queue_ms": 0.0})
    made = partial(conclude, detector_score=detector_score, created_ns=created_ns, claims=claims)
    try:
        return made(evidence, causes, actions, text, known)
    except KeyError as error:
        raise AnswerRefused(f"answer refused: {error} is cited, and the alike anomaly has no such fact") from error


def _sorted(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(ids, key=lambda i: int(i[1:])))
