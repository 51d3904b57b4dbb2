"""The scenarios of the score card: repeatable, true, apart from training, and each stratum is what it says."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from broker.catalogue import catalogue
from broker.scorecard.episodes import posterior
from broker.scorecard.facts import INJECTED
from broker.scorecard.physics import FAULTS, QUANTITIES, VARIANTS
from broker.scorecard.scenarios import STRATA, Scenario, Stratum, held_out, scenario, withheld, withheld_pair
from llm.prompt import MAX_FACTS
from schemas.annotation import UNKNOWN
from schemas.evidence import Evidence


def some(count: int, **options: str) -> list[Scenario]:
    rng = random.Random(5)
    return [scenario(rng, **options) for _ in range(count)]  # type: ignore[arg-type]


def of(stratum: Stratum, count: int = 60) -> list[Scenario]:
    rng = random.Random(6)
    return [scenario(rng, stratum=stratum, held_out="yes") for _ in range(count)]


def test_the_same_seed_gives_the_same_scenarios() -> None:
    """Evidence ids are hashes of the whole content; a longer list begins with the shorter one."""
    ids = [one.evidence.evidence_id for one in held_out(48, 3)]
    assert ids == [one.evidence.evidence_id for one in held_out(64, 3)][:48]
    assert not set(ids) & {one.evidence.evidence_id for one in held_out(48, 4)}


def test_every_stratum_class_and_cause_comes_up() -> None:
    """The card has as many of each stratum; training names every catalogued cause."""
    counts = Counter(one.stratum for one in held_out(80, 1))
    assert counts == dict.fromkeys(STRATA, 10)
    cases = some(900)
    assert {s.stratum for s in cases} == set(STRATA)
    named = {(s.evidence.equipment_class, cause) for s in cases for cause in s.causes}
    assert named == {(name, cause) for name in QUANTITIES for cause in (*FAULTS[name], UNKNOWN)}


def test_truth_is_in_the_evidence() -> None:
    """Causes are listed or unknown; the facts they moved exist and are deviations of the machine itself."""
    for one in [*some(300), *held_out(160, 2)]:
        evidence = one.evidence
        assert Evidence.model_validate_json(evidence.body) == evidence
        assert set(one.causes) <= {o.id for o in evidence.causes} | {UNKNOWN}
        assert evidence.causes == catalogue(evidence.equipment_class).causes
        assert [fact.id for fact in evidence.facts] == [f"E{i}" for i in range(1, len(evidence.facts) + 1)]
        assert len(evidence.facts) <= MAX_FACTS
        for cause, cites in one.cites.items():
            assert cites or cause == UNKNOWN
            for fact_id in cites:
                fact = evidence.fact(fact_id)
                assert fact is not None
                assert fact.kind == "deviation"
                assert (fact.path or "").startswith(evidence.equipment + "/")


def test_what_is_withheld_is_not_in_training() -> None:
    """No held-out spelling, pair of faults, or injected text is in training; all of them are in the card."""

    def names(cases: list[Scenario]) -> set[str]:
        return {f.name for s in cases for f in s.evidence.facts if f.kind in ("deviation", "neighbour")}

    shown = some(900)
    last = {quantity.names[-1] for q in QUANTITIES.values() for quantity in q.values()}
    assert not names(shown) & last
    assert names(of("held_out")) & last
    pairs = {(s.evidence.equipment_class or "", s.causes) for s in shown if len(s.causes) == 2}
    assert pairs
    assert not [pair for pair in pairs if withheld_pair(pair[0], *pair[1])]
    both = {(s.evidence.equipment_class or "", s.causes) for s in of("held_out") if len(s.causes) == 2}
    assert both
    assert all(withheld_pair(name, *pair) for name, pair in both)
    said = " ".join(f"{f.name} {f.unit} {f.text}" for s in shown for f in s.evidence.facts)
    assert "override cause" in said
    assert not any(text.split("{")[0] in said for text in INJECTED[6:] if len(text.split("{")[0]) > 8)


def test_each_machine_class_withholds_a_fault_on_some_variant() -> None:
    """And no fault is withheld on every variant: then training would not know it."""
    for name, variants in VARIANTS.items():
        table = {cause: [withheld(name, cause, variant) for variant in variants] for cause in FAULTS[name]}
        assert not any(all(row) for row in table.values())
        if name != "energy_meter":
            assert any(any(row) for row in table.values())


def test_strata_are_what_they_say() -> None:
    """Unknown, unclear, instructions inside, many facts, another machine's tags."""
    assert all(s.causes == (UNKNOWN,) for s in of("out_of_catalogue"))
    assert all(max(s.posterior.values()) <= 0.8 for s in of("ambiguous"))
    parts = ("previous instructions", "PREVIOUS INSTRUCTIONS", "assistant:", "disregard", "[INST]", '"}')
    for one in of("injection"):
        said = " ".join(f"{fact.name} {fact.unit} {fact.text}" for fact in one.evidence.facts)
        assert any(part in said for part in parts), said
    long = [len(s.evidence.facts) for s in of("long")]
    assert min(long) > 9
    assert max(long) >= 18
    for one in of("several_machines"):
        moved = [f for f in one.evidence.facts if f.kind == "deviation"]
        foreign = [f for f in moved if not (f.path or "").startswith(one.evidence.equipment + "/")]
        assert foreign or len(moved) == 8
    assert any(len(s.causes) == 2 for s in of("held_out"))
    busy = sum(len([f for f in s.evidence.facts if f.kind == "deviation"]) for s in of("distractors"))
    calm = sum(len([f for f in s.evidence.facts if f.kind == "deviation"]) for s in of("in_distribution"))
    assert busy > 1.1 * calm


def test_units_differ_and_values_follow() -> None:
    """One quantity comes in several units, and lies the same number of sigmas away in each."""
    units = {
        fact.unit
        for one in some(300)
        for fact in one.evidence.facts
        if fact.name.endswith("Suction") or fact.name.lower().startswith("suction")
    }
    assert {"bar", "kPa"} <= units
    for one in some(200):
        for fact in one.evidence.facts:
            if (
                fact.kind == "deviation"
                and fact.direction in ("rose", "fell")
                and fact.value is not None
                and fact.baseline
            ):
                assert (fact.value > fact.baseline) == (fact.direction == "rose")


def test_posterior_is_right_as_often_as_it_says() -> None:
    """Bayes' rule over the generator: well calibrated on its own scenarios, and certain of the plain ones."""
    rng = random.Random(8)
    cases = [scenario(rng, stratum="in_distribution", held_out="no") for _ in range(500)]
    sure = [(max(s.posterior.values()), max(s.posterior, key=lambda c: s.posterior[c]) in s.causes) for s in cases]
    said, right = sum(p for p, _ in sure) / len(sure), sum(ok for _, ok in sure) / len(sure)
    assert abs(said - right) < 0.06
    plain = posterior("centrifugal_pump", "skid", {"bearing": "rose", "vibration": "rose", "flow": "normal"})
    assert plain["bearing_wear"] > 0.9
    assert sum(plain.values()) == pytest.approx(1.0)
    stuck = posterior("centrifugal_pump", "skid", {"flow": "flat"})
    assert stuck["sensor_stuck"] > 0.9
    nothing = posterior("heat_exchanger", "plate", dict.fromkeys(("product", "valve", "hot_in", "hot_out"), "normal"))
    assert max(nothing, key=lambda cause: nothing[cause]) == UNKNOWN
