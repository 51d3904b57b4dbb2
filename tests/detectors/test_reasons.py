"""Sentences of findings: their numbers agree with each other, and units are told as people write them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from detectors.reasons import reason
from schemas.anomaly import Finding, Kind

GIVEN: dict[str, Any] = {
    "detector": "x",
    "tag": 0,
    "onset_ns": 0,
    "at_ns": 0,
    "active": True,
    "value": 0.0,
    "low": 18.27,
    "high": 22.0,
    "score": 3.0,
    "direction": "fell",
    "samples": 1,
}


@pytest.mark.parametrize(
    ("kind", "given", "details", "peak", "said"),
    [
        # scores of charts are cut, and say nothing about how far the mean went
        (Kind.MEAN_SHIFT, {}, (), None, "the mean fell to 0 °C; normal is 18.27 to 22 °C"),
        # on its way back, a value is still told by how far it went
        (Kind.OUT_OF_RANGE, {"value": 18.3}, (), 3.0, "3 °C is outside its range 18.27 to 22 °C"),
        (Kind.OUT_OF_RANGE, {"value": 22.0}, (), 22.0, "went beyond its range 18.27 to 22 °C, and was cut to 22 °C"),
        (Kind.SPIKE, {"value": 90.0}, (), 90.0, "1 sample went as far as 90 °C and came back; usual is 18.27 to 22 °C"),
        (
            Kind.SPIKE,
            {"value": 90.0, "samples": 2},
            (),
            90.0,
            "2 samples went as far as 90 °C and came back; usual is 18.27 to 22 °C",
        ),
        (
            Kind.SLOW_TREND,
            {"samples": 12},
            (-0.5, 0.0, 0.0),
            None,
            "fell by 0.5 °C a day over 12 days; it is beyond the end of its range",
        ),
        (
            Kind.SLOW_TREND,
            {"samples": 12},
            (-0.5, 10.01, 10.04),
            None,
            "fell by 0.5 °C a day over 12 days; at this rate the end of its range is 10 days away",
        ),
        (
            Kind.SLOW_TREND,
            {"samples": 12},
            (-0.5, 41.0, math.inf),
            None,
            "fell by 0.5 °C a day over 12 days; at this rate the end of its range is 41 days or more away",
        ),
        (Kind.SATURATION, {"value": 43210.0}, (), None, "is cut off at 43210 °C"),
    ],
)
def test_sentence(kind, given, details, peak, said):
    assert reason(Finding(**(GIVEN | given | {"kind": kind})), "Cel", details, peak) == said


@pytest.mark.parametrize(("unit", "shown"), [("m3/h", "0 m³/h"), ("1", "0"), ("bar", "0 bar")])
def test_unit_is_told_as_people_write_it(unit, shown):
    assert reason(Finding(**(GIVEN | {"kind": Kind.SATURATION})), unit) == f"is cut off at {shown}"


def test_sentence_of_a_dead_signal_does_not_contradict_itself(script, tag):
    """A value that falls to 0 from 20 is many bands away; what is told is its mean and what is normal."""
    plant = script(tag(0, unit="Cel"), clean_window="200s", health=(), shape=())
    plant.run({0: np.random.default_rng(4).normal(20, 0.5, 400)})
    plant.run({0: np.zeros(100)})
    reasons = [m.reason for anomaly in plant.latest().values() for m in anomaly.members if m.detector == "ewma"]
    assert len(reasons) == 1
    assert reasons[0].startswith("the mean fell to 0")
    assert "times" not in reasons[0]
