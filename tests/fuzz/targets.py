"""
What is fuzzed: each function reads bytes of a stranger, and may only refuse them in the way it promises.

An exception that leaves a target is a finding. A new decoder is one more entry of :data:`TARGETS`.
"""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

from adapters.base import AdapterContext
from adapters.modbus import address as modbus_address
from adapters.mqtt.config import MqttOptions
from adapters.mqtt.decode import Decoder, Message
from adapters.mqtt.topics import parse_address
from adapters.opcua import nodes
from adapters.timestamps import parser
from broker.api import cursor
from broker.config.yaml_lines import parse_yaml
from broker.journal import codec, frame
from broker.tagmap import csv_map, units
from llm import messages
from schemas.errors import Refused, WorkerError
from schemas.tagmap import Tag

NOW_NS = 1_800_000_000 * 10**9


@cache
def _mqtt(decode: str) -> Decoder:
    types = (None, "float64", "int32", "uint64", "bool", "string[8]")
    tags = tuple(
        Tag(number=n, id=f"t{n}", path=f"S/{n}", source="m", address="t/x" if decode == "plain" else f"t/x#{p}", type=t)
        for n, (p, t) in enumerate(zip(("v", "a[0]", "b.c", "v", "w", "s"), types, strict=True))
    )
    subscription = {"filter": "t/#", "decode": decode}
    if decode == "json":
        subscription |= {"time": "ts", "quality": "q"}
    options = MqttOptions.model_validate({"broker": "mqtt://127.0.0.1", "subscriptions": [subscription]})
    return Decoder(options, AdapterContext("m", tags, b"m" * 16, lambda: NOW_NS, Path()), Counter())


def _mqtt_payload(decode: str) -> Callable[[bytes], None]:
    def decode_payload(data: bytes) -> None:
        message = Message(b"t/x", data, len(data), 1, False, False, 1, NOW_NS)
        batch, _ = _mqtt(decode).decode([message, message])
        batch.check()

    return decode_payload


def mqtt_topic(data: bytes) -> None:
    """A topic of any bytes."""
    batch, _ = _mqtt("json").decode([Message(data, b'{"v": 1}', 8, 1, True, True, 1, NOW_NS)])
    batch.check()


def journal_segment(data: bytes) -> None:
    """A segment file of any content: frames come in rising order, and what they hold is read or refused."""
    header = frame.read_header(data, 1)
    if isinstance(header, str):
        raw, _ = frame.pack_header(1, 1, b"b" * 16, NOW_NS, 0)
        known = frame.read_header(raw, 1)
        assert not isinstance(known, str)
        header, data = known, raw + data
    last = 0
    for found in frame.frames(data, header):
        assert found.seq > last
        last = found.seq
        _refusing(ValueError, codec.decode, data[found.start : found.end])


def journal_entry(data: bytes) -> None:
    """The body of an entry."""
    _refusing(ValueError, codec.decode, data)


def _refusing(error: type[Exception], call: Callable[..., object], *arguments: object) -> None:
    with contextlib.suppress(error):
        call(*arguments)


def _text(error: type[Exception], call: Callable[[str], object]) -> Callable[[bytes], None]:
    return lambda data: _refusing(error, call, data.decode("utf-8", "replace"))


def configuration(data: bytes) -> None:
    """A configuration file is read, or its problems are listed; nothing is raised."""
    node, problems = parse_yaml(data.decode("utf-8", "replace"), "fairlead.yaml")
    assert node is not None or problems or not data.strip()


def tag_map_csv(data: bytes) -> None:
    """A flat map is read, or its problems are listed."""
    _refusing(csv.Error, csv_map._rows, data.decode("utf-8", "replace"), "map.csv", [])


def worker_message(data: bytes) -> None:
    """What comes out of the pipe of the reasoning worker."""
    _refusing(WorkerError, messages.from_worker, data)
    _refusing(ValueError, messages.to_worker, data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "mqtt_json": _mqtt_payload("json"),
    "mqtt_plain": _mqtt_payload("plain"),
    "mqtt_topic": mqtt_topic,
    "mqtt_address": _text(ValueError, parse_address),
    "modbus_address": _text(ValueError, modbus_address.parse),
    "opcua_address": _text(ValueError, nodes.parse_address),
    "timestamp": _text(ValueError, parser("auto", None)),
    "journal_segment": journal_segment,
    "journal_entry": journal_entry,
    "configuration": configuration,
    "tag_map_csv": tag_map_csv,
    "unit": _text(ValueError, units.canonical),
    "cursor": _text(Refused, lambda text: cursor.decode("store", text)),
    "worker_message": worker_message,
}
