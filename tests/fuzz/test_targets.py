"""Every fuzz target takes random bytes, and changed good ones, without a finding; ``make fuzz`` goes on for hours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.journal import codec, mark
from llm import messages
from schemas.alarms import Condition, Event
from schemas.entries import Link, Tick
from schemas.samples import SampleBatch
from simulators.sparkplug_node import Metric, encode
from tests.fuzz import opcua
from tests.fuzz.targets import NOW_NS, TARGETS

_BATCH = SampleBatch.build("s", b"m" * 16, NOW_NS, tag=[0, 1], source_ns=[1, 2], value=[1.5, np.nan], exact={1: "text"})
_EVENT = Event("s", "i=2253", "", b"1", "i=2041", "", "", "", 1, None, 2, 3, "m", 0, Condition("i=1", "c"), {"a": 1})
#: Fields of one event: id, type, source, name, two times, a text, a severity.
_EVENTS = (
    b"\1\0\0\0\0\0\0\0\x08\0\0\0\x0f\2\0\0\0id\x11\0\x7f\x11\2\1\0\7\0\0\0\x0c\1\0\0\0L"
    b"\x0d\0\0\0\0\0\1\xdc\1\x0d\0\0\0\0\0\1\xdc\1\x15\2\1\0\0\0m\5\xf4\1"
)
GOOD = {
    "mqtt_json": [
        b'{"v": 1.5, "a": [1], "b": {"c": 3}, "w": true, "s": "x", "ts": "2026-01-01T00:00:00Z", "q": "Good"}'
    ],
    "mqtt_plain": [b"21.5", b"-1e300", b"true"],
    "mqtt_topic": [b"t/x"],
    "mqtt_packets": [b"\x32\x09\0\1a\0\7\0abc\xd0\0\x30\x05\0\1b\0\x31"],
    "sparkplug_payload": [
        encode([Metric("a", "Double", 1.5, 1), Metric("b", "Int8", -1, quality=192), Metric("c", "String", None)], 1, 2)
    ],
    "mqtt_address": [b"t/x#a[0].b"],
    "modbus_address": [b"40001", b"4!HR20.3", b"[Dev]3.HRF7", b"400100.20H", b"1!40001#BL", b"HR1[10]"],
    "modbus_reply": [b"\0\1\0\0\0\x07\1\3\4\0\7\0\x08", b"\0\1\0\0\0\3\1\x83\2"],
    "modbus_serial_reply": [b"\1\3\4\0\7\0\x08\x0b\xf4", b"\1\x83\2\xc0\xf1"],
    "modbus_identity": [b"\x0e\1\1\0\0\2\0\4Acme\1\2X1"],
    "opcua_events": [_EVENTS],
    "opcua_event_field": [b"nsu=urn:a;Batch/2:Number"],
    "opcua_address": [b"nsu=urn:a;s=b"],
    "timestamp": [b"2026-03-29T02:30:00+01:00", b"1700000000"],
    "journal_entry": [codec.encode(_BATCH), codec.encode(Link("s", True)), codec.encode(Tick()), codec.encode(_EVENT)],
    "configuration": [b"version: 1\nsite: {path: A/B}\nsources: {a: {kind: modbus, host: h}}\n"],
    "tag_map_csv": [b"id,path,source,address\n1,A/B/c,s,40001\n"],
    "unit": [b"kW.h", b"[degF]", b"m/s2"],
    "mqtt_neighbours": [b'{"v": 7}', b"}, {", b"1, 2", b"null"],
    "sparkplug_topic": [b"spBv1.0/G/DDATA/N/D"],
    "sparkplug_address": [b"spBv1.0/G/N/D#m/x"],
    "modbus_registers": [bytes(range(200)), b"\x12\x34" * 90],
    "tag_map_yaml": [
        b"version: 1\ntags:\n  - {path: Acme/Lyon/A, source: plc, address: '40001', type: int16, unit: bar}\n"
    ],
    "remembered": [b'{"peer": "10.0.0.5:502"}', mark.pack(mark.Mark(1, 2, 3, 4, 5)), b"\x92\x01\x90"],
    **opcua.GOOD,
    "worker_message": [messages.frame(messages.Ask(1, b"evidence", 1.0))[messages.HEADER.size :]],
}


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    """Random bytes, good bytes, and good bytes with a few of them changed, cut or doubled."""
    target, good = TARGETS[name], GOOD.get(name, [b""])

    @given(st.sampled_from(good), st.integers(0, 400), st.binary(max_size=12), st.integers(0, 8))
    @example(good[0], 0, b"", 0)
    def changed(seed: bytes, at: int, put: bytes, skip: int) -> None:
        place = at % (len(seed) + 1)
        target(seed[:place] + put + seed[place + skip :])

    @given(st.binary(max_size=400))
    def random(data: bytes) -> None:
        target(data)

    for seed in good:
        target(seed)
    changed()
    random()


def test_a_finding_is_seen() -> None:
    """Negative control: a decoder that trusts its input is found out."""

    @given(st.binary(max_size=40))
    def trusting(data: bytes) -> None:
        data.decode("ascii")

    with pytest.raises(UnicodeDecodeError):
        trusting()
