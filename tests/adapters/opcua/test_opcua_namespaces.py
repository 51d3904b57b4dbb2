"""Addresses by namespace index: told when the map is checked, and refused where the index means another namespace."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from adapters.base import REGISTRY
from adapters.opcua import OpcUaOptions
from adapters.opcua.namespaces import NamespaceMemory
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import GapCause
from schemas.tagmap import Tag
from simulators.opcua_server import NodeSpec, OpcUaServer

ARRAY = ["http://opcfoundation.org/UA/", "urn:server", "urn:line", "urn:cell"]
LATE = "nsu=urn:freeopcua:python:server;s=N"
SWAPPED = [ARRAY[0], ARRAY[1], ARRAY[3], ARRAY[2]]


async def _swap(server: OpcUaServer, *before: str) -> None:
    """Start again with these namespaces before ours; in index 2 is always a node N."""
    await server.stop()
    server.namespaces_before = before
    await server.start()
    assert server._server is not None
    if before:
        await server._server.nodes.objects.add_variable(ua.NodeId("N", 2), "N", 4711.0)


def _codes(taken: Any, tag: int) -> set[int]:
    return {row.status for batch in taken.batches for row in batch.rows() if row.tag == tag}


@pytest.mark.parametrize("read", ["subscribe", "cyclic"])
async def test_a_node_of_another_namespace_is_never_read(make_adapter, take, crash, read, tmp_path) -> None:
    """After a restart with another order its tag is Bad with the reason, beside one by URI that flows on."""
    tags = [
        Tag(number=n, id=f"t{n}", path=f"A/B/{n}", source="cell", address=address, scan_ms=50)
        for n, address in enumerate(("ns=2;s=N", "nsu=urn:example:cell;s=N", "i=2258"))
    ]
    nodes, ticks = {"N": NodeSpec("Int32")}, iter(range(10**9))
    async with OpcUaServer(
        lambda: {"N": next(ticks)}, nodes, namespace="urn:example:cell", port=0, period_s=0.02
    ) as server:
        assert server.namespace_index == 2
        adapter = make_adapter(server.endpoint, tags, read=read)
        await adapter.connect()
        assert adapter.facts["namespaces"] == "as before"
        await take(adapter, lambda t: len(t.values(0)) >= 3 and len(t.values(2)) >= 1)
        await _swap(server, "urn:example:other")
        with pytest.raises(NotConnected):
            await take(adapter, lambda t: False)
        for again in (adapter, make_adapter(server.endpoint, tags, read=read)):
            await again.connect()
            taken = await take(again, lambda t: len(t.values(1)) >= 5 and bool(t.gaps))
            assert _codes(taken, 0) == {status.BAD_CONFIGURATION_ERROR}
            [gap] = [one for one in taken.gaps if one.cause is GapCause.SERVER_REFUSED]
            assert gap.tags == (0,)
            assert "ns=2 was urn:example:cell and is urn:example:other" in gap.detail
            assert "nsu=" in again.facts["namespaces"]
            await crash(again)
        (tmp_path / "state" / "namespaces.json").unlink()  # a person says that the other namespace is meant
        accepted = make_adapter(server.endpoint, tags, read=read)
        await accepted.connect()
        assert (await take(accepted, lambda t: bool(t.values(0)))).values(0) == [4711.0]


async def _start_late(server: OpcUaServer) -> None:
    """Start again without our namespace; the nodes are at index 1, as :data:`LATE`."""
    uri, server.namespace = server.namespace, "urn:freeopcua:python:server"
    await server.stop()
    await server.start()
    server.namespace = uri
    assert server.namespace_index == 1


async def _register(server: OpcUaServer, uri: str, value: float) -> None:
    """Register a namespace at index 2 while the server runs, with a node N."""
    assert server._server is not None
    assert await server._server.register_namespace(uri) == 2
    await server._server.nodes.objects.add_variable(ua.NodeId("N", 2), "N", value)


@pytest.mark.parametrize("read", ["subscribe", "cyclic"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "first"])
async def test_a_namespace_that_is_registered_late_is_waited_for(make_adapter, take, read, known, tmp_path) -> None:
    """Until then its tags are BadNodeIdUnknown, by index and by URI; nothing of another namespace is read."""
    tags = [
        Tag(number=n, id=f"t{n}", path=f"A/B/{n}", source="cell", address=address, scan_ms=50)
        for n, address in enumerate(("ns=2;s=N", "nsu=urn:example:cell;s=N", LATE))
    ]
    retry, file = {"invalid_node": "200ms", "bad_node": "200ms"}, tmp_path / "state" / "namespaces.json"
    ticks = iter(range(10**9))
    async with OpcUaServer(
        lambda: {"N": next(ticks)}, {"N": NodeSpec()}, namespace="urn:example:cell", port=0, period_s=0.02
    ) as server:
        adapter = make_adapter(server.endpoint, tags, read=read, retry=retry)
        if known:
            await adapter.connect()
            await take(adapter, lambda t: bool(t.values(0)) and bool(t.values(1)))
        await _start_late(server)
        await adapter.connect()
        taken = await take(adapter, lambda t: len(t.values(2)) >= 10 and bool(_codes(t, 0)))
        assert _codes(taken, 0) == _codes(taken, 1) == {status.BAD_NODE_ID_UNKNOWN}
        assert ("ns=2 was urn:example:cell and is not there" in adapter.facts["namespaces"]) is known
        await _register(server, "urn:example:cell", 7.0)
        taken = await take(adapter, lambda t: bool(t.values(0)) and bool(t.values(1)) and t.values(2)[2:])
        assert taken.values(0) == taken.values(1) == [7.0]
        assert adapter.facts["namespaces"] == "as before"
        assert (adapter.facts["items"], adapter.facts["refused"]) == ("3 of 3 watched", "none")
    assert json.loads(file.read_text())["indices"] == {"2": "urn:example:cell"}


@pytest.mark.parametrize("read", ["subscribe", "cyclic"])
async def test_another_namespace_that_comes_late_is_not_read(make_adapter, take, read) -> None:
    """It takes the place that was empty."""
    tags = [
        Tag(number=n, id=f"t{n}", path=f"A/B/{n}", source="cell", address=address, scan_ms=50)
        for n, address in enumerate(("ns=2;s=N", LATE))
    ]
    ticks = iter(range(10**9))
    async with OpcUaServer(
        lambda: {"N": next(ticks)}, {"N": NodeSpec()}, namespace="urn:example:cell", port=0, period_s=0.02
    ) as server:
        adapter = make_adapter(server.endpoint, tags, read=read, retry={"invalid_node": "200ms", "bad_node": "200ms"})
        await adapter.connect()
        await take(adapter, lambda t: bool(t.values(0)))
        await _start_late(server)
        await adapter.connect()
        await _register(server, "urn:example:other", 4711.0)
        taken = await take(adapter, lambda t: "and is urn:example:other" in adapter.facts["namespaces"] and t.batches)
        assert not taken.values(0)
        assert not (await take(adapter, lambda t: len(t.values(1)) >= 10)).values(0)
        assert "A/B/0: BadConfigurationError" in adapter.facts["refused"]


def test_what_was_there_first_counts(tmp_path: Path) -> None:
    """Only indices that an address uses; over restarts; anew for another endpoint; namespace 0 never moves."""
    counters: Counter[str] = Counter()

    def memory(endpoint: str = "opc.tcp://a:1/", indices: tuple[int, ...] = (0, 2, 9)) -> NamespaceMemory:
        one = NamespaceMemory(tmp_path, endpoint, indices, counters)
        one.load()
        return one

    first = memory()
    assert first.moved(ARRAY) == set()
    first.keep(ARRAY)
    assert json.loads((tmp_path / "namespaces.json").read_text())["indices"] == {"2": "urn:line"}
    assert memory().moved(ARRAY) == memory().moved([*ARRAY, "urn:new"]) == set()
    assert memory().moved(SWAPPED) == memory().absent(ARRAY[:2]) == {2}
    assert memory().absent(SWAPPED) == memory().moved(ARRAY[:2]) == set()
    assert "ns=2 was urn:line and is urn:cell" in memory().fact(SWAPPED)
    assert "ns=2 was urn:line and is not there" in memory().fact(ARRAY[:2])
    assert not memory().doubt(ARRAY[:2])
    late = memory()
    late.keep(ARRAY[:2])  # nothing stands there, and nothing is remembered in its place
    assert late.moved(ARRAY) == late.absent(ARRAY) == set()
    assert memory(indices=(3,)).moved(SWAPPED) == set()
    other = memory(endpoint="opc.tcp://b:1/")
    other.keep(SWAPPED)
    assert other.moved(SWAPPED) == set()
    assert not counters


def test_a_file_that_is_damaged_or_cannot_be_written_is_counted(tmp_path: Path) -> None:
    """What is in memory stands for it."""
    counters: Counter[str] = Counter()
    (tmp_path / "namespaces.json").write_text("[]")
    one = NamespaceMemory(tmp_path, "e", {2}, counters)
    one.load()
    assert counters["state_unsaved"] == 1
    one.keep(ARRAY)
    (tmp_path / "namespaces.json").write_text("{")
    one.load()
    assert one.moved(SWAPPED) == {2}
    lost = NamespaceMemory(tmp_path / "nowhere", "e", {2}, counters)
    lost.load()
    lost.keep(ARRAY)
    lost.load()
    assert lost.moved(SWAPPED) == {2}
    assert counters["state_unsaved"] == 3


@pytest.mark.parametrize(("address", "told"), [("ns=2;s=A", True), ("ns=0;i=2258", False), ("i=2258", False),
                                               ("nsu=urn:x;s=ns=2;s=A", False)])  # fmt: skip
def test_an_index_is_told_when_the_map_is_checked(address: str, told: bool) -> None:
    """A warning that names the other form; it is no error."""
    options = OpcUaOptions(endpoint="opc.tcp://127.0.0.1/", security="None")
    tag = Tag(number=0, id="t", path="A/B", source="s", address=address)
    spec = REGISTRY["opcua"]
    assert spec.check_tag(options, tag) is None
    assert ("nsu=" in (spec.doubt_tag(options, tag) or "")) is told
