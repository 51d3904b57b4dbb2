"""Every detector finds its own trouble and tells it in words; none cries wolf on odd, healthy or broken input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.detection import Detection, DetectionOptions
from schemas.anomaly import Kind
from schemas.entries import Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.status import Flag
from schemas.tagmap import Counter, Equipment, Tag, TagMap

S = 1_000_000_000
NOW = 1_790_000_000 * S
Signal = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(50, 1, n)


def told(plant) -> dict[str, str]:
    """Reason of each detector that spoke."""
    return {m.detector: m.reason for anomaly in plant.latest().values() for m in anomaly.members}


#: Detector, options that leave it alone with what it needs, and the trouble after 600 healthy seconds.
TROUBLES: dict[str, tuple[dict[str, Any], Signal]] = {
    "spike": ({"health": ("spike",)}, lambda rng, n: np.where(np.arange(n) == 40, 90.0, normal(rng, n))),
    "quantization": ({"health": ("quantization",)}, lambda rng, n: np.round(rng.normal(50, 3, n) / 2) * 2),
    "saturation": ({"health": ("saturation",)}, lambda rng, n: np.minimum(normal(rng, n), 50.2)),
    "flatline": ({"health": ("flatline",)}, lambda rng, n: np.full(n, 50.25)),
    "shewhart": ({"spc": ("shewhart",)}, lambda rng, n: normal(rng, n) + 8),
    "ewma": ({"spc": ("ewma",)}, lambda rng, n: normal(rng, n) + 3),
    "cusum": ({"spc": ("cusum",)}, lambda rng, n: normal(rng, n) + 1.5),
    "nelson": ({"spc": ("nelson",)}, lambda rng, n: normal(rng, n) + 2),
    "extreme": ({"extreme": True}, lambda rng, n: normal(rng, n) + 25 * (np.arange(n) % 60 < 4)),
    "level_shift": ({"shape": ("level_shift",)}, lambda rng, n: normal(rng, n) + 4),
    "trend": ({"shape": ("trend",)}, lambda rng, n: normal(rng, n) + np.arange(n) / 10),
    "variance": ({"shape": ("variance",)}, lambda rng, n: rng.normal(50, 5, n)),
    "oscillation": ({"shape": ("oscillation",)}, lambda rng, n: normal(rng, n) + 6 * np.sin(np.arange(n) / 2.5)),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_detector_finds_its_own_trouble(script, tag, name):
    """Quiet while the signal is healthy; then found, with a reason that carries no placeholder."""
    rng = np.random.default_rng(4)
    only, trouble = TROUBLES[name]
    plant = script(tag(0, unit="Cel"), clean_window="200s", **({"health": (), "spc": (), "shape": ()} | only))
    plant.run({0: normal(rng, 600)})
    if name != "nelson":  # fixed limits: healthy points break a run rule every hundred or so
        assert plant.said == []
    plant.run({0: trouble(rng, 400)})
    reasons = told(plant)
    assert name in reasons
    assert reasons[name]
    assert "?" not in reasons[name]


@pytest.mark.parametrize("scan_ms", [500, 1000, 2000, 4000])
def test_spread_is_watched_with_the_default_window(script, tag, scan_ms):
    """Points that were merged while the window filled leave the differences known that the spread is compared with."""
    rng = np.random.default_rng(7)
    only = {"health": (), "spc": (), "shape": ("variance",), "multivariate": {"enabled": False}}
    plant = script(tag(0, scan_ms=scan_ms), **only)
    healthy, trouble = 1000 + 600_000 // scan_ms, 1000
    for spread in [1.0] * healthy + [4.0] * trouble:
        assert plant.said == [] or spread > 1
        plant.send({0: rng.normal(20, spread)})
        plant.tick(scan_ms / 1000)
    assert list(told(plant)) == ["variance"]


def test_closed_gate_in_the_clean_window_is_no_spread(script, tag):
    """Between two points beside a closed gate the tag may have gone anywhere: that is not how it moves."""
    rng = np.random.default_rng(7)
    equipment = Equipment(path=tag(0).equipment, state=tag(1).path, running=(1,))
    only = {"health": (), "spc": (), "shape": ("variance",), "multivariate": {"enabled": False}, "hold_off": "0s"}
    plant = script(tag(0), tag(1, role="state"), equipment=[equipment], **only)
    for level, state, seconds in ((20, 1, 300), (20, 2, 60), (60, 1, 300)):
        plant.run({0: rng.normal(level, 1, seconds), 1: np.full(seconds, float(state))})
    chart = plant.detection._parts.panel.charts.chart
    assert chart.group[0] == 8
    assert 0 < np.sqrt(chart.rough[0]) < 2


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


@pytest.mark.parametrize("counter", [None, Counter(modulus=4096, max_rate=50.0)])
def test_roll_over_is_no_trouble_of_a_counter(script, tag, counter):
    """A declared counter is watched for standing still alone; the negative control is the same tag undeclared."""
    rng = np.random.default_rng(5)
    plant = script(tag(0, type="uint16", counter=counter, flatline_after_ms=60_000), clean_window="200s")
    counts = np.concatenate([np.cumsum(rng.poisson(10, 400)), 4000 + np.cumsum(rng.poisson(10, 800))])
    plant.run({0: counts % 4096})
    assert (plant.said == []) == (counter is not None)
    plant.said.clear()
    plant.run({0: np.full(120, float(counts[-1] % 4096))})
    if counter is not None:
        assert list(told(plant)) == ["flatline"]


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


def test_stuck_signal_is_kept_from_the_charts(script, tag):
    """While a flatline stands, its level is no shift; a value of 0 is equipment at rest and no flatline."""
    rng = np.random.default_rng(6)
    plant = script(tag(0), clean_window="200s", spc=("ewma",), shape=())
    plant.run({0: normal(rng, 700)})
    plant.run({0: np.full(300, 50.1)})
    assert set(told(plant)) == {"flatline"}
    rest = script(tag(0), spc=(), shape=())
    rest.run({0: normal(rng, 700)})
    rest.run({0: np.zeros(900)})
    assert rest.said == []


def test_signal_at_the_end_of_its_range_is_saturated(script, tag):
    """At the high end for half a minute; an end of 0, an output and 100 % are ordinary."""
    ordinary = [tag(1, range=(0.0, 10.0)), tag(2, range=(4.0, 20.0), role="out"), tag(3, range=(0.0, 100.0), unit="%")]
    plant = script(tag(0, range=(4.0, 20.0)), *ordinary, spc=(), shape=(), health=("saturation",))
    plant.run({0: [20.0] * 40, 1: [0.0] * 40, 2: [20.0] * 40, 3: [100.0] * 40})
    assert [[m.tag_id for m in a.members] for a in plant.latest().values()] == [["id0"]]


def test_signal_that_is_measured_beyond_its_range_is_not_cut_off(script, tag):
    """A noisy value above its range is the process, not the instrument: the charts go on looking at it."""
    rng = np.random.default_rng(3)
    plant = script(tag(0, range=(-20.0, 75.0)), clean_window="200s")
    plant.run({0: rng.normal(50, 1, 400)})
    plant.run({0: rng.normal(90, 1, 200)})
    (anomaly,) = plant.latest().values()
    found = told(plant)
    assert "saturation" not in found
    assert {"range", "ewma"} <= found.keys()
    assert anomaly.ne107 != "F"


@pytest.mark.parametrize(
    ("level", "name"),
    [pytest.param(20.5, "saturation", id="most of it"), pytest.param(24.0, "flatline", id="all of it")],
)
def test_signal_that_is_cut_off_beyond_its_range_is_a_failed_instrument(script, tag, level, name):
    """A transmitter of 4 to 20 mA ends at 20.5 (NE 43): told by the values that are equal, whatever the range says."""
    rng = np.random.default_rng(3)
    plant = script(tag(0, range=(4.0, 20.0)), clean_window="200s")
    plant.run({0: rng.normal(12, 1, 600)})
    plant.run({0: np.minimum(rng.normal(level, 0.5, 200), 20.5)})
    assert name in told(plant)
    assert any(anomaly.ne107 == "F" for anomaly in plant.said)


def test_device_time_that_stands_still_is_stale(script, tag, records):
    """Values go on changing under one device time; over with the first newer one."""
    plant = script(tag(0), spc=(), shape=())
    frozen = plant.now_ns
    for i in range(60):
        plant.detection.records(records(plant.tag_map.revision, [0, 0], [frozen] * 2, [float(i), i + 0.5]))
        plant.tick()
    assert set(told(plant)) == {"stale"}
    plant.run({0: [1.0, 2.0]})
    plant.tick(10, 31)
    assert plant.said[-1].state == "closed"


@pytest.mark.parametrize("told_down", [True, False])
def test_constant_value_that_each_session_brings_again_is_not_stale(script, tag, records, told_down):
    """An OPC UA server tells an unchanged value with its old time whenever a subscription is made anew."""
    plant = script(tag(0), spc=(), shape=())
    frozen = plant.now_ns
    for i in range(600):
        if i % 20 == 0:
            if told_down:
                plant.link(up=False)
            plant.detection.records(records(plant.tag_map.revision, [0], [frozen], [7.0]))
            plant.link(up=True)
        plant.tick()
    assert plant.said == []


def test_a_restart_of_the_broker_makes_no_tag_missing(script, tag):
    """The link of a source that was up is told to be down before the first tick of the next run; control: not told."""
    for told_down in (True, False):
        plant = script(tag(0, stale_after_ms=3000), spc=())
        plant.link(up=True)
        plant.run({0: [float(i) for i in range(10)]})
        if told_down:
            plant.link(up=False)
        plant.tick(8.0)
        plant.link(up=True)
        plant.run({0: [float(i) for i in range(10)]})
        assert set(told(plant)) == (set() if told_down else {"missing"})


@pytest.mark.parametrize(("flag", "name"), [(Flag.LATE, "late"), (Flag.CLOCK_SUSPECT, "clock")])
def test_share_of_late_and_unbelievable_rows_is_told_once_an_equipment(script, tag, records, flag, name):
    """A third of the source's rows: one tag of each equipment speaks; a single such row says nothing."""
    tags = [tag(i, equipment=f"Acme/U{i // 2}") for i in range(4)]
    plant = script(*tags, spc=(), shape=())

    def minutes(count: int, odd: Callable[[int], bool]) -> None:
        for second in range(60 * count):
            flags = [int(flag) if odd(second) else 0] * 4
            plant.send({i: float(second) for i in range(4)}, flags=flags)
            plant.tick()

    minutes(2, lambda second: second == 30)
    assert plant.said == []
    minutes(2, lambda second: second % 3 == 0)
    spoken = [(m.detector, m.tag_id) for a in plant.latest().values() for m in a.members]
    assert spoken == [(name, "id0"), (name, "id2")]
    minutes(7, lambda second: False)
    assert {a.state for a in plant.latest().values()} == {"closed"}


