"""The multivariate detector: finds a broken relation, learns modes, stays quiet on healthy and odd signals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors import multivariate_model
from detectors.detection import Detection, DetectionOptions
from detectors.options import MultivariateOptions
from schemas.anomaly import Kind
from schemas.tagmap import Equipment, TagMap
from tests.detectors.relations import ALONE, LONG, NOW, WINDOW, S, feed, related


def test_broken_relation_within_the_range_of_each_tag_is_found_and_the_tag_is_named(script, tag):
    """A tag that keeps its own mean and spread but stops following the others is found by nothing but this detector."""
    rng = np.random.default_rng(3)
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{LONG}s")
    healthy = related(rng, 900)
    assert feed(plant, healthy[:600]) == []
    broken = healthy[600:].copy()
    broken[:, 2] = related(np.random.default_rng(99), 300)[:, 2]
    onset_ns = plant.now_ns
    feed(plant, broken)
    (anomaly,) = plant.latest().values()
    assert {m.kind for m in anomaly.members} == {Kind.PATTERN}
    worst = max(anomaly.members, key=lambda m: m.contribution or 0)
    assert "% of a deviation of" in worst.reason
    assert "?" not in worst.reason
    assert worst.tag_id == "id2"
    assert (worst.contribution or 0) > 1 / 3
    assert anomaly.onset_ns >= onset_ns - 30 * 10**9
    assert anomaly.ne107 == "M"


def test_univariate_charts_alone_do_not_find_the_broken_relation(script, tag):
    """Control of the test above: without the detector nothing is found on the same signals."""
    rng = np.random.default_rng(3)
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{LONG}s", multivariate={"enabled": False})
    healthy = related(rng, 900)
    broken = healthy[600:].copy()
    broken[:, 2] = related(np.random.default_rng(99), 300)[:, 2]
    feed(plant, healthy[:600])
    assert feed(plant, broken) == []


def test_healthy_equipment_stays_within_its_budget(script, tag, records):
    """30 pieces of equipment, 30 minutes each: a budget of one a week allows 0.1 alarms; three would refute it."""
    rng = np.random.default_rng(11)
    units, steps = 30, 1800 + 300
    tags = [tag(i, equipment=f"U{i // 4}", path=f"U{i // 4}/T{i}") for i in range(units * 4)]
    plant = script(*tags, clean_window="300s", **ALONE)
    values = np.hstack([related(rng, steps) for _ in range(units)])
    numbers = list(range(units * 4))
    for row in values:
        plant.detection.records(records(plant.tag_map.revision, numbers, [plant.now_ns] * len(numbers), row))
        plant.tick()
    assert plant.detection._parts.multivariate.known() == units
    assert len(plant.latest()) < 3


def test_one_spike_is_no_change_of_relations(script, tag):
    """A value a hundred sigmas away, once, says nothing about how tags move together."""
    values = related(np.random.default_rng(5), 600)
    values[400, 1] += 100
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{LONG}s", **ALONE)
    assert feed(plant, values) == []


def test_condition_ends_when_the_relation_is_back(script, tag):
    """The episode closes some time after the tags move together again."""
    values = related(np.random.default_rng(3), 1200)
    values[400:600, 2] += 6
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{LONG}s", close_after="60s", **ALONE)
    feed(plant, values)
    (anomaly,) = plant.latest().values()
    assert anomaly.state == "closed"
    assert anomaly.closed_ns - anomaly.onset_ns < 320 * 10**9


def test_dead_tag_is_projected_and_the_others_are_judged(script, tag):
    """With one tag gone nothing is found on healthy signals, and a relation broken between the others still is."""
    values = related(np.random.default_rng(3), 1000)
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{LONG}s", multivariate={"hold": "5s"}, **ALONE)
    feed(plant, values[:400])
    rest = values[400:].copy()
    rest[300:, 2] += 8
    assert plant.run({i: rest[:300, i] for i in (1, 2, 3)}) == []
    plant.run({i: rest[300:, i] for i in (1, 2, 3)})
    (anomaly,) = plant.latest().values()
    assert "id2" in {m.tag_id for m in anomaly.members}


def test_projection_gives_the_most_likely_value_under_the_model():
    """Against the textbook: conditional mean of a normal distribution with the inverse covariance R R'."""
    rng = np.random.default_rng(1)
    covariance = np.cov(rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5)), rowvar=False)
    variance, axes = np.linalg.eigh(covariance)
    rotation = axes / np.sqrt(variance)
    x = rng.normal(size=5)
    missing = np.array([False, True, False, False, True])
    known = ~missing
    expected = covariance[np.ix_(missing, known)] @ np.linalg.solve(covariance[np.ix_(known, known)], x[known])
    filled = multivariate_model.project(rotation, x, missing)
    np.testing.assert_allclose(filled[missing], expected)
    np.testing.assert_array_equal(filled[known], x[known])


