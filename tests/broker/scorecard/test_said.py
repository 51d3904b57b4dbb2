"""What is checked of one answer: each fault is found, and a sound answer has none."""

from __future__ import annotations

import msgspec
import pytest

from broker.scorecard.said import Said, claims_hold, numbers_stand, of_reply, of_rules, tags_stand
from llm.messages import Reply
from llm.rules import annotate_by_rules
from schemas.anomaly import Kind, Severity
from schemas.evidence import Action, CauseOption, Evidence, Expect, Fact

UNIT = "acme/north/P1"


def _fact(number: int, name: str, direction: str = "rose") -> Fact:
    return Fact(
        id=f"E{number}",
        kind="deviation",
        path=f"{UNIT}/{name}",
        unit="Cel",
        detected=Kind.MEAN_SHIFT,
        direction=direction,  # type: ignore[arg-type]
        value=84.25,
        baseline=61.5,
        sigmas=9.5,
        rank=number,
    )


@pytest.fixture
def evidence() -> Evidence:
    option = CauseOption(
        id="bearing_wear",
        text="Bearing wear after a load drop",
        mechanism="2.4 Wear",
        signs=(Expect(name="*bearing*", direction="rose"), Expect(name="*vibration*", direction="rose")),
        actions=("inspect",),
    )
    return Evidence(
        anomaly_id="a",
        anomaly_revision=1,
        equipment=UNIT,
        equipment_class="centrifugal_pump",
        kind=Kind.MEAN_SHIFT,
        severity=Severity.HIGH,
        ne107="M",
        at_ns=0,
        record_seq=0,
        facts=(_fact(1, "BearingTemp_02"), _fact(2, "Vibration")),
        causes=(option,),
        actions=(Action(id="inspect", text="Inspect"),),
    )


def _said(evidence: Evidence, answer: object, probabilities: list[float] | None = None) -> Said:
    reply = Reply(
        id=1,
        answer=answer if isinstance(answer, bytes) else msgspec.json.encode(answer),
        probabilities=[0.8] if probabilities is None else probabilities,
        choices=[],
        shares=[("bearing_wear", 0.8), ("unknown", 0.2)],
        tokens=[],
        prompt_text="",
        prompt_tokens=0,
        prompt_sha256="",
        plan_sha256="",
        prefill_ms=0,
        decision_ms=0,
        decode_ms=0,
    )
    return of_reply(evidence, reply)


def _answer(**changes: object) -> dict[str, object]:
    good = {
        "causes": [{"id": "bearing_wear", "cites": ["E1", "E2"]}],
        "actions": ["inspect"],
        "text": "[E1] with [E2].",
    }
    return good | changes


def test_a_sound_answer_has_no_fault(evidence: Evidence) -> None:
    said = _said(evidence, _answer())
    assert said == Said(
        first="bearing_wear",
        shares={"bearing_wear": 0.8, "unknown": 0.2},
        cites=("E1", "E2"),
        schema_valid=True,
        citation_valid=True,
        claim_support=True,
        numbers_faithful=True,
        tags_faithful=True,
        refused=False,
    )
    assert said.best(1) == ["bearing_wear"]
    assert said.probability == 0.8


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (_answer(causes=[{"id": "magic", "cites": ["E1"]}]), "schema_valid"),
        (_answer(actions=["pray"]), "schema_valid"),
        (_answer(causes=[{"id": "bearing_wear", "cites": ["E9"]}]), "citation_valid"),
        (_answer(causes=[{"id": "bearing_wear", "cites": ["E1", "E1"]}]), "citation_valid"),
        (_answer(text="[E9] says so."), "citation_valid"),
        (_answer(text="It is worn."), "citation_valid"),
        (_answer(text="[E1] rose."), "claim_support"),
        (_answer(text="[E1] at 99 degrees."), "numbers_faithful"),
        (_answer(text="[E1] as MotorPower tells."), "tags_faithful"),
        (_answer(text="[E1] as motor_power tells."), "tags_faithful"),
    ],
)
def test_each_fault_is_found(evidence: Evidence, answer: object, fault: str) -> None:
    """It alone, or with what follows from it."""
    said = _said(evidence, answer)
    assert getattr(said, fault) is False
    assert said != _said(evidence, _answer())


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (_answer(actions=["pray"]), True),
        (_answer(text="[E1] rose."), True),
        (_answer(text="[E1] at 99 degrees."), True),
        # only the card counts these two
        (_answer(text="[E1] as MotorPower tells."), False),
        (_answer(causes=[{"id": "bearing_wear", "cites": ["E1", "E1"]}]), False),
    ],
)
def test_what_the_service_refuses_is_told(evidence: Evidence, answer: object, refused: bool) -> None:
    assert _said(evidence, answer).refused is refused


@pytest.mark.parametrize("answer", [b"{", b"[]", b'{"causes":[],"actions":[],"text":""}', b"\xff"])
def test_what_is_not_the_form_is_nothing(evidence: Evidence, answer: bytes) -> None:
    said = _said(evidence, answer)
    assert (said.first, said.schema_valid, said.refused) == ("", False, True)
    assert said.fault


def test_a_missing_probability_is_no_form(evidence: Evidence) -> None:
    said = _said(evidence, _answer(), [])
    assert (said.schema_valid, said.refused) == (False, True)


def test_numbers_of_the_evidence_may_be_told(evidence: Evidence) -> None:
    """The rendered value, the digit in a tag's name, the id; nothing else."""
    assert numbers_stand(evidence, "[E1] and [E2] of BearingTemp_02")
    assert not numbers_stand(evidence, "[E1] by 3")


def test_tags_of_the_evidence_may_be_told(evidence: Evidence) -> None:
    assert tags_stand(evidence, "[E1] of BearingTemp_02 in m³/h or kWh")
    assert not tags_stand(evidence, "[E1] of BearingTemp_03")


def test_a_cause_against_its_signs_is_not_supported(evidence: Evidence) -> None:
    """The name of a cause may hold a word of direction; the evidence may not say the opposite of the cause."""
    assert claims_hold(evidence, "bearing_wear", "[E1] fits bearing wear after a load drop")
    fell = evidence.with_facts((_fact(1, "BearingTemp_02", "fell"), _fact(2, "Vibration", "fell")))
    assert not claims_hold(fell, "bearing_wear", "[E1]")


def test_rules_are_judged_alike(evidence: Evidence) -> None:
    said = of_rules(evidence, annotate_by_rules(evidence, detector_score=1, created_ns=0))
    assert said.first == "bearing_wear"
    assert (said.schema_valid, said.citation_valid, said.claim_support, said.refused) == (True, True, True, False)
    assert said.numbers_faithful
    assert said.tags_faithful
    assert "unknown" in said.shares
