"""Payloads: against another implementation's bytes, against an encoder of our own, and against nonsense."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.mqtt.sparkplug import commands, datatypes
from adapters.mqtt.sparkplug.payload import BYTES, DOUBLE, INT, LONG, STRING, decode
from simulators.sparkplug_node import Metric, encode

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))
_INTEGERS = {f"{sign}Int{bits}": bits for sign in ("", "U") for bits in (8, 16, 32, 64)}


def _wanted(type_: str, text: object) -> object:
    if type_ == "Bytes":
        return bytes.fromhex(str(text))
    return int(str(text)) if type_ in (*_INTEGERS, "DateTime") else text


def test_another_implementation_is_read_as_it_was_meant() -> None:
    """Every scalar datatype of the npm package sparkplug-payload comes out as it was given to it."""
    found = decode(bytes.fromhex(GOLDEN["scalars"]))

    assert (found.timestamp, found.seq) == (1795357000999, 3)
    for n, (metric, want) in enumerate(zip(found.metrics, GOLDEN["want"], strict=True)):
        assert (metric.name, metric.alias, metric.timestamp) == (want["name"], n + 1, 1795357000000 + n)
        assert datatypes.name(metric.datatype) == want["type"]
        value = datatypes.plain(metric)
        assert value == _wanted(want["type"], want["want"])
        assert type(value) is type(_wanted(want["type"], want["want"]))


def test_nulls_history_quality_tables_and_templates_of_another_implementation() -> None:
    """What is more than a scalar comes out as it was given to the npm package."""
    metrics = {metric.name: metric for metric in decode(bytes.fromhex(GOLDEN["special"])).metrics}

    assert metrics["null"].null
    assert datatypes.plain(metrics["null"]) is None
    assert [name for name, metric in metrics.items() if metric.historical] == ["old"]
    assert {name: metrics[str(name)].quality for name in ("good", "bad", "stale", "old")} == {
        "good": 192, "bad": 0, "stale": 500, "old": None,
    }  # fmt: skip
    assert datatypes.plain(metrics["table"]) == {"n": [-7, 8], "text": ["a", "b"]}
    assert dict(datatypes.cells(metrics["table"].value))["[0]/n"] == -7
    assert datatypes.plain(metrics["motor"]) == {"speed": -5, "inner/on": True, "rated": 63.5}


def test_the_rebirth_command_is_what_another_implementation_writes() -> None:
    """Byte for byte."""
    assert commands.rebirth(1795357000123).hex() == GOLDEN["rebirth"]


_VALUES = st.one_of(
    st.tuples(st.sampled_from(["Float", "Double"]), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just("Double"), st.floats(allow_nan=False)),
    st.tuples(st.just("Boolean"), st.booleans()),
    st.tuples(st.sampled_from(["String", "Text"]), st.text(max_size=20)),
    st.sampled_from(sorted(_INTEGERS)).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.integers(0, 2 ** _INTEGERS[name] - 1)
            if name[0] == "U"
            else st.integers(-(2 ** (_INTEGERS[name] - 1)), 2 ** (_INTEGERS[name] - 1) - 1),
        )
    ),
)
_OPTIONAL = st.none() | st.integers(0, 2**63 - 1)


@given(
    st.lists(st.tuples(_VALUES, st.none() | st.text(max_size=9), _OPTIONAL, _OPTIONAL, st.booleans()), max_size=8),
    _OPTIONAL,
    st.none() | st.integers(0, 255),
)
def test_what_is_encoded_is_decoded(
    items: list[tuple[tuple[str, Any], str | None, int | None, int | None, bool]], at: int | None, seq: int | None
) -> None:
    """Any metrics, with any of their parts left out, survive the way through bytes."""
    sent = [Metric(name, type_, value, alias, time, old) for (type_, value), name, alias, time, old in items]
    found = decode(encode(sent, at, seq))

    assert (found.timestamp, found.seq) == (at, seq)
    for metric, want in zip(found.metrics, sent, strict=True):
        assert (metric.name, metric.alias, metric.timestamp) == (want.name, want.alias, want.timestamp)
        assert metric.historical == want.historical
        assert datatypes.plain(metric) == want.value


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    """Whatever comes, decoding and judging end in a value or in ValueError."""
    _survive(data)


def test_damaged_payloads_do_no_more_than_be_refused() -> None:
    """Real payloads, cut at each place and with bytes changed, end in a value or in ValueError."""
    chance = random.Random(7)
    for name in ("scalars", "special"):
        whole = bytes.fromhex(GOLDEN[name])
        for end in range(len(whole)):
            _survive(whole[:end])
        for _ in range(3000):
            changed = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            _survive(bytes(changed))


def _survive(data: bytes) -> None:
    try:
        metrics = decode(data).metrics
    except ValueError:
        return
    for metric in metrics:
        try:
            datatypes.plain(metric)
        except ValueError:
            continue


def test_templates_that_nest_without_end_are_refused() -> None:
    """Depth is bounded before the stack is."""
    inner = b""
    for _ in range(2000):
        field = b"\x92\x01" + _length(inner) + inner
        inner = b"\x12" + _length(field) + field
    with pytest.raises(ValueError, match="nest deeper"):
        decode(inner)


def _length(content: bytes) -> bytes:
    size, found = len(content), bytearray()
    while size > 127:
        found.append(size & 127 | 128)
        size >>= 7
    return bytes(found) + bytes([size])


@pytest.mark.parametrize(
    ("type_", "field", "bits", "want"),
    [
        ("Int8", INT, 0xFF, -1),
        ("Int8", INT, 0xFFFFFFFF, -1),
        ("Int8", INT, 0x80, -128),
        ("Int8", INT, 0xFFFFFF80, -128),
        ("Int8", INT, 0x7F, 127),
        ("Int8", INT, 0x100, None),
        ("Int8", INT, 0xFFFFFF7F, None),
        ("Int16", INT, 0xFFFF, -1),
        ("Int16", INT, 0x1FFFF, None),
        ("Int32", LONG, 0xFFFFFFFF, -1),
        ("Int32", LONG, 0xFFFFFFFFFFFFFFFF, -1),
        ("Int64", LONG, 2**63, -(2**63)),
        ("Int64", INT, 7, 7),
        ("UInt8", INT, 255, 255),
        ("UInt8", INT, 256, None),
        ("UInt32", LONG, 2**32, None),
        ("Double", INT, 7, None),
        ("Boolean", INT, 1, None),
        ("String", DOUBLE, 1.0, None),
    ],
)
def test_bits_that_do_not_fit_the_datatype_are_refused(type_: str, field: int, bits: Any, want: int | None) -> None:
    """Signed integers come as two's complement with zeros or signs above; nothing else is bent into a number."""
    datatype = datatypes.NAMES.index(type_)
    if want is None:
        with pytest.raises(ValueError, match=type_):
            datatypes.convert(datatype, field, bits)
    else:
        assert datatypes.convert(datatype, field, bits) == want


