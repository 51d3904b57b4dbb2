"""The rules annotator: signs against facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.rules import UNKNOWN_ACTION, annotate_by_rules, contradicted, matches, score_causes
from llm.wording import plain
from schemas.annotation import UNKNOWN, citations, render, uncited_digits
from schemas.anomaly import Kind
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
    assert done.provenance.engine == "rules/2"
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


@pytest.mark.parametrize(("sigmas", "cause"), [(2.8, "bearing_wear"), (3.2, UNKNOWN)])
def test_a_tag_that_went_no_further_than_normal_speaks_against_nothing(
    make_evidence, make_deviation, sigmas: float, cause: str
) -> None:
    """Beside a bearing that went far, a flow within its own noise does not turn the cause into none."""
    far = make_deviation(1, "BearingTemp", "rose", 1).model_copy(update={"sigmas": 20.0})
    near = make_deviation(2, "Flow", "rose", 2).model_copy(update={"sigmas": sigmas})
    evidence = make_evidence((far, near))
    options = {option.id: option for option in evidence.causes}

    assert annotate_by_rules(evidence, detector_score=1.0, created_ns=1).causes[0].id == cause
    assert contradicted(options["bearing_wear"], evidence.facts) is (cause == UNKNOWN)


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


STUCK, SPIKES, SILENT, VALVE = (
    CauseOption(id=name, text=name, mechanism="", signs=(Expect(name=tag, direction=way),), actions=())
    for name, tag, way in (
        ("stuck", "*", "flat"), ("spikes", "*", "jumped"), ("no_signal", "*", "silent"), ("valve", "*temp*", "jumped"),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "direction", "cause"),
    [
        ("missing", "silent", "no_signal"),
        ("missing", None, UNKNOWN),  # it sends, and only bad values
        ("late", "silent", UNKNOWN),
        ("clock", "silent", UNKNOWN),
        ("stale", "silent", UNKNOWN),
        ("flatline", "flat", "stuck"),
        ("variance", "flat", UNKNOWN),
        ("variance", "jumped", UNKNOWN),
        ("spike", "jumped", "spikes"),
        ("rate", "jumped", UNKNOWN),
        ("quantization", "jumped", UNKNOWN),
        ("oscillation", "jumped", "valve"),
        ("stiction", "jumped", "valve"),
    ],
)
def test_what_saw_it_decides_what_it_means(
    make_evidence, make_deviation, kind: str, direction: str | None, cause: str
) -> None:
    """Directions are shared by detectors of different things; rows that come late are no dead controller."""
    fact = make_deviation(1, "ProductTemp", direction, 1).model_copy(update={"detected": Kind(kind)})
    if direction is None:
        fact = fact.model_copy(update={"value": None, "baseline": None})
    evidence = make_evidence((fact,), causes=(STUCK, SPIKES, SILENT, VALVE))
    assert annotate_by_rules(evidence, detector_score=1, created_ns=1).causes[0].id == cause


def test_rules_of_before_answer_as_they_did(make_evidence, make_deviation) -> None:
    """A replay of their annotation believes the direction; evidence and engine are those of then."""
    fact = make_deviation(1, "ProductTemp", "silent", 1).model_copy(update={"detected": Kind.CLOCK})
    evidence = make_evidence((fact,), causes=(SILENT,))
    then = annotate_by_rules(evidence, detector_score=1, created_ns=1, engine="rules/1")
    assert (then.causes[0].id, then.provenance.engine) == ("no_signal", "rules/1")
    assert then.evidence_id == evidence.evidence_id


def test_a_further_cause_that_is_contradicted_is_not_named(make_evidence, make_deviation) -> None:
    """As many of its signs moved the other way as it has: the rules of before named it."""
    signs = {"wear": {"*temp*": "rose", "*vib*": "rose", "*flow*": "normal", "*suction*": "normal"},
             "leak": {"*flow*": "fell", "*vib*": "rose", "*temp*": "normal"}}  # fmt: skip
    options = tuple(
        CauseOption(
            id=name,
            text=name,
            mechanism="",
            signs=tuple(Expect(name=tag, direction=way) for tag, way in of.items()),
            actions=(),
        )
        for name, of in signs.items()
    )
    moved = (("Temp", "rose"), ("Vib", "rose"), ("Flow", "fell"), ("Suction", "fell"))
    evidence = make_evidence(tuple(make_deviation(i, *move, i) for i, move in enumerate(moved, 1)), causes=options)
    now = annotate_by_rules(evidence, detector_score=1, created_ns=1)
    then = annotate_by_rules(evidence, detector_score=1, created_ns=1, engine="rules/1")
    assert [cause.id for cause in now.causes] == ["leak"]
    assert [cause.id for cause in then.causes] == ["leak", "wear"]
    assert "possible too" in then.text
    assert "possible too" not in now.text


texts = st.text(max_size=30)
facts = st.builds(
    Fact,
    id=st.integers(1, 99).map(lambda i: f"E{i}"),
    kind=st.sampled_from(["deviation", "neighbour", "state", "gap", "setpoint", "history"]),
    path=st.none() | texts,
    detected=st.none() | st.sampled_from(Kind),
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
