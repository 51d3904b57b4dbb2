"""The EWMA chart: finds a shift, keeps its false-alarm budget on correlated signals, survives every odd signal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.baseline import learn, student, variance_ratio
from detectors.detection import Detection, DetectionOptions
from schemas.anomaly import Kind
from schemas.tagmap import TagMap

S = 1_000_000_000
NOW = 1_790_000_000 * S


def ar1(rng: np.random.Generator, phi: np.ndarray, steps: int) -> np.ndarray:
    """AR(1) of unit variance, float64[steps, k]."""
    noise = rng.normal(0, np.sqrt(1 - phi**2), (steps, len(phi)))
    out = np.empty_like(noise)
    out[0] = rng.normal(size=len(phi))
    for i in range(1, steps):
        out[i] = phi * out[i - 1] + noise[i]
    return out


def test_shift_is_found_after_the_clean_window(script, tag):
    """A step of three sigmas is found within a minute, with its direction, band and onset."""
    rng = np.random.default_rng(1)
    plant = script(tag(0, unit="Cel"), clean_window="200s", spc=["ewma"], shape=[])
    assert plant.run({0: rng.normal(50, 0.5, 400)}) == []
    assert plant.learned() == {"id0"}
    onset = plant.now_ns
    found = plant.run({0: rng.normal(51.5, 0.5, 60)})
    assert [a.kind for a in found[:1]] == [Kind.MEAN_SHIFT]
    (member,) = found[0].members
    assert member.direction == "rose"
    assert member.low < 50 < member.high < 51.5
    assert abs(member.onset_ns - onset) < 15 * S
    assert found[0].ne107 == "M"


def test_false_alarms_stay_within_the_budget(script, tag, records):
    """On 200 healthy hours with correlation up to 0.95 the budget allows 1.2 alarms; five would refute it."""
    rng = np.random.default_rng(7)
    phi = np.repeat([0.0, 0.5, 0.8, 0.95], 50)
    plant = script(*(tag(i, equipment=f"U{i}") for i in range(len(phi))), clean_window="600s")
    steps = 600 + 3600
    values = ar1(rng, phi, steps)
    numbers = list(range(len(phi)))
    for i in range(steps):
        plant.detection.records(records(plant.tag_map.revision, numbers, [plant.now_ns] * len(phi), values[i]))
        plant.tick()
    assert len(plant.learned()) > 150
    assert len(plant.latest()) < 5


def test_budget_is_refuted_without_the_inflation_for_correlation():
    """Negative control: the textbook limit for independent points alarms on a correlated signal within minutes."""
    rng = np.random.default_rng(7)
    values = ar1(rng, np.full(50, 0.8), 3600)
    level = np.zeros(50)
    alarmed = np.zeros(50, np.bool_)
    textbook = 4.8 * math.sqrt(0.2 / 1.8)
    for row in values:
        level += 0.2 * (row - level)
        alarmed |= np.abs(level) > textbook
    assert alarmed.sum() > 25


ODD = {
    "constant": lambda rng, n: np.full(n, 7.25),
    "two states": lambda rng, n: (np.arange(n) // 90 % 2).astype(float),
    "nan": lambda rng, n: np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)),
    "huge": lambda rng, n: rng.choice([1e300, -1e300], n),
    "overflowing": lambda rng, n: rng.choice([1.7e308, -1.7e308, math.inf], n),
    "tiny": lambda rng, n: rng.normal(0, 1e-310, n),
    "counter": lambda rng, n: np.cumsum(rng.integers(0, 3, n)).astype(float),
    "random walk": lambda rng, n: np.cumsum(rng.normal(size=n)),
    "slow sine": lambda rng, n: np.sin(np.arange(n) / 60) + rng.normal(0, 0.05, n),
    "rare spikes": lambda rng, n: rng.normal(0, 1, n) + 1e6 * (np.arange(n) % 97 == 50),
    "quantised": lambda rng, n: np.round(rng.normal(32, 0.4, n)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_but_steady_signals_give_no_finding(script, tag, name):
    """No exception and no finding on a signal that is odd, but has not changed its ways."""
    rng = np.random.default_rng(3)
    plant = script(tag(0), clean_window="120s", health=[])
    plant.run({0: ODD[name](rng, 1500)})
    assert plant.said == []


def test_single_spike_is_no_shift(script, tag):
    """One wild sample after learning moves the mean by less than its limit, whatever its size."""
    rng = np.random.default_rng(5)
    plant = script(tag(0), clean_window="120s", health=[])
    values = rng.normal(50, 0.5, 600)
    values[[300, 400]] = [1e300, -1e12]
    plant.run({0: values})
    assert plant.said == []


def test_gaps_clock_jumps_and_other_rates_give_no_finding(script, tag, records):
    """Hours without samples, times that jump back and forth, and a ten times faster scan are no shift."""
    rng = np.random.default_rng(11)
    plant = script(tag(0), clean_window="120s")
    plant.run({0: rng.normal(50, 0.5, 300)})
    for jump_s, period_s in ((7200.0, 1.0), (0.0, 0.1), (-7200.0, 1.0), (86_400.0, 30.0), (0.0, 0.001)):
        plant.second += jump_s
        for value in rng.normal(50, 0.5, 300):
            plant.second += period_s
            plant.detection.records(records(plant.tag_map.revision, [0], [plant.now_ns], [value]))
        plant.said += plant.detection.tick(plant.now_ns)
    assert plant.learned() == {"id0"}
    assert plant.said == []


def test_learning_stops_while_something_is_wrong(script, tag):
    """A tag that is out of range while it learns does not learn that as normal."""
    rng = np.random.default_rng(2)
    plant = script(tag(0, range=(0.0, 100.0)), clean_window="120s")
    plant.run({0: rng.normal(500, 1, 300)})
    assert plant.learned() == frozenset()
    plant.run({0: rng.normal(50, 1, 300)})
    assert plant.learned() == {"id0"}


def test_new_set_point_is_learned_anew(script, tag):
    """After a set point moved the process may run elsewhere: no finding, and a new baseline there."""
    rng = np.random.default_rng(2)
    plant = script(tag(0), tag(1, role="sp"), clean_window="120s", hold_off="30s")
    plant.run({1: [50.0] * 200, 0: rng.normal(50, 1, 200)})
    assert plant.learned() == {"id0"}
    plant.run({1: [80.0] * 200, 0: rng.normal(80, 1, 200)})
    assert plant.said == []
    assert plant.learned() == {"id0"}
    assert len(plant.run({1: [80.0] * 60, 0: rng.normal(85, 1, 60)})) > 0


@pytest.mark.parametrize("more", [{"type": "bool"}, {"enum": {0: "off"}}, {"role": "good_count"}, {"detect": "health"}])
def test_discrete_tags_have_no_chart(script, tag, more):
    """Switches, enumerations, counts and tags with health checks only are not charted."""
    rng = np.random.default_rng(2)
    plant = script(tag(0, **more), clean_window="120s")
    plant.run({0: rng.normal(0, 1, 300)})
    assert plant.learned() == frozenset()


def test_points_of_learning_tags_are_bounded(tag, records):
    """However long tags cannot be learned, the state of each stays below two KiB (windows of groups: see `pca`)."""
    tags = 20
    tag_map = TagMap(site="Acme/Lyon", tags=tuple(tag(i) for i in range(tags)))
    detection = Detection(DetectionOptions(clean_window="7d", multivariate={"enabled": False}))
    detection.use_map(tag_map.revision, tag_map)
    rng = np.random.default_rng(4)
    sizes = []
    for i in range(40):
        times = [NOW + (100 * i + k) * S for k in range(100) for _ in range(tags)]
        detection.records(records(tag_map.revision, [*range(tags)] * 100, times, rng.normal(size=100 * tags)))
        detection.tick(times[-1])
        sizes.append(len(detection.state()))
    assert max(sizes[5:]) - min(sizes[5:]) < 1024
    assert max(sizes) < tags * 2048


def test_variance_ratio_is_that_of_the_simulated_chart():
    """Schmid's formula agrees with 100,000 steps of the recursion for each coefficient."""
    rng = np.random.default_rng(9)
    phi = np.array([0.0, 0.5, 0.8, 0.95])
    values = ar1(rng, phi, 100_000)
    level = np.zeros_like(values)
    for i in range(1, len(values)):
        level[i] = level[i - 1] + 0.2 * (values[i] - level[i - 1])
    assert np.allclose(level[1000:].var(axis=0), variance_ratio(phi), rtol=0.1)