@pytest.mark.parametrize(
    ("type_", "data", "want"),
    [
        ("Int8Array", b"\xef\x7b", [-17, 123]),
        ("Int16Array", struct.pack("<3h", -1, 0, 300), [-1, 0, 300]),
        ("UInt64Array", struct.pack("<Q", 2**64 - 1), [2**64 - 1]),
        ("DoubleArray", struct.pack("<2d", 0.1, math.inf), [0.1, None]),
        ("BooleanArray", bytes([12, 0, 0, 0, 0x34, 0xD0]), [c == "1" for c in "001101001101"]),
        ("StringArray", b"ABC\0hello\0", ["ABC", "hello"]),
        ("Int16Array", b"\0\0\0", None),
        ("BooleanArray", b"\xff\xff\xff\xff\0", None),
        ("StringArray", b"ABC", None),
        ("PropertySet", b"", None),
    ],
)
def test_arrays_are_packed_little_endian(type_: str, data: bytes, want: list[object] | None) -> None:
    """As the specification's own examples write them; a length that does not fit is refused."""
    datatype = datatypes.NAMES.index(type_)
    if want is None:
        with pytest.raises(ValueError, match=type_[-5:]):
            datatypes.convert(datatype, BYTES, data)
    else:
        assert datatypes.convert(datatype, BYTES, data) == want
    assert datatypes.convert(datatypes.NAMES.index("UUID"), STRING, "x") == "x"
