"""The simulated OPC UA server, read with asyncua's own client."""

from __future__ import annotations

import pytest
from asyncua import Client, ua

from simulators import SignalValue
from simulators.opcua_server import NodeSpec, OpcUaServer

URI = "urn:example:cell"


async def _data(client: Client, name: str) -> ua.DataValue:
    index = await client.get_namespace_index(URI)
    return await client.get_node(ua.NodeId(name, index)).read_data_value(raise_on_bad_status=False)


async def test_values_follow_the_signals() -> None:
    """A value is served in its declared type with the tick as source time, a None as BadSensorFailure."""
    values: dict[str, SignalValue] = {"Count": 2**40, "Temp": 1.5, "Run": True, "Text": "ä", "Dead": None}
    types = {"Count": "UInt64", "Temp": "Float", "Run": "Boolean", "Text": "String", "Dead": "Double"}
    nodes = {name: NodeSpec(word) for name, word in types.items()}
    server = OpcUaServer(lambda: values, nodes, namespace=URI, now_ns=lambda: 1_700_000_000_123_456_000)
    async with server, Client(server.endpoint) as client:
        for name in ("Count", "Temp", "Run", "Text"):
            got = await _data(client, name)
            assert got.Value.Value == values[name]
            assert got.Value.VariantType.name == types[name]
            assert got.SourceTimestamp.timestamp() == pytest.approx(1_700_000_000.123456, abs=1e-6)
        dead = await _data(client, "Dead")
        assert dead.StatusCode.value == ua.StatusCodes.BadSensorFailure


async def test_restart_keeps_the_port_and_may_shift_the_namespace(eventually) -> None:
    """Stopped and started again, the server listens on the same port; namespaces put before shift the index."""
    ticks = iter(range(10**6))
    server = OpcUaServer(lambda: {"N": next(ticks)}, {"N": NodeSpec("Int32")}, namespace=URI, period_s=0.01)
    await server.start()
    first, endpoint = server.namespace_index, server.endpoint
    await server.stop()
    server.namespaces_before = ("urn:example:other",)
    await server.start()
    try:
        assert server.endpoint == endpoint
        assert server.namespace_index == first + 1
        async with Client(endpoint) as client:
            before = (await _data(client, "N")).Value.Value
            after = before
            while after == before:
                after = (await _data(client, "N")).Value.Value
            assert after > before
    finally:
        await server.stop()


async def test_an_unknown_type_is_refused() -> None:
    """A node specification names an OPC UA variant type."""
    with pytest.raises(ValueError, match="not an OPC UA variant type"):
        _ = NodeSpec("float64").variant_type