def test_mode_that_comes_back_finds_its_model_again(script, tag):
    """Two recipes with another level each: the second is learned apart, and the first is known when it returns."""
    rng = np.random.default_rng(3)
    tags = [*(tag(i) for i in range(4)), tag(4, role="sp")]
    plant = script(*tags, clean_window=f"{WINDOW}s", hold_off="5s", **ALONE)
    detector = plant.detection._parts.multivariate

    def batch(set_point: float, steps: int) -> list:
        values = related(rng, steps) + set_point
        return plant.run({**{i: values[:, i] for i in range(4)}, 4: np.full(steps, set_point)})

    assert batch(10, 200) == []
    assert len(detector._models) == 1
    assert batch(70, 60) == []
    assert detector.known() == 0
    assert batch(70, 140) == []
    assert len(detector._models) == 2
    assert batch(10.01, 30) == []
    assert detector.known() == 1
    assert len(detector._models) == 2


def test_modes_are_bounded(script, tag):
    """A set point that never comes back does not fill the memory."""
    rng = np.random.default_rng(3)
    tags = [*(tag(i) for i in range(3)), tag(3, role="sp")]
    plant = script(*tags, hold_off="1s", multivariate={"modes": 2}, **ALONE)
    for set_point in range(1, 9):
        values = related(rng, 10, 3)
        plant.run({**{i: values[:, i] for i in range(3)}, 3: np.full(10, float(set_point))})
    detector = plant.detection._parts.multivariate
    assert max(len(modes) for modes in detector._modes.known.values()) == 2
    assert len(detector._windows) <= 2


def test_only_mode_that_is_kept_is_not_judged_by_the_model_of_another(script, tag):
    """With one mode kept, a new set point takes the place of the old one, whose model must not judge it."""
    rng = np.random.default_rng(3)
    tags = [*(tag(i) for i in range(4)), tag(4, role="sp")]
    plant = script(*tags, clean_window=f"{WINDOW}s", hold_off="5s", multivariate={"modes": 1}, **ALONE)

    def batch(set_point: float, steps: int) -> list:
        values = related(rng, steps) * (1 + set_point)
        return plant.run({**{i: values[:, i] for i in range(4)}, 4: np.full(steps, set_point)})

    assert batch(0.0, 200) == []
    assert plant.detection._parts.multivariate.known() == 1
    assert batch(1.0, 60) == []
    assert plant.detection._parts.multivariate.known() == 0


def test_learning_stops_while_something_is_wrong(script, tag):
    """Snapshots with a tag out of its range are not learned from."""
    values = related(np.random.default_rng(3), 300)
    plant = script(
        *(tag(i, range=(0.0, 100.0) if i == 0 else None) for i in range(4)), clean_window=f"{WINDOW}s", spc=()
    )
    wrong = values.copy()
    wrong[60:, 0] = 200
    feed(plant, wrong)
    assert plant.detection._parts.multivariate.known() == 0
    feed(plant, values)
    assert plant.detection._parts.multivariate.known() == 1


def test_lasting_condition_becomes_the_new_normal(script, tag):
    """What has lasted for relearn_after is learned anew, and the anomaly closes."""
    values = related(np.random.default_rng(3), 1600)
    values[400:, 2] += 25
    plant = script(
        *(tag(i) for i in range(4)),
        clean_window=f"{LONG}s",
        relearn_after="400s",
        close_after="60s",
        multivariate={"returned": 0.0},
        **ALONE,
    )
    feed(plant, values)
    (anomaly,) = plant.latest().values()
    assert anomaly.state == "closed"
    assert plant.detection._parts.multivariate.known() == 1


