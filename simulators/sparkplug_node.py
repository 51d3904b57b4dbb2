"""
A Sparkplug B edge node with devices, for demo and tests; it can misbehave on purpose.

Its encoder is written for it alone, so that it can stand against a decoder. Source: Eclipse Sparkplug 3.0.0.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

DATATYPES: Final = {
    "Int8": 1, "Int16": 2, "Int32": 3, "Int64": 4, "UInt8": 5, "UInt16": 6, "UInt32": 7, "UInt64": 8, "Float": 9,
    "Double": 10, "Boolean": 11, "String": 12, "DateTime": 13, "Text": 14,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One metric to send; what is None is left out.

    ``value`` None is sent as a null. ``timestamp`` is epoch ms, ``quality`` the property of that name. Not ``typed``:
    the datatype only chooses the field of the value, and is left to the birth.
    """

    name: str | None
    datatype: str | None
    value: bool | int | float | str | None
    alias: int | None = None
    timestamp: int | None = None
    historical: bool = False
    quality: int | None = None
    typed: bool = True


def encode(metrics: Sequence[Metric], timestamp: int | None = None, seq: int | None = None) -> bytes:
    """Payload of these metrics."""
    parts = [b"" if timestamp is None else _key(1, 0) + _varint(timestamp)]
    parts += [_field(2, _metric(metric)) for metric in metrics]
    parts.append(b"" if seq is None else _key(3, 0) + _varint(seq))
    return b"".join(parts)


def _metric(metric: Metric) -> bytes:
    parts = [b"" if metric.name is None else _field(1, metric.name.encode())]
    datatype = DATATYPES[metric.datatype] if metric.typed and metric.datatype is not None else None
    for number, whole in ((2, metric.alias), (3, metric.timestamp), (4, datatype)):
        parts.append(b"" if whole is None else _key(number, 0) + _varint(whole))
    parts.append(_key(5, 0) + b"\1" if metric.historical else b"")
    if metric.quality is not None:
        value = _key(1, 0) + _varint(3) + _key(3, 0) + _varint(metric.quality)
        parts.append(_field(9, _field(1, b"Quality") + _field(2, value)))
    parts.append(_key(7, 0) + b"\1" if metric.value is None else _value(metric.datatype, metric.value))
    return b"".join(parts)


