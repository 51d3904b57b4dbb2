"""A value that cannot be decoded costs itself: a row without a value, a reject with its bytes, and no neighbour."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary
from asyncua.ua.uaerrors import UaStructParsingError
from hypothesis import given
from hypothesis import strategies as st

from adapters.opcua import OpcUaAdapter, extent, wire
from adapters.opcua.columns import Columns, Times
from schemas import status
from schemas.samples import Delivery, Reject
from schemas.tagmap import Tag
from simulators.opcua_server import OpcUaServer

NUMBER = b"\x01\x06" + struct.pack("<i", 5)
#: A Range (i=886) whose two doubles are cut to one byte: known to every decoder, readable by none.
POISON = b"\x01\x16\x01\x00" + struct.pack("<HBi", 886, 1, 1) + b"\x07"


def notification(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", handle) + item for handle, item in enumerate(items))


@pytest.mark.parametrize("count", [1, 40])
def test_the_neighbours_of_a_poisoned_value_are_what_they_were(count: int) -> None:
    """Before, between and behind it, in runs and one by one."""
    items = [*[NUMBER] * count, POISON, *[NUMBER] * count, POISON, NUMBER]
    rows, end = wire.values(notification(*items), 0, len(items), handles=True)
    bad = [count, 2 * count + 1]
    assert end == len(notification(*items))
    assert rows.tag.tolist() == list(range(len(items)))
    assert [int(row) for row in np.flatnonzero(rows.status)] == bad
    assert set(rows.status[bad].tolist()) == {status.BAD_DECODING_ERROR}
    assert np.flatnonzero(np.isnan(rows.value)).tolist() == bad
    assert [(one.tag, one.raw) for one in rows.poison] == [(handle, POISON) for handle in bad]
    assert all("cannot be decoded" in one.reason for one in rows.poison)
    columns = Columns(7, Times())
    columns.add(rows.take(rows.tag != bad[0]))
    [reject] = columns.rejects("s", {bad[1]: "i=5"})
    assert (reject.source, reject.place, reject.raw, reject.received_ns) == ("s", "i=5", POISON, 7)


@pytest.mark.parametrize("dimensions", [(2**27, 0), (2, 2), (-1, -3), (3, 1, 2)])
def test_dimensions_that_do_not_fit_the_elements_are_not_believed(dimensions: tuple[int, ...]) -> None:
    """Twenty bytes must not make a decoder build a hundred million lists; three elements are no matrix of four."""
    count = 0 if 0 in dimensions else 3
    value = b"\x01\xc6" + struct.pack(f"<i{count}i", count, *range(count))
    value += struct.pack(f"<i{len(dimensions)}i", len(dimensions), *dimensions)
    rows, _ = wire.values(notification(NUMBER, value, NUMBER), 0, 3, handles=True)
    assert rows.status.tolist() == [0, status.BAD_DECODING_ERROR, 0]
    assert [one.raw for one in rows.poison] == [value]


def test_a_value_that_nobody_can_measure_spoils_its_message() -> None:
    """Type 40 is not in the standard: where the value ends is not known, and nothing is guessed."""
    with pytest.raises(UaStructParsingError):
        wire.values(notification(NUMBER, b"\x01\x28abc", NUMBER), 0, 3, handles=True)


def _variants() -> st.SearchStrategy[ua.Variant]:
    texts, times = st.none() | st.text(max_size=9), st.just(ua.get_win_epoch())
    node = st.one_of(
        st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 65535)),
        st.builds(ua.NodeId, st.text(max_size=5), st.integers(0, 9)),
    )
    of = {
        "Boolean": st.booleans(),
        "Byte": st.integers(0, 255),
        "Int64": st.integers(-(2**63), 2**63 - 1),
        "Double": st.floats(),
        "String": texts,
        "DateTime": times,
        "Guid": st.uuids(),
        "ByteString": st.binary(max_size=9),
        "NodeId": node,
        "StatusCode": st.builds(ua.StatusCode, st.integers(0, 2**32 - 1)),
        "QualifiedName": st.builds(ua.QualifiedName, st.text(max_size=5), st.integers(0, 9)),
        "LocalizedText": st.builds(ua.LocalizedText, texts, texts),
        "ExtensionObject": st.builds(ua.Range, st.floats(), st.floats()),
    }

    def some(kind: str) -> st.SearchStrategy[ua.Variant]:
        type_ = ua.VariantType[kind]
        one = of[kind].map(lambda value: ua.Variant(value, type_))
        many = st.lists(of[kind], max_size=4).map(lambda values: ua.Variant(values, type_, is_array=True))
        return one | many

    plain = st.sampled_from(sorted(of)).flatmap(some)
    within = plain.map(lambda one: ua.Variant(ua.DataValue(one), ua.VariantType.DataValue))
    return plain | within | plain.map(lambda one: ua.Variant([one, one], ua.VariantType.Variant, is_array=True))


@given(_variants(), st.binary(max_size=4), st.binary(max_size=4))
def test_a_value_ends_where_its_encoder_ended(value: ua.Variant, before: bytes, behind: bytes) -> None:
    """Whatever stands around it; and cut anywhere it is refused."""
    body = bytes(variant_to_binary(value))
    assert extent.variant(before + body + behind, len(before)) == (len(before) + len(body), True)
    with pytest.raises(UaStructParsingError):
        extent.variant(body[:-1], 0)


@given(st.binary(max_size=60))
def test_no_bytes_are_taken_for_more_than_there_are(body: bytes) -> None:
    """Measured within the body, or refused."""
    try:
        assert extent.variant(body, 0)[0] <= len(body)
    except UaStructParsingError:
        return


async def test_a_poisoned_item_costs_no_other(
    server: OpcUaServer,
    make_tags: Callable[..., list[Tag]],
    make_adapter: Callable[..., OpcUaAdapter],
) -> None:
    """A server sends a structure that no decoder can read beside a counter: the counter misses nothing."""
    sound, spoilt = ua.Range(0.0, 1.0), ua.ExtensionObject(TypeId=ua.FourByteNodeId(886), Body=b"\x07")
    assert server._server is not None
    node_id = ua.NodeId("Odd", server.namespace_index)
    await server._server.nodes.objects.add_variable(node_id, "Odd", sound, ua.VariantType.ExtensionObject)
    adapter = make_adapter(server.endpoint, make_tags("N", "Odd"))
    await adapter.connect()
    values: list[int] = []
    odd: list[tuple[int, object]] = []
    rejects: list[Reject] = []
    turns = iter([spoilt, sound, spoilt, sound])
    async with asyncio.timeout(60):
        while len(odd) < 5 or values[-1] < values[0] + 60:
            item = await adapter.read()
            assert isinstance(item, Delivery)
            for row in item.batch.rows():
                if row.tag == 0:
                    values.append(int(row.value))  # type: ignore[arg-type]
                    continue
                odd.append((row.status, row.value))
                if (value := next(turns, None)) is not None:
                    data = ua.DataValue(ua.Variant(value, ua.VariantType.ExtensionObject))
                    await server._server.write_attribute_value(node_id, data)
            rejects += item.rejects
            await item.settle()
    assert values == list(range(values[0], values[-1] + 1))
    codes = [code for code, _ in odd]
    assert codes == [0, status.BAD_DECODING_ERROR, 0, status.BAD_DECODING_ERROR, 0]
    assert [value for code, value in odd if code == 0] == [{"Low": 0.0, "High": 1.0}] * 3
    assert [(one.source, one.place) for one in rejects] == [("cell", "nsu=urn:example:cell;s=Odd")] * 2
    assert all(b"\x01\0\0\0\x07" in one.raw for one in rejects)
    assert (adapter.counters["undecodable"], adapter.counters["undecodable_values"]) == (0, 2)
