"""Control loops: deviation, windup, stiction."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.signals import told


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
