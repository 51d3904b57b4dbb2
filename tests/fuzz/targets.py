"""
What is fuzzed: each function reads bytes of a stranger, and may only refuse them in the way it promises.

An exception that leaves a target is a finding. A new decoder is one more entry of :data:`TARGETS`.
"""

from __future__ import annotations

import contextlib
import csv
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from adapters.base import AdapterContext
from adapters.modbus import address as modbus_address
from adapters.modbus import frames as modbus_frames
from adapters.modbus import identity as modbus_identity
from adapters.modbus import memory
from adapters.modbus.registers import Decoder as RegisterDecoder
from adapters.modbus.types import NUMBERS, Field, mask_of, width_of
from adapters.mqtt.config import MqttOptions
from adapters.mqtt.decode import Decoder
from adapters.mqtt.message import Block, Message
from adapters.mqtt.packets import Malformed, Packets
from adapters.mqtt.sparkplug import births, datatypes, payload
from adapters.mqtt.sparkplug import topics as sparkplug_topics
from adapters.mqtt.topics import parse_address
from adapters.opcua import event_options, event_wire, nodes, progress
from adapters.opcua.event_filter import clauses
from adapters.opcua.event_options import EventOptions
from adapters.opcua.event_reader import EventReader, Told
from adapters.opcua.faults import DECODE_ERRORS
from adapters.timestamps import parser
from broker import tagmap
from broker.api import cursor
from broker.config import load_config
from broker.config.yaml_lines import parse_yaml
from broker.journal import codec, frame, mark
from broker.tagmap import csv_map, units
from llm import messages
from schemas.errors import Refused, WorkerError
from schemas.tagmap import Tag
from tests.fuzz import opcua

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
        batch, _ = _mqtt(decode).decode(Block.of(*[message] * 9))
        batch.check()

    return decode_payload


def mqtt_neighbours(data: bytes) -> None:
    """Payloads that are parsed joined: a stranger among them takes nobody's place."""
    sound = [Message(b"t/x", b'{"v": %d, "w": true}' % n, 20, 1, False, False, n, NOW_NS + n) for n in range(8)]
    stranger = Message(b"t/x", data, len(data), 1, False, False, 9, NOW_NS)
    alone, _ = _mqtt("json").decode(Block.of(stranger))
    batch, _ = _mqtt("json").decode(Block.of(*sound[:4], stranger, *sound[4:]))
    batch.check()
    assert len(batch) == len(alone) + 8 * 3  # of each the tags of v (twice) and w
    numbers = batch.value[batch.tag == 0].tolist()
    assert numbers[:4] + numbers[-4:] == list(range(8))


def mqtt_topic(data: bytes) -> None:
    """A topic of any bytes."""
    batch, _ = _mqtt("json").decode(Block.of(Message(data, b'{"v": 1}', 8, 1, True, True, 1, NOW_NS)))
    batch.check()


def modbus_reply(data: bytes) -> None:
    """What comes from a device: whole replies of exactly the size that was asked, or nothing, or doubt."""
    asked = modbus_frames.read_request(1, 3, 0, 2)
    at = 0
    with contextlib.suppress(modbus_frames.Doubtful):
        while len(data) - at >= modbus_frames.MBAP.size:
            reply = modbus_frames.judge_mbap(asked, data, at)
            if reply is None:
                break
            assert len(reply.payload) == (0 if reply.code else 4)
            at += reply.size


def modbus_registers(data: bytes) -> None:
    """Registers under every type and some orders: numbers, texts, or said to be none; nothing is raised."""
    image = np.frombuffer(data[:400].ljust(400, b"\0"), np.uint8)
    out = _registers().decode(image)
    assert not set(out.undecodable) & set(out.exact)
    assert np.isnan(out.value[out.undecodable]).all()


@cache
def _registers() -> RegisterDecoder:
    fields = [
        Field(name, 2 * width_of(name), mask_of(order, name), elements=elements)
        for name in NUMBERS
        for order in ("ABCD", "CDAB", "BADC", "DCBA")
        for elements in (0, 2)
    ]
    fields += [Field("bcd", 4), Field("bcd", 2, elements=3), Field("string", 20), Field("bytes", 6)]
    return RegisterDecoder([(one, 2 * (n % 90), 0) for n, one in enumerate(fields)])


