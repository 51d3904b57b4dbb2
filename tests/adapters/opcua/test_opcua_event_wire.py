"""Event notifications from bytes: what the library gives, to the 100 ns, and nothing for cut bytes."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from asyncua.ua.uaerrors import UaStructParsingError
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua import event_filter, event_wire
from adapters.opcua.decode import Stamp
from adapters.opcua.event_options import EventOptions
from adapters.opcua.faults import DECODE_ERRORS

TEXT = st.none() | st.text(max_size=12)
NODES = st.one_of(
    st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.text(min_size=1, max_size=8), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.uuids(), st.integers(0, 65535)),
)
T = ua.VariantType
SCALARS: list[tuple[ua.VariantType, st.SearchStrategy[Any]]] = [
    (T.Null, st.none()),
    (T.Boolean, st.booleans()),
    (T.UInt16, st.integers(0, 65535)),
    (T.Int64, st.integers(-(2**63), 2**63 - 1)),
    (T.Double, st.floats(allow_nan=False)),
    (T.String, TEXT),
    (T.DateTime, st.integers(86400, 7 * 10**9).map(lambda s: datetime.fromtimestamp(s, UTC))),
    (T.Guid, st.uuids()),
    (T.ByteString, st.none() | st.binary(max_size=20)),
    (T.NodeId, NODES),
    (T.StatusCode, st.builds(ua.StatusCode, st.sampled_from([0, 0x80340000, 0x40000000]))),
    (T.QualifiedName, st.builds(ua.QualifiedName, st.text(max_size=8), st.integers(0, 32767))),
    (T.LocalizedText, st.builds(ua.LocalizedText, TEXT, TEXT)),
]
SCALAR_ONLY = (T.Null, T.String, T.ByteString)
VARIANTS = st.one_of(
    *(
        st.builds(ua.Variant, values if kind in SCALAR_ONLY else values | st.lists(values, max_size=3), st.just(kind))
        for kind, values in SCALARS
    )
)
LISTS = st.lists(st.builds(ua.EventFieldList, st.integers(0, 2**32 - 1), st.lists(VARIANTS, max_size=5)), max_size=4)


@given(LISTS)
def test_ours_and_the_librarys_are_one(events: list[ua.EventFieldList]) -> None:
    """Handles, types and values; of times ours keeps more, and never less."""
    body = struct_to_binary(ua.EventNotificationList(events))
    theirs = event_wire.of_objects(struct_from_binary(ua.EventNotificationList, Buffer(body)))
    ours = event_wire.event_list(body)
    assert [(one.handle, one.fields) for one in ours.events] == [(one.handle, one.fields) for one in theirs.events]
    assert b"".join(one.raw for one in ours.events) == body[4:]


def test_a_time_keeps_its_100_ns() -> None:
    """Negative control: the library's has lost them."""
    ticks = 134_000_000_000_000_007
    body = struct.pack("<iIiBq", 1, 0, 1, 13, ticks)
    [ours] = event_wire.event_list(body).events
    [theirs] = event_wire.of_objects(struct_from_binary(ua.EventNotificationList, Buffer(body))).events
    assert isinstance(ours.fields[0].Value, Stamp)
    assert ours.fields[0].Value.ns % 1000 == 700
    assert theirs.fields[0].Value.microsecond == ours.fields[0].Value.microsecond
    assert not isinstance(theirs.fields[0].Value, Stamp)


@given(LISTS.filter(len), st.integers(0, 400))
def test_cut_bytes_are_refused(events: list[ua.EventFieldList], at: int) -> None:
    """Every shorter prefix raises what a decoder may raise."""
    body = struct_to_binary(ua.EventNotificationList(events))
    with pytest.raises(DECODE_ERRORS):
        event_wire.event_list(body[: at % len(body)])


def test_a_field_that_cannot_be_decoded_is_null_and_named() -> None:
    """Its neighbours are what they were; a type that the standard does not have cannot be measured, and is refused."""
    number = struct.pack("<Bi", 6, 5)
    poison = b"\x16\x01\x00" + struct.pack("<HBi", 886, 1, 1) + b"\x07"
    body = struct.pack("<iIi", 2, 0, 3) + number + poison + poison + struct.pack("<Ii", 1, 1) + number
    spoilt, sound = event_wire.event_list(body).events
    assert [field.Value for field in spoilt.fields] == [5, None, None]
    assert spoilt.poison is not None
    assert spoilt.poison.place == 1
    assert spoilt.raw == struct.pack("<Ii", 0, 3) + number + poison + poison
    assert (sound.handle, [field.Value for field in sound.fields], sound.poison) == (1, [5], None)
    with pytest.raises(UaStructParsingError, match="type 40"):
        event_wire.event_list(struct.pack("<iIi", 1, 0, 1) + b"\x28abc")


def test_a_count_without_events_ends_at_once() -> None:
    """A length that promises four billion fields costs nothing."""
    with pytest.raises(UaStructParsingError, match="ends within an event"):
        event_wire.event_list(struct.pack("<iIi", 1, 0, 2**31 - 1))


# the filter


def _where(*types: str, severity: int = 1) -> list[tuple[str, list[str]]]:
    options = EventOptions(types=types or ("i=2041",), severity=severity)
    asked = event_filter.where(event_filter.types_there(options, ["", "urn:a"]), severity)
    return [
        (
            element.FilterOperator.name,
            [
                f"#{operand.Index}"
                if isinstance(operand, ua.ElementOperand)
                else str(getattr(operand, "Value", None) and operand.Value.Value)
                for operand in element.FilterOperands
            ],
        )
        for element in (asked.Elements if asked is not None else [])
    ]


def test_the_condition_refers_to_later_elements_only() -> None:
    """The root comes first; a type that the server does not have is left out."""
    assert _where() == []
    assert [name for name, _ in _where(severity=5)] == ["GreaterThanOrEqual"]
    assert [name for name, _ in _where("i=2782", "nsu=urn:gone;i=1")] == ["OfType"]
    every = _where("i=2782", "i=2132", "nsu=urn:a;s=x", severity=5)
    assert [name for name, _ in every] == ["And", "Or", "Or", "OfType", "OfType", "OfType", "GreaterThanOrEqual"]
    for place, (_, operands) in enumerate(every):
        assert all(int(operand[1:]) > place for operand in operands if operand.startswith("#"))
    assert _where("ns=0;i=2041", "i=2782") == []


def test_the_standards_fields_are_asked_for_by_their_types() -> None:
    """The ConditionId is the condition's own node, not a field; a configured field belongs to the one type."""
    options = EventOptions(types=("nsu=urn:a;s=Kind",), fields=("nsu=urn:a;Batch/0:Id", "nsu=urn:gone;X", "2:Y"))
    found = {clause.name: clause.operand for clause in event_filter.clauses(options, ["", "urn:a"])}
    identity = found["ConditionId"]
    assert identity is not None
    assert (identity.AttributeId, identity.BrowsePath) == (ua.AttributeIds.NodeId, [])
    assert identity.TypeDefinitionId == ua.NodeId(ua.ObjectIds.ConditionType)
    batch, y = found["nsu=urn:a;Batch/0:Id"], found["2:Y"]
    assert batch is not None
    assert y is not None
    assert batch.TypeDefinitionId == ua.NodeId("Kind", 1)
    assert batch.BrowsePath == [ua.QualifiedName("Batch", 1), ua.QualifiedName("Id", 0)]
    assert y.BrowsePath == [ua.QualifiedName("Y", 2)]
    assert found["nsu=urn:gone;X"] is None
