"""
What faults do to the tags of a machine: how far in standard deviations, how soon, and on which tags.

Figures of faults that the simulated plant knows are its own, measured (``tests/broker/scorecard`` compares them); the
others follow from the same equations: affinity laws and system curve of the pump, effectiveness of the exchanger with
its control loop, mass balance of the filler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that sites use for a quantity (UCUM): first unit times ``factor`` plus ``offset``."""

    code: str
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Quantity:
    """
    Something that is measured: tag names, units, normal levels and noise in the first unit.

    The last name is held out: training never shows it.
    """

    names: tuple[str, ...]
    units: tuple[Unit, ...]
    level: tuple[float, float]
    sigma: float


@dataclass(frozen=True, slots=True)
class Effect:
    """``gain`` in standard deviations at the worst the fault can be, ``lag_s`` the time constant until it shows."""

    gain: float
    lag_s: float


#: ``shift``: tags move by their effects. ``swing``: they oscillate by them. ``flat`` and ``spikes``: one tag of them
#: stands still or jumps. ``silent``: tags stop.
Way = Literal["shift", "swing", "flat", "spikes", "silent"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One cause: what it does, and to which quantities; none named means any."""

    way: Way
    effects: Mapping[str, Effect]


_CEL: Final = (Unit("Cel"), Unit("[degF]", 1.8, 32.0), Unit("K", 1.0, 273.15))
_BAR: Final = (Unit("bar"), Unit("kPa", 100.0), Unit("MPa", 0.1), Unit("[psi]", 14.5038))
_M3H: Final = (Unit("m3/h"), Unit("L/min", 16.6667), Unit("L/s", 0.277778))
_KW: Final = (Unit("kW"), Unit("W", 1000.0), Unit("[HP]", 1.34102))
_PERCENT: Final = (Unit("%"), Unit("1", 0.01))
_RPM: Final = (Unit("/min"), Unit("Hz", 1 / 60))

QUANTITIES: Final[Mapping[str, Mapping[str, Quantity]]] = {
    "centrifugal_pump": {
        "suction": Quantity(
            ("SuctionPressure", "suction_pressure", "P1_Suction_Press", "PT_Suction", "PumpSuctionPressure"),
            _BAR,
            (0.8, 2.5),
            0.0084,
        ),
        "discharge": Quantity(
            ("DischargePressure", "discharge_pressure", "P1_Discharge_Press", "PT_Discharge", "PumpDischargePressure"),
            _BAR,
            (3.0, 6.0),
            0.0085,
        ),
        "flow": Quantity(("Flow", "FlowRate", "FT_Flow", "flow", "PumpFlow"), _M3H, (20, 60), 0.065),
        "power": Quantity(("MotorPower", "motor_power", "PowerMotor", "ActivePower", "PumpPower"), _KW, (3, 9), 0.041),
        "bearing": Quantity(
            ("BearingTemp", "bearing_temp", "DE_BearingTemp", "BearingTemperature", "PumpBearingTempNDE"),
            _CEL,
            (40, 60),
            0.16,
        ),
        "vibration": Quantity(
            ("Vibration", "VibrationDE", "vibration_rms", "VT_Vibration", "PumpVibration"),
            (Unit("mm/s"), Unit("[in_i]/s", 0.0393701)),
            (1.0, 3.0),
            0.083,
        ),
        "speed": Quantity(("Speed", "speed", "MotorSpeed", "RotorSpeed", "ShaftSpeed"), _RPM, (1400, 3000), 0.9),
        "other": Quantity(("CasingTemp", "SealPotLevel", "AmbientTemp", "OilLevel"), _PERCENT, (20, 80), 0.2),
    },
    "heat_exchanger": {
        "product": Quantity(
            ("ProductTemp", "product_temp", "ProductOutTemp", "TT_ProductTemp", "MilkProductTemperature"),
            _CEL,
            (60, 90),
            0.12,
        ),
        "valve": Quantity(
            ("ValvePosition", "valve_position", "SteamValve", "ValveOutput", "ControlValvePos"),
            _PERCENT,
            (35, 65),
            0.19,
        ),
        "hot_in": Quantity(
            ("HotInletTemp", "hot_inlet_temp", "HotWaterInletTemp", "TT_Hot_Inlet_Temp", "HotSideInletTemperature"),
            _CEL,
            (90, 110),
            0.1,
        ),
        "hot_out": Quantity(
            (
                "HotOutletTemp",
                "hot_outlet_temp",
                "HotWaterOutletTemp",
                "TT_Hot_Outlet_Temp",
                "HotSideOutletTemperature",
            ),
            _CEL,
            (55, 70),
            0.1,
        ),
        "other": Quantity(
            ("ProductFlow", "HeadPressure", "AmbientHumidity", "CondensateLevel"), _PERCENT, (20, 80), 0.2
        ),
    },
    "filling_machine": {
        "weight": Quantity(
            ("FillWeight", "fill_weight", "NetWeight", "WeightMean", "BottleWeight"),
            (Unit("g"), Unit("kg", 0.001), Unit("[oz_av]", 0.0352740)),
            (330, 1000),
            0.55,
        ),
        "reject": Quantity(
            ("RejectCount", "reject_rate", "Rejects", "RejectShare", "RejectedBottles"),
            (Unit("pcs"), Unit("%")),
            (0.5, 2.0),
            0.3,
        ),
        "rate": Quantity(
            ("Rate", "LineRate", "rate", "BottleRate", "MachineRate"),
            (Unit("/min"), Unit("/h", 60.0)),
            (60, 200),
            0.6,
        ),
        "other": Quantity(("TankLevel", "AirPressure", "CapTorque", "ProductViscosity"), _PERCENT, (20, 80), 0.2),
    },
    "energy_meter": {
        "power": Quantity(
            ("ActivePower", "active_power", "PowerTotal", "MeterPower", "MainsPower"), _KW, (20, 200), 0.4
        ),
        "voltage": Quantity(("Voltage", "voltage_l1", "GridVoltage", "Frequency"), (Unit("V"),), (228, 234), 0.4),
        "other": Quantity(("PhaseAngle", "CosPhi", "phase_angle", "NeutralCurrent"), _PERCENT, (80, 99), 0.2),
    },
}

FAULTS: Final[Mapping[str, Mapping[str, Fault]]] = {
    "centrifugal_pump": {
        "bearing_wear": Fault("shift", {"bearing": Effect(210, 7), "vibration": Effect(50, 1), "power": Effect(27, 1)}),
        "cavitation": Fault(
            "shift",
            {
                "suction": Effect(-89, 2),
                "flow": Effect(-113, 2),
                "discharge": Effect(-183, 1),
                "vibration": Effect(41, 1),
                "power": Effect(-38, 1),
            },
        ),
        # a throttled system curve: less flow at a higher head; the suction line loses less
        "blocked_discharge": Fault(
            "shift",
            {
                "discharge": Effect(95, 1),
                "flow": Effect(-160, 2),
                "power": Effect(-30, 1),
                "suction": Effect(14, 2),
                "vibration": Effect(7, 2),
            },
        ),
        # a smaller H0: less head and flow at the same speed, over hours; vibration hardly moves
        "impeller_wear": Fault(
            "shift", {"discharge": Effect(-80, 20), "flow": Effect(-60, 20), "power": Effect(-22, 20)}
        ),
        "sensor_stuck": Fault("flat", {}),
        "sensor_spikes": Fault("spikes", {}),
        "no_signal": Fault("silent", {}),
    },
    "heat_exchanger": {
        # the loop opens the valve to make up for it, until it can open no further
        "fouling": Fault("shift", {"valve": Effect(200, 10), "product": Effect(-40, 3), "hot_out": Effect(17, 4)}),
        "heating_medium_lost": Fault(
            "shift",
            {
                "hot_in": Effect(-190, 4),
                "product": Effect(-60, 8),
                "valve": Effect(160, 14),
                "hot_out": Effect(-110, 9),
            },
        ),
        "valve_sticking": Fault(
            "swing", {"product": Effect(13, 12), "hot_out": Effect(-9, 14), "valve": Effect(11, 10)}
        ),
        "sensor_drift": Fault("shift", {"hot_out": Effect(137, 1)}),
        "sensor_stuck": Fault("flat", {"product": Effect(0, 1), "hot_in": Effect(0, 1), "hot_out": Effect(0, 1)}),
        "no_signal": Fault("silent", {}),
    },
    "filling_machine": {
        "nozzle_drift": Fault("shift", {"weight": Effect(16.4, 1), "reject": Effect(40, 6)}),
        "underfilling": Fault("shift", {"weight": Effect(-22, 2), "reject": Effect(45, 5)}),
        "starved_line": Fault("shift", {"rate": Effect(-90, 3)}),
        "scale_fault": Fault("flat", {"weight": Effect(0, 1)}),
        "no_signal": Fault("silent", {}),
    },
    "energy_meter": {
        "load_rise": Fault("shift", {"power": Effect(60, 1)}),
        "load_drop": Fault("shift", {"power": Effect(-60, 1)}),
        "meter_fault": Fault("flat", {}),
        "no_signal": Fault("silent", {}),
    },
}

#: What no catalogue lists, by class; of each class the last is held out of training.
OUTSIDE: Final[Mapping[str, tuple[Mapping[str, Effect], ...]]] = {
    "centrifugal_pump": (
        # drive too fast, drive too slow, seal pot loses, thin product, air cools, bigger demand downstream
        {"speed": Effect(80, 2), "flow": Effect(90, 2), "discharge": Effect(100, 2), "power": Effect(50, 2)},
        {"other": Effect(-60, 20)},
        {"bearing": Effect(-50, 30)},
        {"suction": Effect(60, 3), "discharge": Effect(55, 3)},
        {"vibration": Effect(-15, 3), "speed": Effect(-60, 2)},
        {"flow": Effect(70, 2), "discharge": Effect(-40, 2), "power": Effect(30, 2)},
        {"speed": Effect(-80, 2), "flow": Effect(-70, 2), "discharge": Effect(-90, 2), "power": Effect(-45, 2)},
        {"power": Effect(-25, 2), "bearing": Effect(-25, 20)},
    ),
    "heat_exchanger": (
        # product flow lost, feed too warm, steam too hot, a leak between the sides
        {"product": Effect(45, 4), "valve": Effect(-120, 8)},
        {"other": Effect(-60, 5)},
        {"hot_in": Effect(70, 4), "hot_out": Effect(30, 8), "valve": Effect(-40, 10)},
        {"valve": Effect(-90, 4)},
        {"hot_out": Effect(-60, 5), "valve": Effect(-30, 8)},
        {"hot_in": Effect(60, 4)},
        {"other": Effect(50, 4), "hot_out": Effect(-40, 6)},
    ),
    "filling_machine": (
        {"rate": Effect(60, 2)},
        {"other": Effect(-50, 8)},
        {"reject": Effect(-12, 8)},
        {"other": Effect(60, 4), "rate": Effect(40, 4)},
        {"reject": Effect(-12, 8), "rate": Effect(50, 2)},
    ),
    "energy_meter": (
        {"voltage": Effect(-40, 1)},
        {"other": Effect(50, 2)},
        {"voltage": Effect(30, 1), "other": Effect(-40, 2)},
        {"other": Effect(-50, 2), "voltage": Effect(-30, 2)},
    ),
}

#: What is not measured on some machines, by class: the variants of equipment.
VARIANTS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "centrifugal_pump": {
        "skid": frozenset(),
        "submersible": frozenset({"suction", "other"}),
        "booster": frozenset({"bearing"}),
        "process": frozenset({"power"}),
        "sanitary": frozenset({"vibration", "speed"}),
        "old": frozenset({"speed", "other", "suction"}),
    },
    "heat_exchanger": {
        "plate": frozenset(),
        "tube": frozenset({"hot_in"}),
        "steam": frozenset({"hot_out"}),
        "open_loop": frozenset({"valve"}),
    },
    "filling_machine": {"rotary": frozenset(), "linear": frozenset({"reject"}), "hand_fed": frozenset({"other"})},
    "energy_meter": {"mains": frozenset(), "feeder": frozenset({"voltage"}), "plain": frozenset({"other"})},
}