def loop(script, tag, **options):
    pv, sp, out = tag(0, role="pv"), tag(1, role="sp"), tag(2, role="out", unit="%")
    return script(pv, sp, out, clean_window="120s", settle="60s", hold_off="30s", spc=(), shape=(), **options)


def test_deviation_waits_for_the_loop_to_settle(script, tag):
    """A new set point gives the loop its time; staying away for longer is told."""
    rng = np.random.default_rng(8)
    plant = loop(script, tag)
    plant.run({0: rng.normal(50, 0.5, 300), 1: [50.0] * 300, 2: rng.normal(40, 1, 300)})
    approach = 60 - 10 * np.exp(-np.arange(300) / 20)
    plant.run({0: approach + rng.normal(0, 0.5, 300), 1: [60.0] * 300, 2: rng.normal(45, 1, 300)})
    assert plant.said == []
    plant.run({0: rng.normal(53, 0.5, 120), 1: [60.0] * 120, 2: rng.normal(60, 1, 120)})
    assert set(told(plant)) == {"deviation"}
    plant.run({0: rng.normal(60, 0.5, 20), 1: [60.0] * 20, 2: rng.normal(60, 1, 20)})
    plant.tick(10, 31)
    assert plant.said[-1].state == "closed"


def test_output_at_its_limit_with_a_deviation_winds_up(script, tag):
    """The output at 100 % alone is no finding; with a deviation it is, on the output's tag."""
    rng = np.random.default_rng(8)
    plant = loop(script, tag, loop=("windup",))
    plant.run({0: rng.normal(50, 0.5, 300), 1: [50.0] * 300, 2: [100.0] * 300})
    assert plant.said == []
    plant.run({0: rng.normal(44, 0.5, 120), 1: [50.0] * 120, 2: [100.0] * 120})
    (found,) = plant.latest().values()
    assert [(m.detector, m.tag_id, m.direction) for m in found.members] == [("windup", "id2", "rose")]


