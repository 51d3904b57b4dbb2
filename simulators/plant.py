"""
A small plant with physics: pump skid P101 with heat exchanger E201, filler cell F301, energy and room meters.

Faults change parameters of the physics (friction, heat transfer, suction head), never paint a signal, except those of
a sensor itself. A run is seeded and steps a fixed 50 ms, so that it repeats to the last bit. Ground truth is the list
of faults with their times.

Source of the equations: pump affinity laws, effectiveness-NTU with equal capacity streams, first-order lags.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from simulators import SignalValue

FaultKind = Literal[
    "bearing_wear",
    "cavitation",
    "hx_fouling",
    "valve_stiction",
    "nozzle_drift",
    "sensor_stuck",
    "sensor_drift",
    "spike",
]

STEP_S: Final = 0.05
#: Plant seconds before time 0 in which the loops settle.
WARM_UP_S: Final = 120.0
#: Dead band and stick band together of the worst valve, in per cent of its travel; a loop suffers from 1 % on.
STICTION_BAND: Final = 6.0
#: The part of it that the valve jumps when it breaks loose.
_SLIP_JUMP: Final = 0.5
PACKML: Final = {2: "Stopped", 4: "Idle", 6: "Execute", 11: "Held"}

#: Equipment that each fault belongs to; the plant's own name for it.
FAULT_EQUIPMENT: Final[dict[str, str]] = {
    "bearing_wear": "P101",
    "cavitation": "P101",
    "hx_fouling": "E201",
    "valve_stiction": "E201",
    "nozzle_drift": "F301",
    "sensor_stuck": "P101",
    "sensor_drift": "E201",
    "spike": "P101",
}

#: Other equipment that feels a fault by physics: the meter counts the pump's power, the exchanger has its flow.
FELT_BY: Final[dict[str, frozenset[str]]] = {
    "bearing_wear": frozenset({"M1"}),
    "cavitation": frozenset({"E201", "M1"}),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault of the schedule, in plant seconds.

    ``size`` is 0 (none) to 1 (the worst the physics knows); ``ramp_s`` is how long it takes to grow to it, ``fade_s``
    how long before its end it begins to go: plates are not clean from one moment to the next.
    """

    kind: FaultKind
    start_s: float
    end_s: float = math.inf
    size: float = 1.0
    ramp_s: float = 5.0
    fade_s: float = 0.0

    def level(self, now_s: float) -> float:
        """How much of the fault is there at *now_s*, 0 to ``size``."""
        if not self.start_s <= now_s < self.end_s:
            return 0.0
        grown = (now_s - self.start_s) / max(self.ramp_s, STEP_S)
        left = (self.end_s - now_s) / self.fade_s if self.fade_s else 1.0
        return self.size * min(1.0, grown, left)


@dataclass(slots=True)
class _Loop:
    """
    PI controller of the product temperature with the valve as its output (percent).

    A valve with friction stands until the demand has left its band, jumps, follows at a distance, and stands again
    where the demand turns round. With the controller's integral that swings for good once a disturbance began it.

    Source: Choudhury, Thornhill, Shah (2005), two-parameter model of stiction.
    """

    setpoint: float = 72.0
    output: float = 45.0
    integral: float = 45.0
    valve: float = 45.0
    stuck_at: float = 45.0  #: the demand at which the valve came to stand
    direction: int = 0  #: 1 up, -1 down of the last movement; stands while ``stands``
    stands: bool = True

    def act(self, measured: float, dt: float, band: float) -> float:
        """Position of the valve; *band* is that of its friction, 0 for none."""
        error = self.setpoint - measured
        wanted = self.integral + 2.0 * error
        if 0.0 < wanted < 100.0:
            self.integral += 0.12 * error * dt
        before, self.output = self.output, min(100.0, max(0.0, wanted))
        self._move(self.output - before, before, band)
        return self.valve

    def _move(self, step: float, before: float, band: float) -> None:
        if band <= 0.0:
            self.valve, self.stuck_at, self.direction, self.stands = self.output, self.output, 0, True
            return
        jump = _SLIP_JUMP * band
        if not self.stands and step * self.direction <= 0:
            self.stands, self.stuck_at = True, before
        apart = self.output - self.stuck_at
        if self.stands and abs(apart) > (jump if apart * self.direction > 0 else band):
            self.stands, self.direction = False, 1 if apart > 0 else -1
        if not self.stands:
            self.valve = min(100.0, max(0.0, self.output - self.direction * (band - jump) / 2))


