"""The plant's physics and its faults."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.plant import FAULT_EQUIPMENT, Fault, Plant


def _mean(plant: Plant, name: str, from_s: float, to_s: float) -> float:
    values = []
    for t in np.arange(from_s, to_s, 0.5):
        plant.advance(float(t))
        value = plant.signals()[name]
        assert isinstance(value, int | float)
        values.append(value)
    return float(np.mean(values))


def test_same_seed_same_values() -> None:
    """Two plants of one seed agree to the last bit, whatever the steps they are asked for."""
    one, two = Plant(3), Plant(3)
    one.advance(10.0)
    for t in range(11):
        two.advance(float(t))

    assert one.signals() == two.signals()
    assert Plant(4).signals() != Plant(3).signals()


@pytest.mark.parametrize(
    ("kind", "signal", "sign"),
    [
        ("bearing_wear", "P101.BearingTemp", 1),
        ("bearing_wear", "P101.Vibration", 1),
        ("cavitation", "P101.SuctionPressure", -1),
        ("cavitation", "P101.Flow", -1),
        ("hx_fouling", "E201.ValvePosition", 1),
        ("hx_fouling", "E201.ProductTemp", -1),
        ("nozzle_drift", "F301.FillWeight", 1),
        ("sensor_drift", "E201.HotOutletTemp", 1),
    ],
)
def test_fault_moves_its_signals(kind: str, signal: str, sign: int) -> None:
    """Each fault moves the signals that the real fault would move, against the same plant without it."""
    healthy = _mean(Plant(7), signal, 30, 45)
    faulty = _mean(Plant(7, [Fault(kind, 5.0)]), signal, 30, 45)  # type: ignore[arg-type]

    assert sign * (faulty - healthy) > 0.015 * abs(healthy)


def test_stuck_sensor_stands_still_while_the_physics_goes_on() -> None:
    """A stuck flow transmitter repeats one value; the other signals live."""
    plant = Plant(7, [Fault("sensor_stuck", 5.0)])
    plant.advance(6.0)
    first = plant.signals()
    plant.advance(20.0)
    later = plant.signals()

    assert later["P101.Flow"] == first["P101.Flow"]
    assert later["P101.MotorPower"] != first["P101.MotorPower"]


def test_sticking_valve_makes_its_loop_swing() -> None:
    """With friction the valve stands and jumps, and the temperature swings with one period about its set point."""
    spread, period = {}, {}
    for name, size in (("healthy", 0.0), ("sticking", 0.75)):
        plant = Plant(7, [Fault("valve_stiction", 100.0, size=size)], step_s=0.5)
        temperature, stands = [], 0
        for second in range(400, 1600):
            before = plant.signals()["E201.ValvePosition"]
            plant.advance(second)
            signals = plant.signals()
            temperature.append(float(signals["E201.ProductTemp"] or 0))
            stands += abs(float(signals["E201.ValvePosition"] or 0) - float(before or 0)) < 0.5
        swing = np.array(temperature) - np.mean(temperature)
        spread[name] = float(np.std(swing))
        power = np.abs(np.fft.rfft(swing)) ** 2
        period[name] = len(swing) / float((power * np.arange(len(power))).sum() / power.sum())

        assert np.mean(temperature) == pytest.approx(72.0, abs=0.2)
    assert spread["sticking"] > 3 * spread["healthy"]
    assert stands > 600
    assert 20 < period["sticking"] < 80


def test_healthy_loop_has_no_friction() -> None:
    """Without the fault the valve is where the controller wants it, whatever the fault that just ended did."""
    plant = Plant(7, [Fault("valve_stiction", 10.0, 200.0)], step_s=0.5)
    plant.advance(400)
    healthy = Plant(7, step_s=0.5)
    healthy.advance(400)

    assert plant.signals()["E201.ValvePosition"] == pytest.approx(healthy.signals()["E201.ValvePosition"], abs=0.5)


def test_fault_ends() -> None:
    """Outside its time a fault has no size, and the ground truth names no fault."""
    plant = Plant(7, [Fault("bearing_wear", 5.0, 10.0, ramp_s=2.0)])
    plant.advance(6.0)
    during = plant.level("bearing_wear")
    plant.advance(12.0)

    assert during == pytest.approx(0.5, abs=0.03)
    assert plant.level("bearing_wear") == 0.0
    assert plant.active() == []
    assert FAULT_EQUIPMENT["bearing_wear"] == "P101"


def test_a_fault_can_fade() -> None:
    """It goes as slowly as is asked before its end; without that it ends at once."""
    fading, ending = (Fault("hx_fouling", 10, 110, size=0.6, ramp_s=20, fade_s=fade_s) for fade_s in (40.0, 0.0))

    assert [fading.level(at) for at in (9, 20, 50, 90, 109.99, 110)] == pytest.approx(
        [0, 0.3, 0.6, 0.3, 0, 0], abs=1e-3
    )
    assert [ending.level(at) for at in (50, 109.99, 110)] == [0.6, 0.6, 0]
