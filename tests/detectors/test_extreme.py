"""Single values that are like no other: what is a habit, what is news, and what is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.signals import ODD, normal, told


def test_spike_that_is_a_habit_is_said_once(script, tag):
    """A tag that spikes each two minutes is reported for the first one; a step is no spike."""
    rng = np.random.default_rng(5)
    plant = script(tag(0), spc=(), shape=(), health=("spike",))
    plant.run({0: normal(rng, 300)})
    values = normal(rng, 1500)
    values[60::120] += 40
    plant.run({0: values})
    assert len([a for a in plant.said if a.revision == 0]) == 1
    plant.said.clear()
    plant.run({0: normal(rng, 200) + 500})
    assert plant.said == []


def test_spike_is_kept_from_the_charts(script, tag):
    """The mean of a subgroup with a spike is that of the others: no chart and no learning sees it."""
    rng = np.random.default_rng(5)
    plant, other = (script(tag(0), clean_window="200s") for _ in range(2))
    values = normal(rng, 900)
    wild = values.copy()
    wild[[700, 701, 820]] = 1e6
    plant.run({0: values})
    other.run({0: wild})
    assert plant.said == []
    assert set(told(other)) == {"spike"}


def bursts(rng: np.random.Generator, n: int) -> np.ndarray:
    """Exponential peaks on a daily rhythm of 200 s: no chart fits."""
    return 10 * np.sin(np.arange(n) / 200 * 2 * np.pi) + rng.exponential(2, n)


def test_extreme_is_told_while_it_is_news(script, tag):
    """Bursts are usual; one further out is told, as is one to the other side, and what comes again is known."""
    rng = np.random.default_rng(12)
    plant = script(tag(0), extreme=True, spc=(), shape=(), health=(), clean_window="300s", close_after="20s")
    plant.run({0: bursts(rng, 1500)})
    assert plant.said == []
    values = bursts(rng, 300)
    values[100:104] = 90.0
    values[200:204] = -90.0
    plant.run({0: values})
    assert [a.members[0].direction for a in plant.latest().values()] == ["rose", "fell"]
    plant.said.clear()
    values = bursts(rng, 1000)
    for at in range(100, 1000, 100):
        values[at : at + 4] = 90.0
    plant.run({0: values})
    assert plant.said == []


@pytest.mark.parametrize(("days", "again"), [(10, False), (40, True)])
def test_extreme_forgets_what_was_not_seen_for_four_weeks(script, tag, days, again):
    """What a level of five days has shown is known for four weeks of watched time; later it is told again."""
    plant = script(tag(0, scan_ms=3_600_000), extreme=True, spc=(), shape=(), health=(), clean_window="24h")
    rng = np.random.default_rng(12)

    def run(values: np.ndarray) -> bool:
        plant.said.clear()
        for value in values:
            plant.send({0: float(value)})
            plant.tick(3600)
        return bool(plant.said)

    run(bursts(rng, 24 * 30))
    assert run(90 + rng.exponential(2, 24 * 5))
    run(bursts(rng, 24 * days))
    assert run(np.full(4, 90.0)) is again


@pytest.mark.parametrize("name", ["constant", "two states", "quantised", "huge", "tiny", "all nan", "white"])
def test_extreme_needs_a_tail(script, tag, name):
    """A signal of few values has no tail; a healthy one with a tail keeps the budget, and nothing overflows."""
    rng = np.random.default_rng(13)
    plant = script(tag(0), extreme=True, spc=(), shape=(), health=(), clean_window="60s")
    plant.run({0: ODD[name](rng, 1500)})
    assert plant.said == []


def test_extreme_goes_on_from_a_saved_state(script, tag):
    """Saved in the middle of a condition, the rest is the same, bit for bit."""
    rng = np.random.default_rng(14)
    plant = script(tag(0), extreme=True, clean_window="60s")
    plant.run({0: bursts(rng, 700)})
    plant.run({0: np.full(5, 70.0)})
    other = script(tag(0), extreme=True, clean_window="60s")
    other.detection.restore(plant.detection.state())
    other.second = plant.second
    rest = bursts(rng, 100) + 60 * (np.arange(100) > 40)
    assert plant.run({0: rest}) == other.run({0: rest})
    assert plant.detection.state() == other.detection.state()