def modbus_serial_reply(data: bytes) -> None:
    """The same of serial frames, of registers and of a device identification."""
    for asked in (modbus_frames.read_request(1, 3, 0, 2), modbus_frames.identification_request(1, 1, 0)):
        with contextlib.suppress(modbus_frames.Doubtful):
            reply = modbus_frames.judge_rtu(asked, data) if len(data) >= 3 else None
            if reply is not None and asked.function == 3:
                assert len(reply.payload) == (0 if reply.code else 4)


def mqtt_packets(data: bytes) -> None:
    """The bytes of a connection, in two reads: messages and packets, or the connection ends."""
    packets = Packets(1000, five=True)
    with contextlib.suppress(Malformed):
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            packets.feed(part, NOW_NS)


def sparkplug_payload(data: bytes) -> None:
    """A Sparkplug payload, and each value under its datatype."""
    with contextlib.suppress(ValueError):
        for metric in payload.decode(data).metrics:
            _refusing(ValueError, datatypes.plain, metric)


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


def opcua_events(data: bytes) -> None:
    """An EventNotificationList, and what is made of each event in it: an event or a refusal, journalled either way."""
    with contextlib.suppress(*DECODE_ERRORS):
        found = event_wire.event_list(data)
        options, reader, told = EventOptions(fields=("A/B",)), EventReader("s", ["", "urn:a"]), Told()
        names = [clause.name for clause in clauses(options, ["", "urn:a"])]
        reader.unnamed(found.events, 1)
        for one in found.events:
            for asked in (names, names[: len(one.fields)]):
                reader.add(told, one, options, asked, NOW_NS)
        for event in told.events:
            assert codec.decode(codec.encode(event)) is not None


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


def tag_map_yaml(data: bytes) -> None:
    """A map is resolved, or its problems are listed, each with its place."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fairlead.yaml"
        path.write_text(_SITE, "utf-8")
        (Path(folder) / "maps").mkdir()
        (Path(folder) / "maps" / "map.yaml").write_bytes(data)
        found, problems = tagmap.load_with_problems(load_config(path, {}))
    assert found is not None or any(not problem.warning for problem in problems)


_SITE = """\
version: 1
site: {path: Acme/Lyon}
sources:
  plc: {kind: modbus, host: 10.0.0.5, byte_order: CDAB, scan: 500ms}
  ua: {kind: opcua, endpoint: "opc.tcp://localhost:4840", security: None}
"""


def remembered(data: bytes) -> None:
    """What adapters and journal keep of themselves over a restart, read back from a damaged file."""
    _refusing(ValueError, births.load, data)
    _refusing(ValueError, births.load_positions, data)
    mark.unpack(data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for name in ("device.json", "subscriptions.json"):
            (path / name).write_bytes(data)
        _refusing(ValueError, memory.recall, path, "10.0.0.5:502")
        progress.load(path / "subscriptions.json")


def worker_message(data: bytes) -> None:
    """What comes out of the pipe of the reasoning worker."""
    _refusing(WorkerError, messages.from_worker, data)
    _refusing(ValueError, messages.to_worker, data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "mqtt_json": _mqtt_payload("json"),
    "mqtt_plain": _mqtt_payload("plain"),
    "mqtt_neighbours": mqtt_neighbours,
    "mqtt_topic": mqtt_topic,
    "mqtt_packets": mqtt_packets,
    "sparkplug_payload": sparkplug_payload,
    "sparkplug_topic": _text(ValueError, sparkplug_topics.parse),
    "sparkplug_address": _text(ValueError, sparkplug_topics.parse_address),
    "mqtt_address": _text(ValueError, parse_address),
    "modbus_address": _text(ValueError, modbus_address.parse),
    "modbus_reply": modbus_reply,
    "modbus_serial_reply": modbus_serial_reply,
    "modbus_registers": modbus_registers,
    "modbus_identity": lambda data: _refusing(modbus_frames.Doubtful, modbus_identity.decode, data),
    "opcua_events": opcua_events,
    "opcua_event_field": _text(ValueError, event_options.parse_field),
    "opcua_address": _text(ValueError, nodes.parse_address),
    "timestamp": _text(ValueError, parser("auto", None)),
    "journal_segment": journal_segment,
    "journal_entry": journal_entry,
    "configuration": configuration,
    "tag_map_csv": tag_map_csv,
    "tag_map_yaml": tag_map_yaml,
    "remembered": remembered,
    "unit": _text(ValueError, units.canonical),
    "cursor": _text(Refused, lambda text: cursor.decode("store", text)),
    "worker_message": worker_message,
    **opcua.TARGETS,
}
