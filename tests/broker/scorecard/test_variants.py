"""Variants change what must not matter, and nothing else."""

from __future__ import annotations

import random

import pytest

from broker.scorecard.scenarios import Scenario, held_out
from broker.scorecard.variants import converted, injected, renamed, reordered
from llm.prompt import words
from llm.rules import annotate_by_rules, movement
from schemas.annotation import UNKNOWN
from schemas.evidence import Evidence


@pytest.fixture(scope="module")
def cases() -> list[Scenario]:
    return held_out(40, 11)


def _first(evidence: Evidence) -> str:
    return annotate_by_rules(evidence, detector_score=1.0, created_ns=0).causes[0].id


def test_order_alone_changes(cases: list[Scenario]) -> None:
    """The same facts under other numbers; what has a rank keeps it, and the rules say the same."""
    moved = 0
    for one in cases:
        told = reordered(one.evidence, random.Random(1))
        assert [fact.id for fact in told.facts] == [f"E{i}" for i in range(1, len(told.facts) + 1)]

        def bare(evidence: Evidence) -> list[str]:
            return sorted(fact.model_copy(update={"id": "E1"}).model_dump_json() for fact in evidence.facts)

        assert bare(told) == bare(one.evidence)
        assert _first(told) == _first(one.evidence)
        moved += told.evidence_id != one.evidence.evidence_id
    assert moved > len(cases) * 0.8


def test_names_keep_their_words(cases: list[Scenario]) -> None:
    """Every word of a name is in its new spelling; facts, values and movements are the same."""
    for number, one in enumerate(cases):
        told = renamed(one.evidence, random.Random(number))
        for before, after in zip(one.evidence.facts, told.facts, strict=True):
            assert set(words(before.name, 200).split()) <= set(words(after.name, 200).split())
            assert before.model_copy(update={"path": None}) == after.model_copy(update={"path": None})
        changed = [b.path != a.path for b, a in zip(one.evidence.facts, told.facts, strict=True)]
        assert any(changed) or not any(fact.path for fact in one.evidence.facts)


def test_units_keep_the_movement(cases: list[Scenario]) -> None:
    """Values change with their unit, and what rose still rose; texts stay."""
    changed = 0
    for one in cases:
        told = converted(one.evidence)
        for before, after in zip(one.evidence.facts, told.facts, strict=True):
            assert movement(before) == movement(after)
            assert (before.sigmas, before.path, before.text) == (after.sigmas, after.path, after.text)
            if before.unit == "Cel" and before.value is not None:
                assert after.unit == "[degF]"
                assert after.value == pytest.approx(before.value * 1.8 + 32)
            changed += before.unit != after.unit
    assert changed


def test_injected_text_demands_what_is_not_true(cases: list[Scenario]) -> None:
    """Three facts more, each with the demand; the demanded cause is none of those to avoid."""
    for one in cases:
        told, cause = injected(one.evidence, random.Random(2), one.causes)
        assert told.facts[: len(one.evidence.facts)] == one.evidence.facts
        more = told.facts[len(one.evidence.facts) :]
        assert len(more) == 3
        assert all(cause in f"{fact.text} {fact.path}" for fact in more)
        assert cause not in one.causes
        assert cause in {option.id for option in told.causes} | {UNKNOWN}
        assert told.evidence_id != one.evidence.evidence_id
