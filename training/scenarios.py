"""
Synthetic episodes with a known cause, as real Evidence objects over the real fault catalogues.

Noise is part of each: missing and wrong signs, tags that moved for another reason, two faults at once, and episodes
that no catalogued cause explains. What plants really show is wider; the score card says what this can prove.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from broker.catalogue import catalogue
from llm.rules import matches
from schemas.annotation import UNKNOWN
from schemas.anomaly import Direction, Kind, Ne107, Severity
from schemas.evidence import CauseOption, Evidence, Fact

Stratum = Literal["clean", "noisy", "two_faults", "unknown"]
STRATA: Final[Mapping[Stratum, float]] = {"clean": 0.3, "noisy": 0.45, "two_faults": 0.1, "unknown": 0.15}

#: Tag names by equipment class. Of each quantity the last spelling is held out of training and used in scoring.
QUANTITIES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "centrifugal_pump": (
        ("SuctionPressure", "suction_pressure", "P1_Suction_Press", "PT_Suction", "PumpSuctionPressure"),
        ("DischargePressure", "discharge_pressure", "P1_Discharge_Press", "PT_Discharge", "PumpDischargePressure"),
        ("Flow", "FlowRate", "FT_Flow", "flow", "PumpFlow"),
        ("MotorPower", "motor_power", "PowerMotor", "ActivePower", "PumpPower"),
        ("BearingTemp", "bearing_temp", "DE_BearingTemp", "BearingTemperature", "PumpBearingTempNDE"),
        ("Vibration", "VibrationDE", "vibration_rms", "VT_Vibration", "PumpVibration"),
        ("Speed", "speed", "MotorSpeed", "ShaftSpeed"),
        ("CasingTemp", "SealPotLevel", "AmbientTemp", "OilLevel"),
    ),
    "heat_exchanger": (
        ("ProductTemp", "product_temp", "ProductOutTemp", "TT_ProductTemp", "MilkProductTemperature"),
        ("ValvePosition", "valve_position", "SteamValve", "ValveOutput", "ControlValvePos"),
        ("HotInletTemp", "hot_inlet_temp", "HotWaterInletTemp", "TT_Hot_Inlet", "HotSideInletTemperature"),
        ("HotOutletTemp", "hot_outlet_temp", "HotWaterOutletTemp", "TT_Hot_Outlet", "HotSideOutletTemperature"),
        ("ProductFlow", "HeadPressure", "AmbientHumidity", "CondensateLevel"),
    ),
    "filling_machine": (
        ("FillWeight", "fill_weight", "NetWeight", "WeightMean", "BottleWeight"),
        ("RejectCount", "reject_rate", "Rejects", "RejectShare", "RejectedBottles"),
        ("Rate", "LineRate", "rate", "BottleRate", "MachineRate"),
        ("TankLevel", "AirPressure", "CapTorque", "ProductViscosity"),
    ),
    "energy_meter": (
        ("ActivePower", "active_power", "PowerTotal", "MeterPower", "MainsPower"),
        ("Voltage", "voltage_l1", "GridVoltage", "Frequency"),
        ("PhaseAngle", "CosPhi", "phase_angle", "NeutralCurrent"),
    ),
}
_KINDS: Final[Mapping[Direction, tuple[Kind, ...]]] = {
    "rose": (Kind.MEAN_SHIFT, Kind.OUT_OF_RANGE),
    "fell": (Kind.MEAN_SHIFT, Kind.OUT_OF_RANGE),
    "flat": (Kind.FLATLINE,),
    "silent": (Kind.MISSING,),
    "jumped": (Kind.RATE,),
}
_BEFORE: Final = ("Main", "Line", "Unit", "North", "Skid", "Station", "Cell", "Hall", "Area", "Old")
_AFTER: Final = ("PV", "Value", "Actual", "A", "B", "Raw", "Avg", "Top", "In", "Side")
_MISSING: Final = 0.14
_STILL: Final = 0.10
_WRONG: Final = 0.04
_DISTRACTOR: Final = 0.12


@dataclass(frozen=True, slots=True)
class Scenario:
    """Evidence and the truth about it; two causes where two faults were put in. ``cites`` are the causal facts."""

    evidence: Evidence
    causes: tuple[str, ...]
    cites: Mapping[str, tuple[str, ...]]
    stratum: Stratum


@dataclass(slots=True)
class _Move:
    """What one tag did: the causes behind it, and how far it went."""

    direction: Direction
    onset: float
    sigmas: float
    causes: list[str]


def _decorated(rng: random.Random, name: str) -> str:
    """A tag name with what sites put around one; the words that say the quantity stay."""
    if rng.random() < 0.5:
        letters = "".join(rng.choices("bcdghjklmnpqrstuvwxyzaeiou", k=rng.randint(1, 6)))
        name = rng.choice((rng.choice(_BEFORE), letters.capitalize())) + rng.choice(("", "_")) + name
    return name + rng.choice(_AFTER) if rng.random() < 0.3 else name


def _names(rng: random.Random, equipment_class: str, held_out: str) -> list[str]:
    """One tag name a quantity; ``held_out`` is ``yes`` for spellings that training never shows."""
    if held_out == "yes":
        return [spellings[-1] for spellings in QUANTITIES[equipment_class]]
    return [_decorated(rng, rng.choice(spellings[:-1])) for spellings in QUANTITIES[equipment_class]]


def _apply(rng: random.Random, option: CauseOption, names: list[str], noise: float) -> dict[str, _Move]:
    """Tags that a cause moves, with missing and wrong signs at the given noise (0 none, 1 full)."""
    moves: dict[str, _Move] = {}
    signs = [sign for sign in option.signs if sign.direction != "normal"]
    delay = 0.0
    for sign in signs:
        about = [n for n in names if matches(sign.name, n)]
        if sign.name.strip("*") == "" and about:
            silent = sign.direction == "silent"
            about = rng.sample(about, k=rng.randint(2, len(about)) if silent and len(about) > 1 else 1)
        for name in about:
            delay += rng.expovariate(0.4)
            if len(signs) > 1 and rng.random() < noise * (_MISSING + _STILL):
                continue
            direction: Direction = sign.direction  # type: ignore[assignment]
            if rng.random() < noise * _WRONG:
                direction = rng.choice(("rose", "fell", "jumped"))
            onset = rng.expovariate(0.3) if rng.random() < 0.3 * noise else delay
            moves[name] = _Move(direction, onset, 4 + rng.expovariate(0.08), [option.id])
    return moves


def _unknown(rng: random.Random, names: list[str], options: tuple[CauseOption, ...]) -> dict[str, _Move]:
    """Tags moved as no catalogued cause moves them."""
    patterns = [s for o in options for s in o.signs if s.name.strip("*")]
    strange = [
        (name, direction)
        for name in names
        for direction in ("rose", "fell")
        if not any(matches(s.name, name) and s.direction == direction for s in patterns)
    ]
    chosen = dict(rng.sample(strange, k=min(len(strange), rng.randint(1, 2))))
    return {
        name: _Move(direction, rng.random() * 9, 4 + rng.expovariate(0.08), [UNKNOWN])  # type: ignore[arg-type]
        for name, direction in chosen.items()
    }


def _facts(rng: random.Random, names: list[str], moves: Mapping[str, _Move], seen: list[str]) -> list[Fact]:
    """Facts in the order in which the broker numbers them."""
    facts: list[Fact] = []
    for rank, (name, move) in enumerate(sorted(moves.items(), key=lambda m: m[1].onset)[:8], 1):
        facts.append(
            Fact(
                id=f"E{len(facts) + 1}",
                kind="deviation",
                path=f"site/area/unit/{name}",
                detected=rng.choice(_KINDS[move.direction]),
                direction=move.direction,
                value=None if move.direction == "silent" else rng.uniform(1, 100),
                baseline=rng.uniform(1, 100),
                sigmas=None if move.direction in ("silent", "flat") else round(move.sigmas, 2),
                rank=rank,
            )
        )
    if rng.random() < 0.4:
        state = rng.choice(("EXECUTE", "RUNNING", "HELD", "IDLE"))
        facts.append(Fact(id=f"E{len(facts) + 1}", kind="state", path="site/area/unit/State", text=state))
    if rng.random() < 0.1:
        old, new = rng.sample(range(10, 90), 2)
        path = f"site/area/unit/{rng.choice(('SpeedSetpoint', 'TempSetpoint', 'RateSetpoint'))}"
        facts.append(Fact(id=f"E{len(facts) + 1}", kind="setpoint", path=path, baseline=old, value=new))
    if rng.random() < 0.15:
        text = f"a similar episode was {rng.choice(('not reviewed', f'approved as {rng.choice(seen)}'))}"
        facts.append(Fact(id=f"E{len(facts) + 1}", kind="history", text=text))
    calm = [name for name in names if name not in moves and rng.random() > _MISSING]
    rng.shuffle(calm)
    for name in calm[:5]:
        facts.append(Fact(id=f"E{len(facts) + 1}", kind="neighbour", path=f"site/area/unit/{name}", value=1.0))
    return facts


def _moves(
    rng: random.Random, stratum: Stratum, names: list[str], options: tuple[CauseOption, ...]
) -> tuple[tuple[str, ...], dict[str, _Move]]:
    """The causes put in, and what the tags then did."""
    noise = 0.0 if stratum == "clean" else 1.0
    if stratum == "unknown":
        return (UNKNOWN,), _unknown(rng, names, options)
    chosen = rng.sample(options, k=2 if stratum == "two_faults" else 1)
    moves: dict[str, _Move] = {}
    for option in chosen:
        for name, move in _apply(rng, option, names, noise).items():
            moves.setdefault(name, move)
    if noise:
        for name in names:
            if name not in moves and rng.random() < _DISTRACTOR:
                direction: Direction = rng.choice(("rose", "fell", "jumped"))
                moves[name] = _Move(direction, rng.random() * 15, 3 + rng.expovariate(0.5), [])
    there = [o.id for o in chosen if any(o.id in m.causes for m in moves.values())]
    return tuple(there), moves


def scenario(rng: random.Random, *, stratum: Stratum | None = None, held_out: Literal["yes", "no"] = "no") -> Scenario:
    """One episode; ``held_out`` takes spellings of tag names that training does not use."""
    while True:
        which = stratum or rng.choices(list(STRATA), list(STRATA.values()))[0]
        equipment_class = rng.choices(list(QUANTITIES), [4, 3, 2, 1])[0]
        entries = catalogue(equipment_class)
        names = _names(rng, equipment_class, held_out)
        causes, moves = _moves(rng, which, names, entries.causes)
        if moves and len(causes) == (2 if which == "two_faults" else 1):
            break
    facts = _facts(rng, names, moves, [o.id for o in entries.causes])
    by_name = {f.name: f.id for f in facts if f.kind == "deviation"}
    cites = {
        cause: tuple(by_name[n] for n, m in moves.items() if cause in m.causes and n in by_name) for cause in causes
    }
    ne107: Ne107 = rng.choice(("F", "C", "S", "M"))
    evidence = Evidence(
        anomaly_id=f"s{rng.getrandbits(32):08x}",
        anomaly_revision=1,
        equipment="site/area/unit",
        equipment_class=equipment_class,
        kind=facts[0].detected or Kind.MEAN_SHIFT,
        severity=rng.choice(list(Severity)),
        ne107=ne107,
        at_ns=0,
        record_seq=0,
        facts=tuple(facts),
        causes=entries.causes,
        actions=entries.actions,
    )
    return Scenario(evidence, causes, cites, which)
