"""Checks of a model's answer against its evidence."""

from __future__ import annotations

import msgspec
import pytest

from llm.checks import check_model, claims_direction
from llm.compose import CLAIMS, claims_of, compose
from llm.grammar import MAX_BYTES, free_text
from llm.messages import Reply
from schemas.annotation import Provenance
from schemas.errors import AnswerRefused, WorkerError
from schemas.evidence import Evidence, Fact

GOOD = {
    "causes": [{"id": "bearing_wear", "cites": ["E1", "E2"]}],
    "actions": ["inspect_bearing"],
    "text": "[E1] with [E2] points to bearing wear.",
}


def reply(answer: object, probabilities: list[float | None] | None = None) -> Reply:
    return Reply(
        id=1,
        answer=answer if isinstance(answer, bytes) else msgspec.json.encode(answer),
        probabilities=[0.8] if probabilities is None else probabilities,
        choices=[("cause:bearing_wear", 0.8)],
        shares=[("bearing_wear", 0.8), ("unknown", 0.2)],
        tokens=[1],
        prompt_text="",
        prompt_tokens=1,
        prompt_sha256="",
        plan_sha256="",
        prefill_ms=1,
        decision_ms=1,
        decode_ms=1,
    )


def test_a_good_answer_becomes_an_annotation(bearing: Evidence) -> None:
    """Texts of causes and actions come from the catalogue, the probability from the decoder."""
    done = compose(bearing, reply(GOOD), Provenance(engine="x"), detector_score=3, created_ns=9)
    assert done.origin == "model"
    assert done.causes[0].mechanism == "2.4 Wear"
    assert done.causes[0].probability == 0.8
    assert done.actions == ("Inspect bearing",)
    assert done.provenance.checks
    assert all(done.provenance.checks.values())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"causes": [{"id": "aliens", "cites": ["E1"]}]}, "cause is not in the catalogue"),
        ({"causes": [{"id": "bearing_wear", "cites": ["E9"]}]}, "cited fact does not exist"),
        ({"actions": ["open_valve"]}, "action is not in the catalogue"),
        ({"actions": ["+Listen to it", "+Touch it"]}, "own words holds a forbidden character, or there are two"),
        ({"actions": ["+Grease with 30 g"]}, "own words holds a forbidden character"),
        ({"actions": ["+See [E1] now"]}, "own words holds a forbidden character"),
        ({"actions": ["+" + "x" * 81]}, "own words holds a forbidden character"),
        ({"causes": [{"id": "bearing_wear", "cites": ["E3"]}]}, "none of the cited facts is a sign"),
        ({"text": "[E1] shows 84 degrees."}, "digit outside"),
        ({"text": "[E7] points to bearing wear."}, "cites a fact that does not exist"),
        ({"text": "Bearing wear."}, "cites nothing"),
        ({"text": "[E1] rose."}, "claims a direction"),
        ({"text": "[E1] <b>bold</b>"}, "forbidden character"),
        ({"text": "[E1] \u00b2"}, "digit outside"),
        ({"causes": []}, "no entries"),
        ({"severity": "info"}, "not the form"),
        ({"text": 5}, "not the form"),
    ],
)
def test_a_wrong_answer_is_refused_with_its_reason(bearing: Evidence, change: dict[str, object], reason: str) -> None:
    """Each check refuses what it is for, and says so."""
    with pytest.raises(WorkerError, match=reason):
        compose(bearing, reply(GOOD | change), Provenance(engine="x"), detector_score=3, created_ns=9)


def test_a_cause_rests_on_a_fact_that_is_a_sign_of_it(make_evidence, make_deviation, bearing: Evidence) -> None:
    """Citing a fact that has nothing to do with the cause does not support it; the passage that code adds does not."""
    passage = Fact(id="E5", kind="passage", text="Bearing wear by lack of lubrication", source="a.pdf")
    evidence = make_evidence((*bearing.facts, make_deviation(4, "Level", "rose", 3), passage))
    wrong = GOOD | {"causes": [{"id": "bearing_wear", "cites": ["E4"]}]}
    with pytest.raises(AnswerRefused, match="none of the cited facts is a sign of the cause"):
        compose(evidence, reply(wrong), Provenance(engine="x"), detector_score=3, created_ns=9)
    right = GOOD | {"causes": [{"id": "bearing_wear", "cites": ["E1", "E4"]}]}
    done = compose(evidence, reply(right), Provenance(engine="x"), detector_score=3, created_ns=9)
    assert done.causes[0].cites == ("E1", "E4", "E5")


