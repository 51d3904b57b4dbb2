"""The physics of the scenarios: the simulated plant's own figures, and all that the catalogues and strata need."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from broker.catalogue import catalogue
from broker.scorecard.physics import FAULTS, OUTSIDE, QUANTITIES, VARIANTS
from llm.rules import matches
from simulators.plant import Fault, FaultKind, Plant

#: The plant's signals by quantity.
SIGNALS: Final = {
    "centrifugal_pump": {
        "suction": "P101.SuctionPressure",
        "discharge": "P101.DischargePressure",
        "flow": "P101.Flow",
        "power": "P101.MotorPower",
        "bearing": "P101.BearingTemp",
        "vibration": "P101.Vibration",
        "speed": "P101.Speed",
    },
    "heat_exchanger": {
        "product": "E201.ProductTemp",
        "valve": "E201.ValvePosition",
        "hot_in": "E201.HotInletTemp",
        "hot_out": "E201.HotOutletTemp",
    },
    "filling_machine": {"weight": "F301.FillWeight", "rate": "F301.Rate"},
}


def far(kind: FaultKind, names: list[str]) -> dict[str, tuple[float, float]]:
    """Distance from normal in standard deviations a minute after the fault began, and the largest by then."""
    plant = Plant(3, [Fault(kind, 150.0, ramp_s=1.0)], step_s=0.1)
    rows = []
    for second in range(1, 231):
        plant.advance(second)
        signals = plant.signals()
        rows.append([float(signals[name] or 0) for name in names])
    table = np.array(rows)
    before = table[30:148]
    score = (table - np.median(before, 0)) / np.std(before, 0)
    late, peak = np.median(score[205:], 0), score[150:]
    furthest = peak[np.argmax(np.abs(peak), 0), np.arange(len(names))]
    return {name: (float(late[at]), float(furthest[at])) for at, name in enumerate(names)}


@pytest.mark.parametrize(
    ("kind", "equipment_class", "cause"),
    [
        ("bearing_wear", "centrifugal_pump", "bearing_wear"),
        ("cavitation", "centrifugal_pump", "cavitation"),
        ("hx_fouling", "heat_exchanger", "fouling"),
        ("sensor_drift", "heat_exchanger", "sensor_drift"),
        ("nozzle_drift", "filling_machine", "nozzle_drift"),
    ],
)
def test_effects_are_those_of_the_simulated_plant(kind: FaultKind, equipment_class: str, cause: str) -> None:
    """Every tag goes the way the plant's does and about as far, and what the plant leaves alone stays."""
    signals = SIGNALS[equipment_class]
    measured = far(kind, list(signals.values()))
    effects = FAULTS[equipment_class][cause].effects
    for quantity, signal in signals.items():
        late, furthest = measured[signal]
        if quantity in effects:
            gain = effects[quantity].gain
            assert np.sign(furthest) == np.sign(gain), quantity
            # the control loop takes back what it can, so that the way there goes further than the end
            assert abs(late) / 2 < abs(gain) < 2 * abs(furthest), (quantity, gain, late, furthest)
        else:
            assert abs(late) < 4, (quantity, late)


def test_every_catalogued_cause_has_its_physics() -> None:
    """Classes, causes and nothing else; each effect is on a quantity of its class."""
    assert FAULTS.keys() == QUANTITIES.keys() == VARIANTS.keys() == OUTSIDE.keys()
    for name, faults in FAULTS.items():
        assert list(faults) == [option.id for option in catalogue(name).causes]
        for effects in [fault.effects for fault in faults.values()] + list(OUTSIDE[name]):
            assert effects.keys() <= QUANTITIES[name].keys()
        for lacks in VARIANTS[name].values():
            assert lacks < QUANTITIES[name].keys()


def test_every_spelling_is_known_to_the_catalogue_or_to_none_of_it() -> None:
    """All names of a quantity match the same signs, so that the rules are not beaten by spelling alone."""
    for name, quantities in QUANTITIES.items():
        patterns = {sign.name for option in catalogue(name).causes for sign in option.signs if sign.name.strip("*")}
        for key, quantity in quantities.items():
            if key in {"other", "reject"}:  # ``reject_rate`` is a rate, too
                continue
            found = [{p for p in patterns if matches(p, spelling)} for spelling in quantity.names]
            assert all(one == found[0] for one in found), (key, found, quantity.names)
