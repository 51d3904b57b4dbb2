"""Instruments that are stuck, cut off, stale, late or silent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from detectors.parameters import is_chartable
from schemas.status import Flag
from schemas.tagmap import Counter
from tests.detectors.signals import normal, told


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


def test_roll_over_is_no_trouble_of_a_counter(script, tag):
    """A counter has no chart: what it counts is no level. The same tag undeclared has one (the negative control)."""
    rng = np.random.default_rng(5)
    declared = tag(0, type="uint16", counter=Counter(modulus=4096, max_rate=50.0))
    assert is_chartable(tag(0, type="uint16"))
    assert not is_chartable(declared)
    plant = script(declared, clean_window="200s")
    plant.run({0: (4000 + np.cumsum(rng.poisson(0.1, 1800))) % 4096.0})
    assert plant.said == []


def test_counter_that_stands_still_is_told_where_the_map_says_after_what_time(script, tag):
    """`flatline_after` of the map holds for a counter as well."""
    rng = np.random.default_rng(5)
    fast = tag(0, type="uint16", counter=Counter(modulus=4096, max_rate=50.0), flatline_after_ms=60_000)
    plant = script(fast, clean_window="200s")
    counts = np.cumsum(rng.poisson(10, 800)) % 4096
    plant.run({0: counts.astype(np.float64)})
    assert plant.said == []
    plant.run({0: np.full(120, float(counts[-1]))})
    assert list(told(plant)) == ["flatline"]
