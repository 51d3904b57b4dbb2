"""A model in service: rates and drift over a window, and what is over its limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.models.figures import figures
from broker.models.options import WatchOptions
from broker.store import Store
from schemas.anomaly import Kind
from tests.broker.models.site import DAY, KEY, T0, S, answer, configured, opened, refuse

LIMITS = WatchOptions(least=20, baseline=60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(configured(tmp_path)) as store:
        yield store


def test_a_model_that_does_well_is_over_nothing(store: Store) -> None:
    """Control: the same spread all the time, few refusals, few unknowns."""
    with store.transaction() as tx:
        for number in range(160):
            answer(tx, number, cause=("bearing", "cavitation", "unknown")[number % 3 if number % 5 else 0])
        for number in range(5):
            refuse(tx, 1000 + number)
    found = figures(store.reader(), KEY, LIMITS, T0 + DAY)

    assert (found.answers, found.refused, found.rejected, found.baseline) == (160, 5, 0, 60)
    assert found.reject_rate == pytest.approx(5 / 165)
    assert found.unknown_rate is not None
    assert len(found.shifts) == 4
    assert found.over(LIMITS) == {}


def test_refused_and_rejected_answers_count_together(store: Store) -> None:
    """Late ones do not: they say nothing of what the model said."""
    with store.transaction() as tx:
        for number in range(30):
            answer(tx, number, verdict="rejected" if number < 6 else "approved" if number < 20 else "")
        for number in range(4):
            refuse(tx, 100 + number)
        for number in range(50):
            refuse(tx, 200 + number, "no answer within the deadline of 45 s")
    found = figures(store.reader(), KEY, LIMITS, T0 + DAY)

    assert (found.refused, found.rejected, found.silent) == (4, 6, 50)
    assert found.reject_rate == pytest.approx(10 / 34)
    told = found.over(LIMITS)
    assert list(told) == ["reject_rate"]
    assert (
        "29% of its answers of 7 days were refused by the checks (4) or rejected by people (6)" in told["reject_rate"]
    )


def test_too_few_answers_judge_nothing(store: Store) -> None:
    """Three of three rejected is no rate; control: with least at its lowest it is."""
    with store.transaction() as tx:
        for number in range(6):
            answer(tx, number, cause="unknown", verdict="rejected")
    few = figures(store.reader(), KEY, LIMITS, T0 + DAY)
    assert (few.reject_rate, few.unknown_rate, few.shifts, few.over(LIMITS)) == (None, None, (), {})
    low = WatchOptions(least=5, baseline=60)
    assert set(figures(store.reader(), KEY, low, T0 + DAY).over(low)) == {"reject_rate", "unknown_rate"}


def test_what_is_older_than_the_window_does_not_count(store: Store) -> None:
    """The rates are of the window, the baseline is of all time."""
    with store.transaction() as tx:
        for number in range(60):
            answer(tx, number, cause="unknown", verdict="rejected")
        for number in range(60, 100):
            answer(tx, number, at_ns=T0 + 30 * DAY + number * S)
    found = figures(store.reader(), KEY, LIMITS, T0 + 31 * DAY)
    assert (found.answers, found.rejected, found.unknown, found.baseline) == (40, 0, 0, 60)


def test_drift_of_what_it_is_asked_is_told(store: Store) -> None:
    """Another class of equipment, other kinds of facts: the notice names which and how far."""
    with store.transaction() as tx:
        for number in range(60):
            answer(tx, number)
        for number in range(60, 100):
            answer(tx, number, equipment_class="HE", facts=("silent", "fell"), kind=Kind.MISSING)
    found = figures(store.reader(), KEY, LIMITS, T0 + DAY)
    psi = {one.dimension: one.psi for one in found.shifts}

    assert psi["causes"] < 0.01
    assert min(psi["facts"], psi["classes"], psi["kinds"]) > 1
    told = found.over(LIMITS)
    assert list(told) == ["drift"]
    assert "from its first 60 answers: kinds of facts (" in told["drift"]
    assert "most of it HE" in told["drift"]


def test_the_baseline_is_not_compared_with_itself(store: Store) -> None:
    """While the first answers come in there is nothing to compare, however they are spread."""
    with store.transaction() as tx:
        for number in range(59):
            answer(tx, number, equipment_class="PU" if number < 20 else "HE")
    assert figures(store.reader(), KEY, LIMITS, T0 + DAY).shifts == ()