@dataclass(slots=True)
class Plant:
    """
    The physics; ``advance`` steps it, ``signals`` reads it, ``faults`` is the schedule and the ground truth.

    ``step_s`` up to half a second keeps every loop stable; weeks are simulated with it.
    """

    seed: int = 7
    faults: list[Fault] = field(default_factory=list)
    step_s: float = STEP_S
    now_s: float = 0.0
    _rng: np.random.Generator = field(init=False)
    _loop: _Loop = field(default_factory=_Loop)
    _values: dict[str, float] = field(default_factory=dict)
    _held: dict[str, float] = field(default_factory=dict)
    _wander: dict[str, float] = field(default_factory=dict)
    _count: dict[str, float] = field(default_factory=lambda: {"good": 0.0, "reject": 0.0, "energy": 10_000.0})

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._values = {"speed": 1450.0, "bearing": 48.0, "product": 72.0, "ambient": 21.0, "weight": 500.0}
        self.now_s = -WARM_UP_S
        self.advance(0.0)
        self.now_s = 0.0
        self._count.update(good=0.0, reject=0.0)

    def level(self, kind: FaultKind) -> float:
        """Present size of all faults of one kind together, 0 to 1."""
        return min(1.0, sum(f.level(self.now_s) for f in self.faults if f.kind == kind))

    def active(self) -> list[Fault]:
        """Faults that are there now."""
        return [f for f in self.faults if f.level(self.now_s) > 0]

    def advance(self, to_s: float) -> None:
        """Step the physics up to *to_s* plant seconds."""
        while self.now_s + self.step_s <= to_s + 1e-9:
            self._step()

    def _slow(self, name: str, tau_s: float, sigma: float) -> float:
        """First-order random wander with time constant *tau_s* and standard deviation *sigma*."""
        keep = math.exp(-self.step_s / tau_s)
        last = self._wander.get(name, 0.0)
        self._wander[name] = keep * last + math.sqrt(1 - keep * keep) * sigma * float(self._rng.standard_normal())
        return self._wander[name]

    def _lag(self, name: str, target: float, tau_s: float) -> float:
        now = self._values.get(name, target)
        self._values[name] = now + (target - now) * (1 - math.exp(-self.step_s / tau_s))
        return self._values[name]

    def _step(self) -> None:
        self.now_s += self.step_s
        self._pump()
        self._exchanger()
        self._filler()
        self._meters()

    def _pump(self) -> None:
        wear, cavitation = self.level("bearing_wear"), self.level("cavitation")
        speed = self._lag("speed", 1450.0 + self._slow("speed", 6, 0.25), 1.5)
        s = speed / 1450.0
        suction = self._lag("suction", 1.2 + self._slow("suction", 5, 0.002) - 0.75 * cavitation, 1.0)
        # pump curve H0 s² - k Q² against the system curve Hs + r Q², heads in metres, Q in m³/h
        starve = 1.0 - 0.28 * cavitation * (1 + 0.3 * float(self._rng.standard_normal()))
        head0 = 42.0 * s * s * max(0.3, starve)
        flow = math.sqrt(max(0.01, (head0 - 8.0) / (0.011 + 0.0125)))
        flow = self._lag("flow", flow + self._slow("flow", 3, 0.02), 0.8)
        head = head0 - 0.011 * flow * flow
        self._values["discharge"] = suction + head * 0.0981
        friction_kw = 0.25 * s + 1.1 * wear
        self._values["power"] = 1000 * 9.81 * (flow / 3600) * head / 0.68 / 1000 + friction_kw
        self._lag("bearing", self._values["ambient"] + 26.0 + 34.0 * wear + self._slow("bearing", 6, 0.04), 6.0)
        self._values["vibration"] = 1.6 + 4.2 * wear + 3.4 * cavitation + self._slow("vibration", 2, 0.02)

    def _exchanger(self) -> None:
        fouling, band = self.level("hx_fouling"), STICTION_BAND * self.level("valve_stiction")
        valve = self._loop.act(self._values["product"], self.step_s, band)
        # the steam header's pressure is what the loop has to make up for: without it a sticking valve stays right
        steam = 22.0 * (valve / 100.0) ** 1.2 * (1 + self._slow("steam", 30, 0.01))
        conductance = 9.5 * (1 - 0.62 * fouling)
        ntu = conductance / max(1.0, self._values["flow"] * 0.32)
        effectiveness = ntu / (1 + ntu)
        hot_in = 96.0 + self._slow("hot", 6, 0.02)
        feed = 18.0 + self._slow("feed", 6, 0.02)
        gain = effectiveness * (hot_in - feed) * (0.55 + steam / 9.0)
        product = self._lag("product", min(hot_in, feed + gain), 5.0)
        self._values["hot_in"], self._values["feed"] = hot_in, feed
        self._values["hot_out"] = hot_in - (product - feed) * 0.62
        self._values["valve"] = valve

    def _filler(self) -> None:
        drift = self.level("nozzle_drift")
        self._values["weight"] = 500.0 + 9.0 * drift + 0.55 * float(self._rng.standard_normal())
        rate = 2.0 + self._slow("rate", 10, 0.004)
        self._count["reject" if abs(self._values["weight"] - 500) > 6 else "good"] += rate * self.step_s
        self._values["rate"] = rate * 60

    def _meters(self) -> None:
        self._lag("ambient", 21.0 + self._slow("ambient", 10, 0.02), 20)
        self._values["site_power"] = 62.0 + self._values["power"] + self._slow("site", 4, 0.1)
        self._values["humidity"] = 45.0 + self._slow("humidity", 8, 0.1)
        self._count["energy"] += self._values["site_power"] * self.step_s / 3600

    def _sensed(self, name: str, value: float, noise: float) -> float:
        value += noise * float(self._rng.standard_normal())
        if name == "flow" and self.level("sensor_stuck") > 0:
            return self._held.setdefault(name, value)
        self._held.pop(name, None)
        if name == "hot_out":
            value += 14.0 * self.level("sensor_drift")
        if name == "discharge" and self.level("spike") > 0 and self._rng.random() < 0.2:
            value += 4.0
        return value

    def signals(self) -> Mapping[str, SignalValue]:
        """What the sensors say now: name to value in the unit of the plant's tag map."""
        v = self._values
        running = 6
        return {
            "P101.Speed": self._sensed("speed", v["speed"], 0.8),
            "P101.SuctionPressure": self._sensed("suction", v["suction"], 0.008),
            "P101.DischargePressure": self._sensed("discharge", v["discharge"], 0.008),
            "P101.Flow": self._sensed("flow", v["flow"], 0.06),
            "P101.MotorPower": self._sensed("power", v["power"], 0.04),
            "P101.BearingTemp": self._sensed("bearing", v["bearing"], 0.15),
            "P101.Vibration": abs(self._sensed("vibration", v["vibration"], 0.08)),
            "P101.State": running,
            "E201.ProductTemp": self._sensed("product", v["product"], 0.12),
            "E201.ProductSetpoint": self._loop.setpoint,
            "E201.ValvePosition": self._sensed("valve", v["valve"], 0.1),
            "E201.HotInletTemp": self._sensed("hot_in", v["hot_in"], 0.1),
            "E201.HotOutletTemp": self._sensed("hot_out", v["hot_out"], 0.1),
            "F301.State": running,
            "F301.FillWeight": v["weight"],
            "F301.Rate": self._sensed("rate", v["rate"], 0.6),
            "F301.GoodCount": int(self._count["good"]),
            "F301.RejectCount": int(self._count["reject"]),
            "F301.Order": "PO-10007431",
            "M1.ActivePower": self._sensed("site", v["site_power"], 0.4),
            "M1.Energy": self._count["energy"],
            "R12.Temperature": self._sensed("ambient", v["ambient"], 0.08),
            "R12.Humidity": self._sensed("humidity", v["humidity"], 0.4),
        }