@pytest.mark.parametrize(
    ("further", "why"),
    [
        ({"id": "cavitation", "cites": ["E1"]}, "no cited fact is a sign of it"),
        ({"id": "cavitation", "cites": ["E2", "E4"]}, "the evidence speaks against it"),
    ],
)
def test_a_further_cause_that_does_not_hold_is_left_out(
    make_evidence, make_deviation, bearing: Evidence, further: dict[str, object], why: str
) -> None:
    """It goes with the action that helps against it alone, and provenance says so; the first cause stands."""
    evidence = make_evidence((*bearing.facts[:2], make_deviation(3, "Flow", "rose", 3), bearing.facts[2]))
    evidence = evidence.with_facts(tuple(f.model_copy(update={"id": f"E{i}"}) for i, f in enumerate(evidence.facts, 1)))
    answer = GOOD | {"causes": [GOOD["causes"][0], further], "actions": ["check_suction", "inspect_bearing"]}
    done = compose(evidence, reply(answer, [0.6, 0.3]), Provenance(engine="x"), detector_score=3, created_ns=9)
    assert [cause.id for cause in done.causes] == ["bearing_wear"], why
    assert done.actions == ("Inspect bearing",)
    assert done.provenance.dropped == ("cavitation",)
    assert not done.provenance.checks["further_causes_hold"]

    then = compose(
        evidence, reply(answer, [0.6, 0.3]), Provenance(engine="x"), detector_score=3, created_ns=9, claims=1
    )
    assert [cause.id for cause in then.causes] == ["bearing_wear", "cavitation"]
    assert then.actions == ("Check suction", "Inspect bearing")
    assert (claims_of(then.provenance), claims_of(done.provenance)) == (1, CLAIMS)


def test_a_further_cause_that_holds_stays(make_evidence, make_deviation) -> None:
    """Two faults whose signs are all there, and ``unknown``, which claims nothing."""
    facts = tuple(make_deviation(i, *move, i) for i, move in enumerate(
        (("BearingTemp", "rose"), ("Vibration", "rose"), ("SuctionPressure", "fell")), 1
    ))  # fmt: skip
    for further in ({"id": "cavitation", "cites": ["E3"]}, {"id": "unknown", "cites": ["E1"]}):
        answer = GOOD | {"causes": [GOOD["causes"][0], further]}
        done = compose(
            make_evidence(facts), reply(answer, [0.6, 0.3]), Provenance(engine="x"), detector_score=3, created_ns=9
        )
        assert [cause.id for cause in done.causes] == ["bearing_wear", further["id"]]
        assert done.provenance.checks["further_causes_hold"]
        assert done.provenance.dropped == ()


def test_an_action_in_own_words_stands_beside_listed_ones(bearing: Evidence) -> None:
    """Words without digit, citation or markup, shown as they are."""
    answer = GOOD | {"actions": ["inspect_bearing", "+Listen at the drive  end"]}
    done = compose(bearing, reply(answer), Provenance(engine="x"), detector_score=3, created_ns=9)
    assert done.actions == ("Inspect bearing", "Listen at the drive end")
    assert done.provenance.checks["own_action_plain"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b'{"causes":1}'])
def test_broken_json_is_refused(bearing: Evidence, body: bytes) -> None:
    """Bytes that are not the form are refused."""
    with pytest.raises(WorkerError, match="not the form"):
        compose(bearing, reply(body), Provenance(engine="x"), detector_score=3, created_ns=9)


@pytest.mark.parametrize("probabilities", [[], [1.5], [-0.1], [0.5, 0.5], [float("nan")]])
def test_impossible_probabilities_are_refused(bearing: Evidence, probabilities: list[float]) -> None:
    """One probability a cause, between 0 and 1."""
    with pytest.raises(WorkerError, match="probability"):
        compose(bearing, reply(GOOD, probabilities), Provenance(engine="x"), detector_score=3, created_ns=9)


def test_a_probability_may_be_missing_and_is_not_made_up(bearing: Evidence) -> None:
    """A model server that tells none: the cause has none, and its text still names it."""
    told = reply(GOOD | {"causes": [GOOD["causes"][0], {"id": "unknown", "cites": ["E1"]}]}, [None, None])
    done = compose(bearing, told, Provenance(engine="x"), detector_score=3, created_ns=9)
    assert [cause.probability for cause in done.causes] == [None, None]


def test_rounding_above_one_is_cut(bearing: Evidence) -> None:
    """A sum of shares that rounding put above one is one."""
    done = compose(bearing, reply(GOOD, [1 + 1e-12]), Provenance(engine="x"), detector_score=3, created_ns=9)
    assert done.causes[0].probability == 1


@pytest.mark.parametrize("text", ["it rose", "Falling pressure", "an increase", "dropped", "stays silent"])
def test_direction_words_are_found(text: str) -> None:
    """Verbs of direction are claims."""
    assert claims_direction(text)


@pytest.mark.parametrize("text", ["points to wear", "a rosette", "fellow", "dropout of the network"])
def test_other_words_are_no_claims(text: str) -> None:
    """Words that only look alike pass."""
    assert not claims_direction(text)


def test_name_of_a_cause_is_no_claim(bearing: Evidence) -> None:
    """A catalogued cause may be called by its name; the same word elsewhere is a claim."""
    drop = bearing.causes[0].model_copy(update={"id": "load_drop"})
    evidence = bearing.model_copy(update={"causes": (drop,)})
    assert check_model(evidence, [], [], "[E1] points to load drop.")["no_direction_claim"]
    assert not check_model(evidence, [], [], "[E1] is a drop of load.")["no_direction_claim"]


def test_longest_text_fits_the_check(bearing: Evidence) -> None:
    """The byte bound of the grammar is below the limit that the design names."""
    assert MAX_BYTES <= 175
    assert "1,3" in free_text(["E1"])
    assert "cite" not in free_text([])
    assert check_model(bearing, [], [], "[E1] x")["text_cites"]
