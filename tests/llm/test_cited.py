"""What code cites for a cause: passages that speak of it and episodes that a person judged; and their weight."""

from __future__ import annotations

import pytest

from llm.cited import by_code, passage_for
from llm.rules import annotate_by_rules, score_causes
from schemas.annotation import phrase, render
from schemas.evidence import Evidence, Fact
from schemas.words import words


def passage(number: int, text: str) -> Fact:
    return Fact(id=f"E{number}", kind="passage", text=text, source="pump.pdf", page=3)


def history(number: int, cause: str, verdict: str) -> Fact:
    return Fact(id=f"E{number}", kind="history", text="a similar episode", cause=cause, verdict=verdict)


def rules(evidence: Evidence):
    return annotate_by_rules(evidence, detector_score=2.0, created_ns=1)


def test_words_meet_over_forms() -> None:
    """Humps, plurals, accents, short forms and common words."""
    assert words("BearingTemp_02 of the Wälzlager") == ["bearing", "temperature", "02", "walzlager"]
    assert words("bearings BEARINGS boxes batteries pressure") == ["bearing", "bearing", "box", "battery", "pressure"]


def test_the_passage_that_speaks_of_the_cause_is_cited(make_evidence, bearing: Evidence) -> None:
    """Two words of the cause are needed; the text says where the sentence comes from, and holds no digit of it."""
    facts = (
        *bearing.facts,
        passage(4, "The bearing has a name plate."),
        passage(5, "Lack of lubrication wears the bearing within 200 h."),
        passage(6, "A bearing with wear."),
    )
    done = rules(make_evidence(facts))
    assert done.causes[0].id == "bearing_wear"
    assert done.causes[0].cites[-1] == "E5"
    assert done.provenance.cited_by_code == ("E5",)
    assert "The site's own documents speak of it: [E5]." in done.text
    assert all(done.provenance.checks.values())
    cavitation = next(option for option in bearing.causes if option.id == "cavitation")
    assert passage_for(cavitation, facts) is None


def test_without_passages_and_verdicts_nothing_is_added(bearing: Evidence) -> None:
    """Control: the same annotation as before there were any."""
    done = rules(bearing)
    assert done.provenance.cited_by_code == ()
    assert "documents" not in done.text
    assert "person" not in done.text


@pytest.mark.parametrize(("verdict", "more"), [("approved", True), ("edited", True), ("rejected", False)])
def test_a_verdict_moves_the_probability_and_is_cited(
    make_evidence, bearing: Evidence, verdict: str, more: bool
) -> None:
    """What a person said of the cause in a similar episode counts, is told, and is named beside what was measured."""
    plain = {one.option.id: one.probability for one in score_causes(bearing)[0]}
    judged = make_evidence((*bearing.facts, history(4, "bearing_wear", verdict)))
    told = {one.option.id: one.probability for one in score_causes(judged)[0]}
    assert (told["bearing_wear"] > plain["bearing_wear"]) is more
    done = rules(judged)
    assert done.causes[0].id == "bearing_wear"
    assert ("E4" in done.causes[0].cites) is more
    said = "named it" if more else "rejected it"
    assert f"A person {said} in a similar episode: [E4]." in done.text


def test_a_verdict_on_another_cause_or_without_one_says_nothing(make_evidence, bearing: Evidence) -> None:
    """Only what is about a cause counts for it."""
    plain = score_causes(bearing)
    for fact in (history(4, "seal_leak", "approved"), Fact(id="E4", kind="history", text="not reviewed")):
        assert [one.probability for one in score_causes(make_evidence((*bearing.facts, fact)))[0]] == [
            one.probability for one in plain[0]
        ]
    option = next(option for option in bearing.causes if option.id == "bearing_wear")
    assert by_code(option, (*bearing.facts, history(4, "cavitation", "approved"))) == ()


def test_a_quotation_is_whole_beside_the_fact_and_cut_in_a_sentence(make_evidence) -> None:
    """File with page, or line; marks of quotation around what somebody wrote."""
    long = passage(1, "Grease the bearing. " * 15)
    logged = Fact(id="E2", kind="passage", text="greased", source="log.csv", line=7)
    assert phrase(long).endswith("Grease the bearing. ” (pump.pdf, page 3)")
    assert phrase(logged) == "“greased” (log.csv, line 7)"
    told = render("As [E1] says", make_evidence((long, logged)))
    assert told.startswith("As [E1: “Grease the bearing.")
    assert told.endswith(" …” (pump.pdf, page 3)] says")
    assert len(told) < 200
