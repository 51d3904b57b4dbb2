"""Every figure on cases small enough to compute by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from broker.scorecard.figures import auroc, brier, calibration_error, confusions, figures, macro_f1, share, span
from broker.scorecard.runner import spread
from broker.scorecard.said import Said, nothing
from broker.scorecard.scenarios import STRATA, Scenario, held_out, scenario
from schemas.annotation import UNKNOWN


def test_share_of_nothing_is_nothing() -> None:
    assert share([]) is None
    assert share([True, False, True, True]) == 0.75


def test_macro_f1() -> None:
    """a: 1 hit of 2 true and 1 said, F1 2/3; b: 1 hit, 1 false, F1 2/3; c: never said, F1 0."""
    assert macro_f1([("a", "a"), ("a", "b"), ("b", "b"), ("c", "a")]) == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert macro_f1([("a", "a"), ("b", "b")]) == 1.0
    assert macro_f1([("a", "")]) == 0.0, "no answer is no class of its own"
    assert macro_f1([]) is None


def test_auroc_counts_pairs_and_halves_ties() -> None:
    """Two that are, two that are not: of four pairs three are in order and one is a tie."""
    assert auroc([(0.9, True), (0.5, True), (0.5, False), (0.1, False)]) == pytest.approx(3.5 / 4)
    assert auroc([(0.1, True), (0.9, False)]) == 0.0
    assert auroc([(0.3, True), (0.3, False)]) == 0.5
    assert auroc([(0.3, True)]) is None


def test_calibration_error_and_brier() -> None:
    """Two bins: 0.75 twice, one right (gap 0.5), and 0.2 once, wrong (gap 0.2): (0.5 + 0.2) / 3."""
    pairs = [(0.75, True), (0.75, False), (0.2, False)]
    assert calibration_error(pairs) == pytest.approx(0.7 / 3)
    assert brier(pairs) == pytest.approx((0.25**2 + 0.75**2 + 0.2**2) / 3)
    assert calibration_error([(1.0, True), (0.0, False)]) == 0.0
    assert calibration_error([(0.8, True)]) == pytest.approx(0.2)
    # errors in one bin cancel, across bins they do not
    assert calibration_error([(0.75, True), (0.75, True), (0.75, True), (0.75, False)]) == pytest.approx(0.0)
    assert calibration_error([]) is None


def test_span_is_median_and_95th_percentile() -> None:
    found = span([float(i) for i in range(1, 102)])
    assert (found.p50, found.p95) == (51.0, 96.0)


def _case() -> Scenario:
    """One with at least two deviations that a cause moved, and a neighbour."""
    rng = random.Random(3)
    while True:
        one = scenario(rng, stratum="in_distribution")
        kinds = {fact.kind for fact in one.evidence.facts}
        if one.causes[0] != UNKNOWN and len(one.cites[one.causes[0]]) >= 2 and "neighbour" in kinds:
            return one


def test_figures_of_answers() -> None:
    """Right with half of its facts, right with all and one neighbour, wrong, and none at all."""
    one = _case()
    cause = one.causes[0]
    true = one.cites[cause]
    deviations = [fact.id for fact in one.evidence.facts if fact.kind == "deviation"]
    calm = next(fact.id for fact in one.evidence.facts if fact.kind == "neighbour")
    other = next(option.id for option in one.evidence.causes if option.id not in one.causes)
    half = Said(cause, {cause: 0.9, other: 0.1, UNKNOWN: 0.0}, true[:1], True, True, True, True, True, False)
    full = Said(cause, {cause: 0.6, other: 0.4, UNKNOWN: 0.0}, (*true, calm), True, True, True, True, True, False)
    wrong = Said(other, {other: 0.7, cause: 0.2, UNKNOWN: 0.1}, (deviations[0],), True, True, False, True, True, True)
    pairs = [(one, half), (one, full), (one, wrong), (one, nothing("late"))]
    found = figures(pairs)
    assert found.scenarios == 4
    assert found.top1 == 0.5
    assert found.top3 == 0.75
    assert found.schema_valid == found.citation_valid == found.numbers_faithful == 0.75
    assert found.claim_support == 0.5
    assert found.refused == 0.5
    # only right answers count, and a fact that something stayed normal is not held against them
    assert found.citation_precision == 1.0
    assert found.citation_recall == pytest.approx((1 + len(true)) / (2 * len(true)))
    # 1 + len(true) + 1 wrong one are deviations, the neighbour is not
    assert found.citation_moved == pytest.approx((2 + len(true)) / (3 + len(true)))
    assert found.unknown_auroc is None
    assert found.ece == pytest.approx((0.1 + 0.4 + 0.7) / 4)
    assert found.brier == pytest.approx((0.1**2 + 0.4**2 + 0.7**2) / 4)
    assert set(confusions(pairs)) == {(cause, "no answer", 1), (cause, other, 1)}


def test_an_annotator_without_citations_has_no_such_figures() -> None:
    """A majority class cites and writes nothing: those figures are missing, not zero."""
    one = _case()
    found = figures([(one, Said(one.causes[0], {one.causes[0]: 1.0}))])
    assert found.top1 == 1.0
    assert found.schema_valid is None
    assert found.citation_precision is None
    assert found.citation_moved is None


def test_a_second_cause_that_is_true_is_right() -> None:
    """Where two faults overlap each of them is a right first cause."""
    one = _case()
    second = next(option.id for option in one.evidence.causes if option.id not in one.causes)
    both = replace(one, causes=(*one.causes, second), cites={**one.cites, second: one.cites[one.causes[0]]})
    assert figures([(both, Said(second, {second: 1.0}))]).macro_f1 == 1.0


def test_repeats_are_spread_over_the_strata() -> None:
    """So many of each stratum, and never one twice."""
    cases = held_out(48, 5)
    places = spread(cases, 16)
    assert len(set(places)) == 16
    assert {cases[place].stratum for place in places} == set(STRATA)
    assert sorted(spread(cases, 500)) == list(range(48))
