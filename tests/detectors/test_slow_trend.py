"""Slow trends: when the range ends, and what is no trend."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from schemas.anomaly import Kind
from tests.detectors.signals import told


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
