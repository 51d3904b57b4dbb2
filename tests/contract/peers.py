"""
One peer per adapter kind: the same five signals behind a real server of each protocol, or in a file.

A new kind joins the contract tests with one class here and one line in :data:`PEERS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from schemas.tagmap import Tag
from simulators import SignalValue
from simulators.modbus_server import ModbusServer, RegisterPoint
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests.contract.mosquitto import Mosquitto

#: Name and declared type of each signal; its tag's number is the position.
SIGNALS = {"level": "float64", "count": "uint32", "run": "bool", "name": "string[8]", "sensor": "int16"}
STEP_S = 0.01
NAMESPACE = "urn:contract"

Need = Callable[[str], str]


class Peer(ABC):
    """
    Something an adapter reads.

    ``said`` holds every state it has shown: time (UTC ns) to values. ``timed`` tells whether the protocol carries
    that time, ``mortal`` whether the peer can go away while it is read, ``repeats`` whether it delivers again what was
    not settled.
    """

    kind: str
    timed = True
    mortal = True
    repeats = True

    def __init__(self, folder: Path, port: int, need: Need) -> None:
        self.folder = folder
        self.port = port
        self.need = need
        self.said: dict[int, Mapping[str, SignalValue]] = {}
        self._step = 0

    def state(self) -> dict[str, SignalValue]:
        """Advance by one step; the sensor has no value in every fifth."""
        self._step += 1
        k = self._step
        sensor = None if k % 5 == 0 else k % 1000
        return {"level": k / 8, "count": 3_000_000_000 + k, "run": k % 2 == 1, "name": f"P{k % 10}", "sensor": sensor}

    def tags(self) -> tuple[Tag, ...]:
        """The five tags, in the order of :data:`SIGNALS`."""
        return tuple(
            Tag(number=n, id=name, path=f"S/{name}", source="peer", address=self.address(name), type=type_, scan_ms=100)
            for n, (name, type_) in enumerate(SIGNALS.items())
        )

    @abstractmethod
    def address(self, name: str) -> str:
        """Address of a signal."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Options that read this peer, as they stand in fairlead.yaml, without ``kind``."""

    @abstractmethod
    async def start(self) -> None:
        """Begin, or come back after ``stop``."""

    @abstractmethod
    async def stop(self) -> None:
        """Go away as a crash would; harmless when not started."""


class ReplayPeer(Peer):
    """A file of a few seconds."""

    kind = "replay"
    mortal = False

    def address(self, name: str) -> str:
        """The member ``tag`` of a line."""
        return name

    def options(self) -> dict[str, Any]:
        """The file, played at its own speed."""
        return {"file": "played.jsonl", "speed": 1.0}

    async def start(self) -> None:
        """Write the file."""
        begin_ns = time.time_ns()
        lines = []
        for n in range(400):
            at_ns = begin_ns + round(n * STEP_S * 1e9)
            self.said[at_ns] = state = self.state()
            for name, value in state.items():
                mark = {} if value is not None else {"status": "BadSensorFailure"}
                lines.append(json.dumps({"time": at_ns, "tag": name, "value": value, **mark}))
        (self.folder / "played.jsonl").write_text("\n".join(lines) + "\n")

    async def stop(self) -> None:
        """Take the file away."""
        (self.folder / "played.jsonl").unlink(missing_ok=True)