@pytest.mark.parametrize(("shape", "sticks"), [("triangle", True), ("square", True), ("sine", False)])
def test_stiction_is_told_by_the_shape_of_the_output(script, tag, shape, sticks):
    """A triangle of the demand, or a square of the position, against a round process value; a sine is tuning."""
    rng = np.random.default_rng(8)
    plant = loop(script, tag, loop=("stiction",))
    plant.run({0: rng.normal(50, 0.3, 300), 1: [50.0] * 300, 2: rng.normal(40, 0.2, 300)})
    phase = np.arange(900) / 60 * 2 * np.pi
    out = {"sine": np.sin(phase), "square": np.sign(np.sin(phase)), "triangle": 2 / np.pi * np.arcsin(np.sin(phase))}
    value = 50 + 4 * np.sin(phase - np.pi / 2)
    plant.run({0: value + rng.normal(0, 0.1, 900), 1: [50.0] * 900, 2: 40 + 8 * out[shape]})
    assert ("stiction" in told(plant)) == sticks


def test_loop_that_does_not_reach_its_new_set_point_is_told(script, tag):
    """What is usual of the deviation outlives a new set point: standing still far from it is not learned as normal."""
    rng = np.random.default_rng(8)
    plant = loop(script, tag)
    plant.run({0: rng.normal(50, 0.5, 300), 1: [50.0] * 300, 2: rng.normal(40, 1, 300)})
    plant.run({0: rng.normal(50, 0.5, 300), 1: [60.0] * 300, 2: rng.normal(80, 1, 300)})
    assert set(told(plant)) == {"deviation"}


