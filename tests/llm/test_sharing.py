"""One answer for alike anomalies: what is alike, and what becomes of ids, citations and checks."""

from __future__ import annotations

import pytest

from llm.compose import conclude
from llm.sharing import likeness, transfer
from schemas.annotation import Annotation, Cause, Provenance, citations
from schemas.errors import AnswerRefused
from schemas.evidence import Evidence, Fact

KNOWN = Provenance(engine="test", model_sha256="a" * 64, output_tokens=(1, 2), prompt_text="the prompt of the first")


def answer(evidence: Evidence, text: str = "[E1] and [E2] point to it", actions=("inspect_bearing", "+Listen to it")):
    cause = Cause(id="bearing_wear", text="Bearing wear", mechanism="2.4 Wear", probability=0.9, cites=("E1", "E2"))
    return conclude(evidence, [cause], actions, text, KNOWN, detector_score=2.0, created_ns=1)


def share(told: Annotation, first: Evidence, second: Evidence) -> Annotation:
    return transfer(told, (first, second), (first, second), detector_score=3.0, created_ns=9)


def elsewhere(evidence: Evidence, facts: tuple[Fact, ...] | None = None) -> Evidence:
    """The same on another machine, with other figures."""
    moved = tuple(
        fact.model_copy(update={"path": f"acme/south/P2/{fact.name}", "value": 12.0, "baseline": 7.0})
        for fact in (evidence.facts if facts is None else facts)
    )
    return Evidence.model_validate(
        evidence.model_dump()
        | {"anomaly_id": "b2", "equipment": "acme/south/P2", "facts": [f.model_dump() for f in moved]}
    )


def test_alike_is_what_a_model_would_be_asked_the_same(make_evidence, make_deviation, bearing: Evidence) -> None:
    """Machine, figures and the order of what is equal do not count; direction, strength, causes and history do."""
    one = likeness(bearing)
    assert likeness(elsewhere(bearing)) == one
    first, second, third = bearing.facts
    for other in (
        make_evidence((first.model_copy(update={"direction": "fell"}), second, third)),
        make_evidence((first.model_copy(update={"sigmas": 40.0}), second, third)),
        make_evidence((first, second)),
        make_evidence((*bearing.facts, Fact(id="E4", kind="history", text="x", cause="a", verdict="approved"))),
        make_evidence((*bearing.facts, Fact(id="E4", kind="passage", text="x", source="a.pdf"))),
        make_evidence(bearing.facts, causes=bearing.causes[:1]),
        bearing.model_copy(update={"equipment_class": "fan"}),
    ):
        assert likeness(other) != one


def test_citations_are_put_on_the_others_facts(bearing: Evidence) -> None:
    """Facts in another order have other ids; the text and the cause cite those that say the same."""
    told = answer(bearing)
    first, second, third = bearing.facts
    facts = tuple(fact.model_copy(update={"id": f"E{i}"}) for i, fact in enumerate((third, second, first), 1))
    other = elsewhere(bearing, facts)
    made = share(told, bearing, other)
    assert likeness(other) == likeness(bearing)
    assert made.causes[0].cites == ("E2", "E3")
    assert citations(made.text) == ["E3", "E2"]
    assert made.actions == told.actions == ("Inspect bearing", "Listen to it")
    assert (made.anomaly_id, made.evidence_id) == ("b2", other.evidence_id)
    assert made.annotation_id != told.annotation_id
    assert made.provenance.shared_with == told.annotation_id
    assert made.provenance.output_tokens == told.provenance.output_tokens
    assert all(made.provenance.checks.values())
    assert (made.detector_score, made.created_ns) == (3.0, 9)


def test_what_code_cites_is_that_of_the_other(make_evidence, bearing: Evidence) -> None:
    """A passage about the first machine is not carried over to the second, which has its own."""
    passage = Fact(id="E4", kind="passage", text="Bearing wear by lack of lubrication", source="P1.pdf", page=1)
    with_it = make_evidence((*bearing.facts, passage))
    told = answer(with_it)
    assert told.provenance.cited_by_code == ("E4",)
    both = (with_it, elsewhere(bearing)), (bearing, elsewhere(bearing))
    made = transfer(told, *both, detector_score=3.0, created_ns=9)
    assert made.causes[0].cites == ("E1", "E2")
    assert made.provenance.cited_by_code == ()
    own = elsewhere(with_it)
    made = transfer(told, (with_it, own), (bearing, elsewhere(bearing)), detector_score=3.0, created_ns=9)
    assert made.provenance.cited_by_code == ("E4",)


def test_checks_are_made_again(bearing: Evidence) -> None:
    """An answer that does not hold for the other anomaly is refused; it is asked for itself then."""
    other = elsewhere(bearing)
    told = answer(bearing)
    against = other.model_copy(update={"causes": tuple(c for c in other.causes if c.id != "bearing_wear")})
    with pytest.raises(AnswerRefused, match="cause is not in the catalogue"):
        share(told, bearing, against)