class MqttPeer(Peer):
    """A mosquitto and a publisher."""

    kind = "mqtt"

    def __init__(self, folder: Path, port: int, need: Need) -> None:
        super().__init__(folder, port, need)
        self._broker = Mosquitto(need("mosquitto"), folder, port)
        self._publishing: asyncio.Task[None] | None = None

    def address(self, name: str) -> str:
        """Members of two messages: only the sensor's carries a quality."""
        return "line/sensor#v" if name == "sensor" else f"line/state#{name}"

    def options(self) -> dict[str, Any]:
        """Both topics, with the payload's time and quality."""
        payload = {"decode": "json", "time": "ts", "time_format": "epoch_ms", "quality": "q"}
        return {"broker": self._broker.url, "subscriptions": [{"filter": "line/+", **payload}]}

    async def start(self) -> None:
        """Start the broker and publish."""
        await asyncio.to_thread(self._broker.start)
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        self._publishing = asyncio.create_task(self._publish(client))

    async def stop(self) -> None:
        """Kill the broker."""
        if self._publishing is not None:
            self._publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._publishing
            self._publishing = None
        self._broker.stop()

    async def _publish(self, client: mqtt.Client) -> None:
        try:
            while True:
                at_ms = time.time_ns() // 10**6
                state = self.state()
                self.said[at_ms * 10**6] = dict(state)
                sensor = state.pop("sensor")
                client.publish("line/state", json.dumps({"ts": at_ms, **state}), 1)
                mark = "bad" if sensor is None else "good"
                client.publish("line/sensor", json.dumps({"ts": at_ms, "v": sensor, "q": mark}), 1)
                await asyncio.sleep(STEP_S)  # the rate of the plant
        finally:
            client.disconnect()
            client.loop_stop()


class ModbusPeer(Peer):
    """Registers of a server that shares no code with the adapter."""

    kind = "modbus"
    timed = False
    repeats = False
    _POINTS = (
        RegisterPoint("level", "holding", 0, "float64"),
        RegisterPoint("count", "holding", 4, "uint32"),
        RegisterPoint("name", "holding", 6, "string[8]"),
        RegisterPoint("run", "coil", 0, "bool"),
        RegisterPoint("sensor", "input", 0, "int16"),
    )

    def __init__(self, folder: Path, port: int, need: Need) -> None:
        super().__init__(folder, port, need)
        self._server = ModbusServer(self._signals, self._POINTS, port=port)

    def _signals(self) -> Mapping[str, SignalValue]:
        state = self.said[time.time_ns()] = self.state()
        return state

    def address(self, name: str) -> str:
        """Modicon numbers."""
        return {"level": "400001", "count": "400005", "name": "400007", "run": "000001", "sensor": "300001"}[name]

    def options(self) -> dict[str, Any]:
        """The server's port, big-endian words."""
        return {"host": "127.0.0.1", "port": self.port, "byte_order": "ABCD", "scan": "100ms", "timeout": "5s"}

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    async def stop(self) -> None:
        """Cut everything."""
        await self._server.stop()


class OpcUaPeer(Peer):
    """A server whose SourceTimestamps are the times of ``said``."""

    kind = "opcua"
    _TYPES: ClassVar = {"level": "Double", "count": "UInt32", "run": "Boolean", "name": "String", "sensor": "Int16"}

    def __init__(self, folder: Path, port: int, need: Need) -> None:
        super().__init__(folder, port, need)
        self._now: Mapping[str, SignalValue] = {}
        nodes = {name: NodeSpec(type_) for name, type_ in self._TYPES.items()}
        self._server = OpcUaServer(
            self._signals, nodes, namespace=NAMESPACE, port=port, period_s=0.05, now_ns=self._stamp
        )

    def _signals(self) -> Mapping[str, SignalValue]:
        self._now = self.state()
        return self._now

    def _stamp(self) -> int:
        at_ns = time.time_ns() // 1000 * 1000
        self.said[at_ns] = self._now
        return at_ns

    def address(self, name: str) -> str:
        """Node id with the namespace's URI."""
        return f"nsu={NAMESPACE};s={name}"

    def options(self) -> dict[str, Any]:
        """No security on the loopback interface, fast publishing."""
        fast = {"sampling": "50ms", "publishing": "100ms"}
        return {"endpoint": f"opc.tcp://127.0.0.1:{self.port}/", "security": "None", "subscription": fast}

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.stop()


PEERS: dict[str, type[Peer]] = {peer.kind: peer for peer in (ReplayPeer, MqttPeer, ModbusPeer, OpcUaPeer)}