def test_slow_trend_says_when_the_range_ends(script, tag):
    """Half a degree a day for two weeks, on a tag with a range: told with slope and days; a healthy tag is quiet."""
    rng = np.random.default_rng(8)
    hot, calm = tag(0, range=(0.0, 80.0), unit="Cel", scan_ms=600_000), tag(1, range=(0.0, 80.0), scan_ms=600_000)
    plant = script(hot, calm, spc=(), shape=(), health=())
    for day in range(14):
        for minutes in range(0, 1440, 10):
            at = day + minutes / 1440
            plant.send({0: 60 + 0.5 * at + rng.normal(0, 0.3), 1: 60 + rng.normal(0, 0.3)})
            plant.tick(10, 1)
            plant.second += 590
            plant.detection._parts.panel.slow_trend.sampled_ns = 0  # a sample each tick, in place of thirty ticks
    found = {m.tag_id: m.reason for a in plant.latest().values() for m in a.members}
    assert set(found) == {"id0"}
    assert "°C a day over 1" in found["id0"]
    assert "the end of its range is" in found["id0"]


def drift(plant, days: int, others: dict[int, float]) -> None:
    """Days on which tag 0 drifts by half a degree a day; the other tags stand still."""
    rng = np.random.default_rng(8)
    for minutes in range(0, days * 1440, 10):
        plant.send({0: 60 + 0.5 * minutes / 1440 + rng.normal(0, 0.3), **others})
        plant.tick(10, 1)
        plant.second += 590
        plant.detection._parts.panel.slow_trend.sampled_ns = 0  # a sample each tick, in place of thirty ticks


def seen(plant) -> list[str]:
    """Detectors that see something now."""
    return [f.detector for f in plant.detection.active()]


@pytest.mark.parametrize("reset_day", [None, 9])
def test_totaliser_is_no_slow_trend(script, tag, reset_day):
    """A tag of unknown role that only ever rises, but for a reset: nothing is told of it, also after a restart."""
    rng = np.random.default_rng(8)
    plant = script(tag(0, unit="kW.h", scan_ms=600_000), spc=(), shape=(), health=())
    total = 5000.0
    for minutes in range(0, 24 * 1440, 10):
        if reset_day is not None and minutes == reset_day * 1440:
            total = 0.0
        total += max(rng.normal(0.3, 0.1), 0.0)
        plant.send({0: round(total, 1)})
        plant.tick(10, 1)
        plant.second += 590
        plant.detection._parts.panel.slow_trend.sampled_ns = 0
        if minutes == 5 * 1440:
            plant.detection.restore(plant.detection.state())
    assert plant.said == []


