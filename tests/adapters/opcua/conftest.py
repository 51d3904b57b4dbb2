"""Adapters on a state folder of their own, closed at the end; node-opcua as an independent server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from adapters.base import AdapterContext
from adapters.opcua import OpcUaAdapter, OpcUaOptions
from schemas.samples import Gap, SampleBatch
from schemas.tagmap import Tag
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests import node_opcua
from tests.node_opcua import NodeOpcUa

#: asyncua takes a second and more to build a server: one loop and one server serve all tests of this folder.
LOOP: Final = "session"
URI = "urn:example:cell"
REVISION = bytes(range(16))


@pytest.fixture
def make_tags() -> Callable[..., list[Tag]]:
    """Tags numbered from 0 over node names: ``make_tags("A", "B", uri=…, scan_ms=…)``."""

    def make(*names: str, uri: str = URI, scan_ms: int = 50) -> list[Tag]:
        return [
            Tag(number=n, id=f"t{n}", path=f"A/B/{name}", source="cell", address=f"nsu={uri};s={name}", scan_ms=scan_ms)
            for n, name in enumerate(names)
        ]

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the asynchronous tests of this folder on one loop."""
    for item in items:
        if Path(__file__).parent in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope=LOOP), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope=LOOP)
async def server() -> AsyncIterator[OpcUaServer]:
    """`N` counts ticks of 20 ms, `Big` is beyond 2**53, `Still` never changes, `Dead` has no value; for all tests."""
    ticks = iter(range(10**9))
    nodes = {"N": NodeSpec("Int32"), "Big": NodeSpec("UInt64"), "Still": NodeSpec(), "Dead": NodeSpec()}
    values = {"Big": 2**64 - 3, "Still": 1.5, "Dead": None}
    async with OpcUaServer(lambda: {**values, "N": next(ticks)}, nodes, namespace=URI, period_s=0.02) as one:
        yield one


@pytest_asyncio.fixture(loop_scope=LOOP)
async def make_adapter(tmp_path: Path) -> AsyncIterator[Callable[..., OpcUaAdapter]]:
    """An adapter: ``make_adapter(endpoint, tags, **options)``; each gets the same state folder, as after a restart."""
    made: list[OpcUaAdapter] = []
    state = tmp_path / "state"
    state.mkdir()

    def make(endpoint: str, tags: list[Tag], **options: Any) -> OpcUaAdapter:
        asked = {
            "endpoint": endpoint,
            "security": "None",
            "subscription": {"publishing": "100ms", "keep_alive": "5s"},
            **options,
        }
        context = AdapterContext("cell", tuple(tags), REVISION, time.time_ns, state, tmp_path)
        made.append(OpcUaAdapter(OpcUaOptions.model_validate(asked), context))
        return made[-1]

    yield make
    for adapter in made:
        await adapter.close()


@dataclass
class Taken:
    """What an adapter gave until a condition held."""

    batches: list[SampleBatch]
    gaps: list[Gap]

    def values(self, tag: int) -> list[Any]:
        """Good values of one tag in order, repeats of one source time once."""
        seen: dict[int, Any] = {}
        for batch in self.batches:
            for row in batch.rows():
                if row.tag == tag and row.status >> 30 == 0:
                    seen.setdefault(row.source_ns, row.value)
        return list(seen.values())


@pytest.fixture
def take() -> Callable[..., Awaitable[Taken]]:
    """Read and settle until ``enough(taken)``; every batch is checked."""

    async def until(adapter: OpcUaAdapter, enough: Callable[[Taken], bool], within_s: float = 60.0) -> Taken:
        taken = Taken([], [])
        async with asyncio.timeout(within_s):
            while not enough(taken):
                item = await adapter.read()
                if isinstance(item, Gap):
                    taken.gaps.append(item)
                    continue
                item.batch.check()
                taken.batches.append(item.batch)
                await item.settle()
        return taken

    return until


@pytest.fixture
def crash() -> Callable[[OpcUaAdapter], Awaitable[None]]:
    """End an adapter as a kill of the process would: no CloseSession, no acknowledgement, no last write."""

    async def drop(adapter: OpcUaAdapter) -> None:
        await adapter._stop_loop()
        adapter._drop()

    return drop


@pytest.fixture(scope="session")
def peer_folder(shared: Path, need: Callable[[str], str], pytestconfig: pytest.Config) -> Path:
    """node-opcua installed in a copy of the shared peer, kept between runs."""
    need("node")
    cache = os.environ.get("FAIRLEAD_PEER_CACHE") or str(pytestconfig.cache.mkdir("peers"))  # type: ignore[union-attr]
    return node_opcua.install(shared / "peers" / "opcua", need("npm"), Path(cache))


@pytest.fixture(scope="session")
def start_peer(
    peer_folder: Path, need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., NodeOpcUa]]:
    """Start the server: ``start_peer(port, period_ms=500, ns_shift=0)``."""
    running: list[NodeOpcUa] = []
    pki = tmp_path_factory.mktemp("node-opcua-pki")

    def start(port: int, period_ms: int = 500, ns_shift: int = 0) -> NodeOpcUa:
        running.append(node_opcua.start(need("node"), peer_folder, pki, port, period_ms, ns_shift))
        return running[-1]

    yield start
    for peer in running:
        peer.stop()
        if peer.process.stdout is not None:
            peer.process.stdout.close()


@pytest.fixture(scope="session")
def peer(start_peer: Callable[..., NodeOpcUa]) -> NodeOpcUa:
    """One node-opcua server for every test that leaves it alone."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return start_peer(port)