def _value(datatype: str | None, value: Any) -> bytes:
    if isinstance(value, bool):
        return _key(14, 0) + bytes([value])
    if isinstance(value, str):
        return _field(15, value.encode())
    if datatype == "Float":
        return _key(12, 5) + struct.pack("<f", value)
    if datatype == "Double" or isinstance(value, float):
        return _key(13, 1) + struct.pack("<d", value)
    if datatype in ("Int64", "UInt64", "DateTime"):
        return _key(11, 0) + _varint(value % 2**64)
    return _key(10, 0) + _varint(value % 2**32)


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _field(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


#: Of no node: nobody listens.
_BEHIND: Final = "simulator/behind"


class EdgeNode:
    """
    One edge node on an MQTT broker.

    *devices* maps device to metric name to (datatype, first value); the empty device is the node itself. Aliases are
    given from ``first_alias`` on. ``rebirths`` counts the rebirth commands that came; they are obeyed unless ``deaf``.
    Public attributes may be changed between messages: ``seq`` is the number of the next one.
    """

    def __init__(
        self,
        port: int,
        devices: Mapping[str, Mapping[str, tuple[str, Any]]],
        *,
        group: str = "Plant",
        node: str = "edge",
        first_alias: int = 1,
        bdseq: int = 0,
        qos: int = 0,
        deaf: bool = False,
    ) -> None:
        self.group, self.node = group, node
        self.devices = {name: dict(metrics) for name, metrics in devices.items()}
        self.first_alias = first_alias
        self.bdseq = bdseq
        self.qos = qos
        self.deaf = deaf
        self.seq = 0
        self.rebirths = 0
        self._port = port
        self._lock = threading.RLock()
        self._connected = threading.Event()
        self._client: mqtt.Client | None = None

    def connect(self) -> None:
        """Connect with the death certificate as will, listen to commands, and send the births."""
        self._client = client = mqtt.Client(CallbackAPIVersion.VERSION2)
        death = encode([Metric("bdSeq", "UInt64", self.bdseq)], _now_ms())
        client.will_set(self.topic("NDEATH"), death, 1)
        client.on_connect = lambda c, *_: c.subscribe(self.topic("NCMD"), 1)
        client.on_subscribe = lambda *_: self._connected.set()
        client.on_message = lambda *_: self._command()
        self._connected.clear()
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        if not self._connected.wait(10):
            raise OSError("the broker does not answer")
        self.birth()

    def birth(self) -> None:
        """NBIRTH, and a DBIRTH of each device."""
        self.node_birth()
        for device in filter(None, self.devices):
            self.device_birth(device)

    def node_birth(self) -> None:
        """NBIRTH; the numbers begin anew."""
        with self._lock:
            self.seq = 0
            own = [Metric("bdSeq", "UInt64", self.bdseq), Metric("Node Control/Rebirth", "Boolean", False)]
            self.send("NBIRTH", "", [*own, *self._metrics("")])

    def device_birth(self, device: str) -> None:
        """DBIRTH of one device."""
        self.send("DBIRTH", device, self._metrics(device))

    def data(self, device: str, values: Mapping[str, Any], timestamp: int | None = None) -> None:
        """NDATA or DDATA with these values by alias, without their types."""
        with self._lock:
            for name, value in values.items():
                self.devices[device][name] = (self.devices[device][name][0], value)
            wanted = [metric for metric in self._metrics(device) if metric.name in values]
        sent = [Metric(None, m.datatype, m.value, m.alias, timestamp, typed=False) for m in wanted]
        self.send("DDATA" if device else "NDATA", device, sent)

    def device_death(self, device: str) -> None:
        """DDEATH of one device."""
        self.send("DDEATH", device, [])

    def send(self, kind: str, device: str, metrics: Sequence[Metric]) -> None:
        """Send any message with the next number; return when the socket, or with QoS 1 the broker, has it."""
        assert self._client is not None
        with self._lock:
            payload = encode(metrics, _now_ms(), self.seq)
            self.seq = (self.seq + 1) % 256
            info = self._client.publish(self.topic(kind, device), payload, self.qos)
        info.wait_for_publish(10)

    def passed_on(self) -> None:
        """Return when the broker has read all that was sent: of QoS 0 only the answer to what comes behind tells."""
        assert self._client is not None
        self._client.publish(_BEHIND, b"", 1).wait_for_publish(10)

    def drop(self) -> None:
        """Vanish without a farewell: the broker publishes the death certificate."""
        assert self._client is not None
        line = self._client.socket()
        self._client.on_disconnect = None
        self._client.loop_stop()
        if isinstance(line, socket.socket):
            line.shutdown(socket.SHUT_RDWR)
            line.close()

    def close(self) -> None:
        """End; a graceful node sends its own death certificate first."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def topic(self, kind: str, device: str = "") -> str:
        """Topic of a kind of message."""
        return f"spBv1.0/{self.group}/{kind}/{self.node}" + (f"/{device}" if device else "")

    def _metrics(self, device: str) -> list[Metric]:
        alias = self.first_alias
        for name in sorted(self.devices):
            if name == device:
                break
            alias += len(self.devices[name])
        items = self.devices.get(device, {}).items()
        return [Metric(name, type_, value, alias + i) for i, (name, (type_, value)) in enumerate(items)]

    def _command(self) -> None:
        self.rebirths += 1
        if not self.deaf:
            threading.Thread(target=self.birth).start()  # a callback that waits for its own thread would wait for ever


def _now_ms() -> int:
    return time.time_ns() // 10**6
