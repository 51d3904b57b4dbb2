"""The index of a shift, against figures worked out by hand and against chance."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence

import pytest

from broker.models.drift import CHANCE, Spread, chi2_quantile, shifts, spread


def asked(*pairs: tuple[str, int]) -> list[tuple[str, str]]:
    """So many answers of each cause, all on the same evidence."""
    body = json.dumps(
        {"kind": "mean_shift", "equipment_class": "PU", "facts": [{"kind": "deviation", "direction": "rose"}]}
    )
    return [(cause, body) for cause, count in pairs for _ in range(count)]


def test_the_index_is_the_textbook_one() -> None:
    """(.5 − .8) ln(.5 / .8) + (.5 − .2) ln(.5 / .2), but for the half that is added to each count."""
    found = {
        one.dimension: one
        for one in shifts(spread(asked(("a", 500), ("b", 500))), spread(asked(("a", 800), ("b", 200))))
    }
    assert found["causes"].psi == pytest.approx(-0.3 * math.log(0.5 / 0.8) + 0.3 * math.log(0.5 / 0.2), rel=0.02)
    assert found["causes"].beyond_chance
    assert found["causes"].most == "b"
    assert [(found[name].psi, found[name].beyond_chance) for name in ("facts", "classes", "kinds")] == [
        (0.0, False)
    ] * 3


def test_what_was_never_seen_before_counts() -> None:
    """A kind that the baseline has nothing of gives a large figure, not an infinite one."""
    (found,) = (
        one
        for one in shifts(spread(asked(("a", 50), ("new", 50))), spread(asked(("a", 200))))
        if one.dimension == "causes"
    )
    assert 1 < found.psi < 10
    assert (found.beyond_chance, found.most) == (True, "new")


def test_each_evidence_weighs_one() -> None:
    """A long one does not outweigh the others; one without facts is told as such."""
    many = json.dumps({"kind": "rate", "facts": [{"kind": "gap"}, *[{"kind": "deviation", "direction": "fell"}] * 3]})
    none = json.dumps({"kind": "rate", "facts": [], "equipment_class": None})
    found = spread([("a", many), ("a", none)])
    assert dict(found.shares["facts"]) == {"gap": 0.25, "deviation fell": 0.75, "none": 1}
    assert dict(found.shares["classes"]) == {"none": 2}


def drawn(rng: random.Random, weights: Sequence[float], size: int) -> Spread:
    names = [f"c{place}" for place in range(len(weights))]
    return spread(asked(*((name, 1) for name in rng.choices(names, weights, k=size))))


def test_few_answers_over_many_causes_do_not_look_drifted_by_chance() -> None:
    """
    Of 300 windows of 30 answers without any shift none is beyond chance, although most are over 0.25.

    Control: where the causes really are turned round, the same 30 answers show it nearly always.
    """
    rng = random.Random(7)
    weights = [8, 6, 5, 4, 3, 3, 2, 2, 1, 1, 1, 1]
    over = beyond = found = 0
    for _ in range(300):
        baseline = drawn(rng, weights, 200)
        (same,) = (one for one in shifts(drawn(rng, weights, 30), baseline) if one.dimension == "causes")
        (other,) = (one for one in shifts(drawn(rng, weights[::-1], 30), baseline) if one.dimension == "causes")
        over += same.psi > 0.25
        beyond += same.beyond_chance
        found += other.beyond_chance

    assert over > 100
    assert beyond == 0
    assert found > 240


@pytest.mark.parametrize(("freedom", "value"), [(1, 15.14), (2, 18.42), (5, 25.74), (10, 35.56), (30, 66.62)])
def test_quantiles_of_chi_square(freedom: int, value: float) -> None:
    """As tables have them at one in ten thousand."""
    assert CHANCE == 1e-4
    assert chi2_quantile(freedom) == pytest.approx(value, rel=0.05)
    assert chi2_quantile(0) == 0.0