@pytest.mark.parametrize(
    ("unit", "limits", "told_kinds"),
    [
        ("bar", None, {"slow_trend"}),
        ("bar{gauge}", None, {"slow_trend"}),
        ("mm", None, {"slow_trend"}),
        ("m3", (0.0, 50.0), {"slow_trend"}),
        ("m3", None, set()),
        ("m3{normal}", None, set()),
        ("{pcs}", None, set()),
        ("1", None, set()),
    ],
)
def test_drift_in_steps_is_no_totaliser_where_the_map_speaks_against_it(script, tag, unit, limits, told_kinds):
    """A filter clogs, and a deadband lets through one step after the other, none of them down."""
    plant = script(tag(0, unit=unit, range=limits, scan_ms=600_000), spc=(), shape=(), health=())
    level = 1.0
    for _ in range(0, 14 * 1440, 10):
        level += 0.0005
        plant.send({0: round(level / 0.05) * 0.05})
        plant.tick(10, 1)
        plant.second += 590
        plant.detection._parts.panel.slow_trend.sampled_ns = 0
    assert set(told(plant)) == told_kinds


def test_slow_trend_goes_on_from_a_state_without_its_falls(script, tag):
    """A state that was saved before falls were counted is read, with what was told then."""
    plant = script(tag(0, scan_ms=600_000), spc=(), shape=(), health=())
    drift(plant, 14, {})
    assert told(plant).keys() == {"slow_trend"}
    saved = msgspec.msgpack.decode(plant.detection.state())
    for name in ("before", "rises", "falls"):
        del saved["columns"]["slow_trend.1"][name]
    plant.detection.restore(msgspec.msgpack.encode(saved))
    assert [finding.kind for finding in plant.detection.active()] == [Kind.SLOW_TREND]


def test_slow_trend_of_a_tag_that_fell_silent_ends(script, tag):
    """No day follows: nothing begins on the silent tag, and what had begun is over when its days are too few."""
    plant = script(tag(0, unit="Cel", scan_ms=600_000), spc=(), shape=(), health=(), close_after="60s")
    drift(plant, 14, {})
    assert seen(plant) == ["slow_trend"]
    plant.tick(86_400, 20)
    assert seen(plant) == ["slow_trend"]
    plant.tick(86_400, 14)
    assert seen(plant) == []
    plant.tick(10, 7)
    assert [a.state for a in plant.latest().values()] == ["closed"]


def test_slow_trend_does_not_begin_on_a_silent_tag(script, tag):
    """The days before the silence, judged alone each night, would begin it again once it was over."""
    plant = script(tag(0, unit="Cel", scan_ms=600_000), spc=(), shape=(), health=(), close_after="60s")
    slow = plant.detection._parts.panel.slow_trend
    drift(plant, 14, {})
    plant.tick(86_400)
    before = slow.conditions.last_ns.copy()
    slow.conditions.end(np.array([0]))
    plant.tick(86_400, 5)
    assert seen(plant) == []
    assert slow.conditions.last_ns.tolist() == before.tolist()


def test_slow_trend_ends_when_the_set_point_moves(script, tag):
    """Its days are forgotten, so nothing could end it later; the episode closes."""
    tags = (tag(0, unit="Cel", scan_ms=600_000), tag(1, role="sp", scan_ms=600_000))
    plant = script(*tags, spc=(), shape=(), health=(), loop=(), close_after="60s")
    drift(plant, 14, {1: 5.0})
    assert seen(plant) == ["slow_trend"]
    plant.send({1: 8.0})
    assert seen(plant) == []
    moved = plant.now_ns
    plant.tick(10, 8)
    (found,) = plant.latest().values()
    assert found.state == "closed"
    assert [m.last_ns for m in found.members] == [moved]


