"""Every detector finds its own trouble and tells it in words; none cries wolf on odd, healthy or broken input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.detection import Detection, DetectionOptions
from schemas.anomaly import Kind
from schemas.entries import Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.tagmap import Equipment, Tag, TagMap
from tests.detectors.signals import NOW, ODD, S, Signal, normal, told

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
