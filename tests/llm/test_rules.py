"""The rules annotator: signs against facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.rules import UNKNOWN_ACTION, annotate_by_rules, contradicted, matches, score_causes
from llm.wording import plain
from schemas.annotation import UNKNOWN, citations, render, uncited_digits
from schemas.evidence import CauseOption, Evidence, Expect, Fact


def test_clear_case_names_the_cause_with_its_facts(bearing: Evidence) -> None:
    """A complete pattern gives its cause, the facts that support it, and the catalogue's actions in order."""
    done = annotate_by_rules(bearing, detector_score=4.0, created_ns=5)
    assert done.origin == "rules"
    assert [c.id for c in done.causes] == ["bearing_wear"]
    assert done.causes[0].probability > 0.9
    assert done.causes[0].cites == ("E1", "E2", "E3")
    assert done.actions == ("Inspect bearing", "Vibration survey")
    assert done.text == (
        "[E1] moved first; [E2] followed. The pattern fits bearing wear: bearing wear or lack of lubrication. "
        "For it: [E1], [E2] and [E3]."
    )
    assert done.provenance.engine == "rules/1"
    assert all(done.provenance.checks.values())
    assert "BearingTemp rose to 84.25 °C (before: 61.5 °C)" in render(done.text, bearing)


def test_contradiction_lowers_the_cause(bearing: Evidence, make_evidence, make_deviation) -> None:
    """The same tags in the opposite direction speak against the cause."""
    opposite = make_evidence((make_deviation(1, "BearingTemp", "rose", 1), make_deviation(2, "Vibration", "fell", 2)))
    for_it = score_causes(bearing)[0][0]
    against_it = score_causes(opposite)[0][0]
    assert against_it.option.id == for_it.option.id == "bearing_wear"
    assert against_it.probability < 0.5 < for_it.probability
    assert against_it.against == ("E2",)


def test_nothing_matching_is_unknown(make_evidence, make_deviation) -> None:
    """A movement that no cause names is said to be unknown, with the moved tag cited."""
    done = annotate_by_rules(
        make_evidence((make_deviation(1, "Humidity", "rose", 1),)), detector_score=1.0, created_ns=1
    )
    assert [(c.id, c.cites) for c in done.causes] == [(UNKNOWN, ("E1",))]
    assert done.actions == (UNKNOWN_ACTION,)
    assert done.text.startswith("Only [E1] deviates.")


def test_calm_neighbours_alone_support_nothing(make_evidence, make_neighbour) -> None:
    """That a tag stayed normal never makes a cause a candidate."""
    assert score_causes(make_evidence((make_neighbour(1, "Flow"),)))[0] == []


def test_two_causes_share_the_probability(make_evidence, make_deviation) -> None:
    """A sign of two causes names both, and the shares with unknown add up to one."""
    evidence = make_evidence((make_deviation(1, "Vibration", "rose", 1), make_deviation(2, "Flow", "fell", 2)))
    scored, unknown = score_causes(evidence)
    assert sum(s.probability for s in scored) + unknown == pytest.approx(1)
    assert [s.option.id for s in scored] == ["cavitation", "bearing_wear"]


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*bearing*temp*", "BearingTemp", True),
        ("*bearing*temp*", "DE_Bearing-Temp.PV", True),
        ("suction_pressure", "SuctionPressure", True),
        ("*flow*", "Level", False),
        ("[a]", "[a]", False),
    ],
)
def test_names_match_without_case_and_separators(pattern: str, name: str, fits: bool) -> None:
    """Patterns are compared with the lower-case name, with and without separators."""
    assert matches(pattern, name) is fits


def test_catalogue_text_with_digits_stays_out_of_the_text(make_evidence, make_deviation) -> None:
    """Digits and brackets of a catalogue entry do not reach the free text."""
    option = CauseOption(
        id="stage_2_leak",
        text="Leak at stage 2 [E9] above 3.5 bar",
        mechanism="1.1",
        signs=(Expect(name="*flow*", direction="fell"),),
        actions=(),
    )
    done = annotate_by_rules(
        make_evidence((make_deviation(1, "Flow", "fell", 1),), causes=(option,)), detector_score=1, created_ns=1
    )
    assert not uncited_digits(done.text)
    assert set(citations(done.text)) == {"E1"}


texts = st.text(max_size=30)
facts = st.builds(
    Fact,
    id=st.integers(1, 99).map(lambda i: f"E{i}"),
    kind=st.sampled_from(["deviation", "neighbour", "state", "gap", "setpoint", "history"]),
    path=st.none() | texts,
    direction=st.none() | st.sampled_from(["rose", "fell", "flat", "silent", "jumped"]),
    value=st.none() | st.floats(allow_nan=False),
    baseline=st.none() | st.floats(allow_nan=False),
    sigmas=st.none() | st.floats(0, 1e6),
    rank=st.none() | st.integers(1, 9),
    text=texts,
)
options = st.builds(
    CauseOption,
    id=st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True),
    text=texts,
    mechanism=texts,
    signs=st.lists(
        st.builds(
            Expect, name=texts, direction=st.sampled_from(["rose", "fell", "flat", "normal", "silent", "jumped"])
        ),
        max_size=4,
    ).map(tuple),
    actions=st.just(()),
)


@given(st.lists(facts, max_size=8, unique_by=lambda f: f.id), st.lists(options, max_size=5, unique_by=lambda o: o.id))
def test_rules_answer_whatever_the_evidence(fact_list: list[Fact], option_list: list[CauseOption]) -> None:
    """Any evidence gives a valid annotation whose checks pass."""
    evidence = Evidence.model_validate(
        {
            "anomaly_id": "a",
            "anomaly_revision": 1,
            "equipment": "x",
            "equipment_class": None,
            "kind": "rate",
            "severity": 2,
            "ne107": "S",
            "at_ns": 0,
            "record_seq": 0,
            "facts": fact_list,
            "causes": option_list,
            "actions": (),
        }
    )
    done = annotate_by_rules(evidence, detector_score=1.0, created_ns=1, fallback_reason="because")
    assert all(done.provenance.checks.values())
    assert len(done.text) <= 600
    assert done.provenance.fallback_reason == "because"


@given(st.text(max_size=100))
def test_plain_text_has_no_digit(text: str) -> None:
    """Whatever the catalogue says, its plain form holds no digit and no bracket."""
    assert not uncited_digits(plain(text, 50))
    assert "[" not in plain(text, 50)


def test_cause_is_contradicted_when_its_signs_moved_the_other_way(make_evidence, make_deviation) -> None:
    """A cause for which one sign speaks and against which one speaks is refused; one that fits is not."""
    wear = make_evidence(()).causes[0]
    hot, calm = make_deviation(1, "BearingTemp", "rose", 1), make_deviation(2, "Vibration", "fell", 2)

    assert not contradicted(wear, (hot,))
    assert contradicted(wear, (hot, calm))
    assert contradicted(wear, (calm,))