@pytest.mark.parametrize(
    ("normal", "freedom", "t"),
    [(1.959964, 5, 2.5706), (3.290527, 10, 4.5869), (3.890592, 7, 7.885), (1.959964, 1000, 1.9623)],
)
def test_student_quantile_agrees_with_the_table(normal, freedom, t):
    """Two-sided 95 %, 99.9 % and 99.99 % of Student's t within two per cent."""
    assert student(np.array([normal]), np.array([float(freedom)]))[0] == pytest.approx(t, rel=0.02)


def test_baseline_is_robust_against_outliers():
    """Five per cent wild points move centre and limit by little."""
    rng = np.random.default_rng(6)
    clean = rng.normal(10, 1, (1, 100))
    dirty = clean.copy()
    dirty[0, ::20] = 1e5
    one, zero, p = np.ones(1, np.int32), np.zeros(1), np.full(1, 1e-5)
    a, b = learn(clean, one, zero, p), learn(dirty, one, zero, p)
    assert abs(a.center[0] - b.center[0]) < 0.3
    assert b.limit[0] < 1.75 * a.limit[0]
    assert a.usable[0]
    assert b.usable[0]


def shifted(rng, column) -> np.ndarray:
    """Two minutes around 50, then the column around it."""
    return np.concatenate([rng.normal(50, 1, 200), column + rng.normal(0, 1, len(column))])


