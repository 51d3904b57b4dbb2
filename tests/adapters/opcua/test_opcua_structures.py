"""Structures as named fields, by what the server tells of them; what does not fit stays as it came."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

from adapters.opcua.structures import Structures
from simulators.opcua_server import OpcUaServer

_SPEED, _NAME = struct.pack("<d", 1500.5), struct.pack("<i", 2) + b"M1"
_CODES = struct.pack("<iii", 2, 7, 9)
_MOTOR = _SPEED + _NAME + _CODES + struct.pack("<i", 1)


@pytest.fixture
def add(server: OpcUaServer) -> Callable[..., Any]:
    """``add(name, fields, body)``: a structure type, and a variable ``name`` that holds the body. Gives the type."""

    async def make(name: str, fields: list[Any], body: bytes, *, is_union: bool = False) -> ua.NodeId:
        opc = server._server
        assert opc is not None
        index = server.namespace_index
        kind, encodings = await new_struct(opc, index, f"{name}Type", fields, is_union=is_union)
        value = ua.ExtensionObject(TypeId=encodings[0].nodeid, Body=body)
        node_id = ua.NodeId(name, index)
        variant = ua.Variant(value, ua.VariantType.ExtensionObject)
        await opc.nodes.objects.add_variable(node_id, name, variant, datatype=kind.nodeid)
        return kind.nodeid

    return make


def _field(name: str, kind: Any, **more: Any) -> Any:
    return new_struct_field(name, kind, **more)


async def test_a_structure_has_names(server, add, make_tags, make_adapter, take) -> None:
    """Numbers, texts, arrays, an enumeration, a structure in a structure, an optional field that is not there."""
    mode = await new_enum(server._server, server.namespace_index, "Mode", ["Off", "On"])
    motor = await add(
        "Motor",
        [
            _field("Speed", ua.VariantType.Double),
            _field("Name", ua.VariantType.String),
            _field("Codes", ua.VariantType.Int32, array=True),
            _field("Mode", mode),
        ],
        _MOTOR,
    )
    await add(
        "Pump",
        [
            _field("Flow", ua.VariantType.Float, optional=True),
            _field("Load", ua.VariantType.Int16, optional=True),
            _field("Drive", server._server.get_node(motor)),
        ],
        struct.pack("<Ih", 0b10, -5) + _MOTOR,
    )
    named = {"Speed": 1500.5, "Name": "M1", "Codes": [7, 9], "Mode": 1}
    adapter = make_adapter(server.endpoint, make_tags("Motor", "Pump", "N"))
    await adapter.connect()
    assert adapter.facts["structures"] == "2 described"
    taken = await take(adapter, lambda t: bool(t.values(0)) and bool(t.values(1)))
    assert taken.values(0) == [named]
    assert taken.values(1) == [{"Load": -5, "Drive": named}]


async def test_a_union_has_the_field_it_holds(server, add, make_tags, make_adapter, take) -> None:
    """The switch chooses one field; none is an empty structure."""
    fields = [_field("Count", ua.VariantType.UInt32), _field("Text", ua.VariantType.String)]
    await add("Either", fields, struct.pack("<I", 2) + _NAME, is_union=True)
    await add("Neither", fields, struct.pack("<I", 0), is_union=True)
    adapter = make_adapter(server.endpoint, make_tags("Either", "Neither"))
    await adapter.connect()
    taken = await take(adapter, lambda t: bool(t.values(0)) and bool(t.values(1)))
    assert (taken.values(0), taken.values(1)) == ([{"Text": "M1"}], [{}])


@pytest.mark.parametrize(
    "body", [_SPEED[:-1], _SPEED + b"\0", b"", struct.pack("<d", 1.0) * 2], ids=["short", "long", "empty", "twice"]
)
async def test_a_body_that_does_not_fit_stays_raw(server, add, make_tags, make_adapter, take, body) -> None:
    """No field is guessed; the bytes are kept for a person, and the other tags are not touched."""
    name = f"Odd{len(body)}"
    await add(name, [_field("Speed", ua.VariantType.Double)], body)
    adapter = make_adapter(server.endpoint, make_tags(name, "N"))
    await adapter.connect()
    taken = await take(adapter, lambda t: bool(t.values(0)) and len(t.values(1)) >= 3)
    [value] = taken.values(0)
    assert value["body"] == body
    assert value.keys() == {"type", "body"}


def test_nothing_learnt_changes_nothing() -> None:
    """Without descriptions every exact value stays as it is."""
    exact: dict[int, Any] = {0: {"type": "ns=2;i=1", "body": b"x"}, 1: "text", 2: [1, 2]}
    before = dict(exact)
    Structures().name(exact)
    assert exact == before