ODD = st.sampled_from([0.0, 1.0, 1e30, -1e30, 1e300, -1e300, 1e-300, float("nan"), float("inf"), float("-inf")])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ODD, ODD, st.integers(-7200, 7200)), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_odd_signals_give_no_exception_and_keep_the_state_bounded(tag, records, rows, seed):
    """Constants, no numbers, huge numbers and jumping clocks beside two healthy tags, while learning and known."""
    rng = np.random.default_rng(seed)
    tag_map = TagMap(site="Acme/Lyon", tags=tuple(tag(i) for i in range(4)))
    detection = Detection(DetectionOptions(clean_window="64s", **ALONE))
    detection.use_map(tag_map.revision, tag_map)
    second = 0
    for part in range(2):
        for one, other, jump in rows:
            second += 1
            times = [NOW + (second + jump) * S] * 4
            values = [*rng.normal(size=2).tolist(), one, other]
            detection.records(records(tag_map.revision, range(4), times, values))
            detection.tick(NOW + second * S)
        for _ in range(70 if part == 0 else 0):
            second += 1
            values = [*rng.normal(size=2).tolist(), 5.0, float("nan")]
            detection.records(records(tag_map.revision, range(4), [NOW + second * S] * 4, values))
            detection.tick(NOW + second * S)
    assert len(detection.state()) < 200_000
    assert np.isfinite(detection._parts.multivariate._banks[0].chart).all()


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lambda t, v: np.full_like(v, 5.0), id="constant"),
        pytest.param(lambda t, v: np.full_like(v, np.nan), id="no number"),
        pytest.param(lambda t, v: np.full_like(v, 1e300), id="1e300"),
        pytest.param(lambda t, v: np.where(t < 300, np.nan, v), id="appears late"),
        pytest.param(lambda t, v: np.where(t % 2 == 0, v, np.nan), id="every second one missing"),
        pytest.param(lambda t, v: np.round(v), id="coarse"),
    ],
)
def test_odd_tag_beside_healthy_ones_gives_no_finding(script, tag, odd):
    """An odd tag is left out or learned as it is; the others go on."""
    values = related(np.random.default_rng(8), 600)
    values[:, 3] = odd(np.arange(600), values[:, 3])
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{WINDOW}s", **ALONE)
    for row in values:
        plant.send({i: float(v) for i, v in enumerate(row) if np.isfinite(v)})
        plant.tick()
    assert plant.said == []
    assert plant.detection._parts.multivariate.known() == 1


def test_hole_of_hours_begins_the_chart_anew(script, tag):
    """After a hole at another level of the slow drivers nothing is found."""
    values = related(np.random.default_rng(8), 500)
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{WINDOW}s", **ALONE)
    feed(plant, values[:300])
    plant.tick(seconds=10, times=1000)
    assert feed(plant, values[300:]) == []
    plant.tick(seconds=86_400)
    assert feed(plant, values[:100]) == []


def test_tag_that_appears_late_is_learned_beside_the_model(script, tag):
    """After a window with it, the group's model knows the new tag."""
    values = related(np.random.default_rng(8), 700)
    plant = script(*(tag(i) for i in range(4)), clean_window=f"{WINDOW}s", **ALONE)
    plant.run({i: values[:200, i] for i in range(3)})
    detector = plant.detection._parts.multivariate
    assert detector._banks[0].used.sum() == 3
    assert feed(plant, values[200:]) == []
    assert detector._banks[0].used.sum() == 4


def test_stopped_equipment_is_not_judged(script, tag):
    """While the equipment is off its tags do what they like; when it runs again the model is there."""
    unit = "Acme/Lyon/Utilities/P101"
    tags = [*(tag(i) for i in range(4)), tag(4, role="state", enum={2: "Stopped", 6: "Execute"})]
    plant = script(
        *tags,
        equipment=[Equipment(path=unit, state=f"{unit}/T4", running=(6,))],
        clean_window=f"{WINDOW}s",
        hold_off="10s",
        **ALONE,
    )
    values = related(np.random.default_rng(8), 600)

    def run(rows: np.ndarray, state: float) -> list:
        return plant.run({**{i: rows[:, i] for i in range(4)}, 4: np.full(len(rows), state)})

    assert run(values[:200], 6) == []
    assert run(values[200:300] * 0, 2) == []
    assert run(values[300:], 6) == []
    assert plant.detection._parts.multivariate.known() == 1


@pytest.mark.parametrize("text", ["1 per tag per week", "0 per equipment per day", "often", ""])
def test_budget_that_cannot_be_read_is_refused(text):
    """The message says how to write it."""
    with pytest.raises(ValueError, match="1 per equipment per week"):
        MultivariateOptions(false_alarms=text)


def test_limit_is_wider_for_a_smaller_budget_and_a_window_that_wandered():
    """More blocks that differ from each other, and a smaller probability, raise the limit."""
    steady = related(np.random.default_rng(2), 400)
    usual = multivariate_model.learn(steady, [0], 1e-4)
    rare = multivariate_model.learn(steady, [0], 1e-7)
    changed = steady.copy()
    changed[200:, 1] += 0.4 * (steady[200:, 2] - 50)
    mixed = multivariate_model.learn(changed, [0], 1e-4)
    assert usual is not None
    assert rare is not None
    assert mixed is not None
    assert 1.0 < usual.limit < rare.limit
    assert usual.limit < mixed.limit


def test_window_that_says_too_little_gives_no_model():
    """One moving tag, none, or too few rows are no relation."""
    rng = np.random.default_rng(2)
    constant = np.ones((200, 3))
    assert multivariate_model.learn(constant, [0], 1e-4) is None
    constant[:, 0] = rng.normal(size=200)
    assert multivariate_model.learn(constant, [0], 1e-4) is None
    assert multivariate_model.learn(rng.normal(size=(50, 3)), [0], 1e-4) is None
    assert multivariate_model.learn(np.full((200, 3), np.nan), [0], 1e-4) is None