ODD: dict[str, Signal] = {
    "constant": lambda rng, n: np.full(n, 7.25),
    "all nan": lambda rng, n: np.full(n, math.nan),
    "half nan": lambda rng, n: np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)),
    "two states": lambda rng, n: (np.arange(n) // 90 % 2).astype(float),
    "huge": lambda rng, n: rng.choice([1e300, -1e300], n),
    "largest": lambda rng, n: rng.choice([1.7e308, -1.7e308], n),
    "noise at 1e300": lambda rng, n: 1e300 * (1 + 0.01 * rng.normal(size=n)),
    "tiny": lambda rng, n: rng.normal(0, 1e-310, n),
    "quantised": lambda rng, n: np.round(rng.normal(32, 0.4, n)),
    "heavy tails": lambda rng, n: rng.standard_t(3, n),
    "random walk": lambda rng, n: np.cumsum(rng.normal(size=n)),
    "counter": lambda rng, n: np.cumsum(rng.integers(0, 3, n)).astype(float),
    "white": lambda rng, n: rng.normal(50, 1, n),
}


@settings(max_examples=8, deadline=None)
@example(kinds=["counter", "quantised"], seed=49883, jump_s=0.0, slower=1)  # 32 equal samples running
@given(
    kinds=st.lists(st.sampled_from(sorted(ODD.keys() - {"random walk", "heavy tails"})), min_size=2, max_size=6),
    seed=st.integers(0, 2**32),
    jump_s=st.sampled_from([0.0, 3600.0, -7200.0, 40_000.0]),
    slower=st.sampled_from([1, 3, 10]),
)
def test_bad_input_gives_no_finding_and_a_bounded_state(kinds, seed, jump_s, slower):
    """Odd signals side by side, a clock that jumps, a rate that changes, a tag that appears late: nothing is found."""
    rng = np.random.default_rng(seed)
    n = len(kinds)
    tags = tuple(
        Tag(number=i, id=f"id{i}", path=f"Acme/Lyon/U/T{i}", source="plc", address=str(i), equipment=f"U{i}")
        for i in range(n)
    )
    tag_map = TagMap(site="Acme/Lyon", tags=tags)
    detection = Detection(DetectionOptions(clean_window="60s"))
    detection.use_map(tag_map.revision, tag_map)
    columns = [ODD[kind](rng, 400) for kind in kinds]
    now = NOW
    for i in range(400):
        now += S if i < 250 else slower * S
        if i == 250:
            now += round(jump_s * S)
        there = n - 1 if i < 150 else n
        values = np.array([column[i] for column in columns[:there]])
        batch = RecordBatch(
            "plc",
            Origin.LIVE,
            tag_map.revision,
            Position(1, i + 1),
            now,
            np.arange(there, dtype=np.int32),
            np.full(there, now, np.int64),
            None,
            values,
            np.zeros(there, np.uint32),
            np.zeros(there, np.uint32),
            np.zeros(there, np.int64),
        )
        detection.records(batch)
        assert detection.tick(now) == []
    assert len(detection.state()) < 4096 + n * 2048


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("name", ["constant", "all nan", "huge", "largest", "noise at 1e300", "tiny"])
def test_numbers_at_the_ends_of_float64_give_no_finding(script, tag, name, extreme):
    """Beside a healthy tag on the same equipment: no finding, no error, no warning of an overflow, a bounded state."""
    rng = np.random.default_rng(3)
    plant = script(tag(0), tag(1), clean_window="60s", extreme=extreme)
    plant.run({0: ODD[name](rng, 400), 1: rng.normal(50, 1, 400)})
    assert plant.said == []
    assert len(plant.detection.state()) < 4096 + 2 * 2048


@pytest.mark.parametrize("name", ["random walk", "heavy tails"])
def test_signals_without_a_normal_raise_nothing(script, tag, name):
    """What wanders for ever, or is no measurement, may be found, but no number overflows and no error is raised."""
    rng = np.random.default_rng(3)
    plant = script(tag(0), clean_window="60s")
    plant.run({0: ODD[name](rng, 800)})
    for anomaly in plant.said:
        for member in anomaly.members:
            assert member.score <= 1e6


def test_findings_are_of_known_kinds():
    """Every kind that a detector gives has a severity, a class and a sentence."""
    from detectors.reasons import _TEXTS
    from detectors.severity import _BASE, _CLASS

    univariate = {kind for kind in Kind if kind in _TEXTS}
    assert univariate <= set(_BASE)
    assert univariate <= set(_CLASS)