def test_shift_that_stays_is_learned_as_normal(script, tag):
    """After the stated time at its new level the condition ends, the anomaly closes, and the new level has a chart."""
    rng = np.random.default_rng(12)
    plant = script(tag(0), clean_window="120s", relearn_after="300s", close_after="60s", spc=["ewma"], shape=[])
    plant.run({0: shifted(rng, np.full(290, 56.0))})
    assert [(a.state, a.members[0].active) for a in plant.latest().values()] == [("open", True)]
    plant.run({0: rng.normal(56, 1, 300)})
    (anomaly,) = plant.latest().values()
    assert anomaly.state == "closed"
    assert plant.learned() == {"id0"}
    plant.run({0: rng.normal(56, 1, 400)})
    assert len(plant.latest()) == 1
    plant.run({0: rng.normal(50, 1, 60)})
    again = [*plant.latest().values()][1]
    assert [(m.direction, m.low > 51) for m in again.members] == [("fell", True)]


def test_huge_shift_is_followed(script, tag):
    """The new level may be any number of limits away."""
    rng = np.random.default_rng(12)
    plant = script(tag(0), clean_window="120s", relearn_after="300s", close_after="60s")
    plant.run({0: shifted(rng, np.full(800, 1e9))})
    assert [a.state for a in plant.latest().values()] == ["closed"]


@pytest.mark.parametrize(
    "column",
    [
        56 + np.arange(900) / 20,
        56 + 12 * np.sign(np.sin(np.arange(900) / 30)) + 8,
        np.tile(np.repeat([56.0, 50.0], 150), 3),
    ],
    ids=["drifts", "swings", "comes and goes"],
)
def test_level_that_does_not_stay_is_not_learned(script, tag, column):
    """A shift that grows, swings, or lasts for a part of the time only is never taken for normal."""
    rng = np.random.default_rng(12)
    plant = script(tag(0), clean_window="120s", relearn_after="300s")
    plant.run({0: shifted(rng, column)})
    assert plant.learned() == {"id0"}
    assert plant.said[-1].state == "open"
    assert plant.detection._parts.panel.charts is not None
    assert abs(plant.detection._parts.panel.charts.chart.center[0] - 50) < 1


def test_relearning_does_not_depend_on_cuts_and_restarts(tag, records):
    """Rows in tens, one by one, and restored between any two: the same revisions and the same state."""
    rng = np.random.default_rng(12)
    values = shifted(rng, np.full(900, 56.0))
    tag_map = TagMap(site="Acme/Lyon", tags=(tag(0),))
    options = DetectionOptions(clean_window="120s", relearn_after="300s", close_after="60s")
    found, states = [], []
    for way in ("tens", "single", "restored"):
        detection, said = Detection(options), []
        detection.use_map(tag_map.revision, tag_map)
        for start in range(0, len(values), 10):
            times = [NOW + (start + i) * S for i in range(10)]
            step = 10 if way == "tens" else 1
            for i in range(0, 10, step):
                piece = values[start + i : start + i + step]
                detection.records(records(tag_map.revision, [0] * step, times[i : i + step], piece))
                if way == "restored":
                    saved, detection = detection.state(), Detection(options)
                    detection.use_map(tag_map.revision, tag_map)
                    detection.restore(saved)
            said += detection.tick(times[-1])
        found.append(said)
        states.append(detection.state())
    assert found[0] == found[1] == found[2]
    assert states[0] == states[1] == states[2]
    assert found[0][-1].state == "closed"
