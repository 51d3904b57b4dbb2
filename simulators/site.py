"""
The demo site: the plant behind a Modbus, an OPC UA and an MQTT server, with faults on a schedule.

Register layout, node ids and topics stand here once; ``broker/demo/maps`` describes the same points as an integrator
would, and a test compares the two.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final, Self

from simulators import SignalValue
from simulators.modbus_server import ModbusServer, RegisterPoint
from simulators.mqtt_broker import EmbeddedBroker
from simulators.mqtt_publisher import MqttPublisher, TopicSpec
from simulators.opcua_events import AlarmSpec
from simulators.opcua_server import NodeSpec, OpcUaServer
from simulators.plant import FAULT_EQUIPMENT, Fault, FaultKind, Plant

NAMESPACE: Final = "urn:fairlead:demo:filler"
PERIOD_S: Final = 0.2

#: Pump skid and heat exchanger, one PLC; the word orders differ on purpose, as they do in plants.
REGISTERS: Final = (
    RegisterPoint("P101.Speed", "holding", 0, "uint16", scale=27648 / 3000),
    RegisterPoint("P101.SuctionPressure", "holding", 1, "float32", "CDAB"),
    RegisterPoint("P101.DischargePressure", "holding", 3, "float32", "CDAB"),
    RegisterPoint("P101.Flow", "holding", 5, "float32", "CDAB"),
    RegisterPoint("P101.MotorPower", "holding", 7, "float32", "CDAB"),
    RegisterPoint("P101.BearingTemp", "holding", 9, "int16", scale=100),
    RegisterPoint("P101.Vibration", "holding", 10, "uint16", scale=1000),
    RegisterPoint("P101.State", "holding", 11, "uint16"),
    RegisterPoint("E201.ProductTemp", "input", 0, "float32", "ABCD"),
    RegisterPoint("E201.ProductSetpoint", "input", 2, "float32", "ABCD"),
    RegisterPoint("E201.ValvePosition", "input", 4, "uint16", scale=276.48),
    RegisterPoint("E201.HotInletTemp", "input", 5, "int16", scale=100),
    RegisterPoint("E201.HotOutletTemp", "input", 6, "int16", scale=100),
)
NODES: Final[Mapping[str, NodeSpec]] = {
    "F301.State": NodeSpec("Int32", "PackML state"),
    "F301.FillWeight": NodeSpec("Double", "Net weight of the last bottle, g"),
    "F301.Rate": NodeSpec("Float", "Bottles a minute"),
    "F301.GoodCount": NodeSpec("UInt32", "Good bottles"),
    "F301.RejectCount": NodeSpec("UInt32", "Rejected bottles"),
    "F301.Order": NodeSpec("String", "Process order"),
}
#: A nozzle that drifts fills 9 g too much.
ALARMS: Final = (AlarmSpec("F301.Overfill", "F301.FillWeight", 505.0, 600, 3.0, "Fill weight"),)
TOPICS: Final[Mapping[str, TopicSpec]] = {
    "demo/energy/m1": TopicSpec({"power_kw": "M1.ActivePower", "energy_kwh": "M1.Energy"}),
    "demo/rooms/12": TopicSpec({"temp": "R12.Temperature", "rh": "R12.Humidity"}),
}

#: Plant seconds; the demo repeats it from the start after its end. Between two faults of one piece of equipment lies
#: the time in which the first one's episode closes.
DEMO_SCHEDULE: Final = (
    Fault("bearing_wear", 28, 90, ramp_s=6),
    Fault("nozzle_drift", 33, 85, ramp_s=4),
    Fault("hx_fouling", 130, 230, size=0.6, ramp_s=30, fade_s=30),
    Fault("sensor_stuck", 300, 340),
    Fault("cavitation", 450, 500, size=0.8, ramp_s=4),
)
DEMO_PERIOD_S: Final = 720.0
#: What the demo's plant has run before: twenty times as long as its steam keeps to one side, so that what is normal of
#: it can be learned.
DEMO_RECORDED_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen, on 127.0.0.1; 0 asks for a free port."""

    modbus: int = 0
    opcua: int = 0
    mqtt: int = 0


class Site:
    """
    Async context manager: plant and servers in real time.

    Attributes:
        plant: the physics; ``plant.faults`` is the ground truth.
        modbus, opcua, broker: the servers, each may be stopped and started (a network cut).
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        faults: tuple[Fault, ...] = (),
        repeat_s: float | None = None,
        ports: Ports = Ports(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plant = Plant(seed, list(faults))
        self._schedule = faults
        self._repeat_s = repeat_s
        self._clock = clock
        self._started = 0.0
        self.modbus = ModbusServer(self._read, REGISTERS, port=ports.modbus)
        self.opcua = OpcUaServer(
            self._read, NODES, namespace=NAMESPACE, port=ports.opcua, period_s=PERIOD_S, alarms=ALARMS
        )
        self.broker = EmbeddedBroker(ports.mqtt)
        self._stack = AsyncExitStack()

    def now_s(self) -> float:
        """Plant seconds since the servers were up."""
        return self._clock() - self._started

    def addresses(self) -> dict[str, str]:
        """Where each protocol is served."""
        return {
            "modbus": f"127.0.0.1:{self.modbus.port}",
            "opcua": self.opcua.endpoint,
            "mqtt": self.broker.url,
        }

    async def __aenter__(self) -> Self:
        """Start everything. Raises OSError when a port is taken."""
        await self._stack.__aenter__()
        self._started = self._clock()
        await self._stack.enter_async_context(self.modbus)
        await self._stack.enter_async_context(self.opcua)
        await self._stack.enter_async_context(self.broker)
        publisher = MqttPublisher(self._read, TOPICS, port=self.broker.port, period_s=PERIOD_S)
        await self._stack.enter_async_context(publisher)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop everything."""
        await self._stack.aclose()

    def _read(self) -> Mapping[str, SignalValue]:
        now = self.now_s()
        if self._repeat_s is not None:
            begun = now // self._repeat_s * self._repeat_s
            if begun and not any(fault.start_s >= begun for fault in self.plant.faults):
                self.plant.faults += [
                    replace(f, start_s=f.start_s + begun, end_s=f.end_s + begun) for f in self._schedule
                ]
        self.plant.advance(now)
        return self.plant.signals()


async def run_site(site: Site, stop: asyncio.Event, say: Callable[[str], None]) -> None:
    """Serve *site* until *stop*; *say* gets ``READY {json}`` once, then ``FAULT begins|ends kind equipment``."""
    async with site:
        say("READY " + json.dumps(site.addresses()))
        known: set[FaultKind] = set()
        while not stop.is_set():
            active = {fault.kind for fault in site.plant.active()}
            for kind in sorted(active - known):
                say(f"FAULT begins {kind} {FAULT_EQUIPMENT[kind]}")
            for kind in sorted(known - active):
                say(f"FAULT ends {kind} {FAULT_EQUIPMENT[kind]}")
            known = active
            try:
                await asyncio.wait_for(stop.wait(), 0.25)
            except TimeoutError:
                continue
