"""
What every adapter does, shown on each registered kind against a real peer.

docs/adapter-spec.md lists the rules; each names its test here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from adapters.base import REGISTRY, Adapter
from schemas.errors import NotConnected
from schemas.samples import Delivery, Gap, Sample
from schemas.status import Flag, Quality, quality
from tests.contract.peers import PEERS, SIGNALS, Peer

Make = Callable[[], Adapter]
NAMES = list(SIGNALS)
WITHIN_S = 60.0
_CLIENT_SIDE = ("/adapters/", "/asyncua/client/", "/pymodbus/client/", "/pymodbus/transport/")


async def _read(adapter: Adapter) -> Delivery | Gap:
    return await asyncio.wait_for(adapter.read(), WITHIN_S)


async def _rows(adapter: Adapter, enough: Callable[[list[Sample]], bool] = bool) -> list[Sample]:
    """Read and settle until the rows are enough; gaps are passed over."""
    rows: list[Sample] = []
    loop = asyncio.get_running_loop()
    end = loop.time() + WITHIN_S
    while not enough(rows):
        assert loop.time() < end, f"only {rows[-5:]} within {WITHIN_S} s"
        item = await _read(adapter)
        if isinstance(item, Delivery):
            item.batch.check()
            rows += item.batch.rows()
            await item.settle()
    return rows


def _every_tag(rows: list[Sample]) -> bool:
    return {row.tag for row in rows} == set(range(len(NAMES)))


async def test_connects_and_delivers(peer: Peer, make: Make) -> None:
    """After connect the first batch comes, with this source's name, map revision and tag numbers."""
    await peer.start()
    adapter = make()
    await adapter.connect()
    item = await _read(adapter)
    while not isinstance(item, Delivery) or not len(item.batch):
        item = await _read(adapter)

    await item.settle()
    item.batch.check()
    assert item.batch.source == "peer"
    assert item.batch.map_revision == b"m" * 16
    assert set(item.batch.tag.tolist()) <= set(range(len(NAMES)))
    assert abs(item.batch.received_ns - time.time_ns()) < 60 * 10**9


async def test_preserves_value_type_time_and_status(peer: Peer, make: Make) -> None:
    """Every row is what the peer said at the row's source time; without a time in the protocol it is flagged."""
    await peer.start()
    adapter = make()
    await adapter.connect()
    rows = await _rows(adapter, lambda found: _every_tag(found) and len(found) > 30)

    compared = 0
    for row in rows:
        name = NAMES[row.tag]
        if quality(row.status) is not Quality.GOOD:
            continue
        if peer.timed:
            assert not row.flags & Flag.ARRIVAL_TIME
            said = [peer.said[row.source_ns][name]]
        else:
            assert row.flags & Flag.ARRIVAL_TIME
            said = [state[name] for state in peer.said.values()]
        assert isinstance(row.value, str) == isinstance(said[0], str)
        assert row.value in said
        compared += 1
    assert compared > 20


async def test_arrival_times_increase(peer: Peer, make: Make) -> None:
    """Source times that are times of arrival increase strictly over all batches of the source."""
    await peer.start()
    adapter = make()
    await adapter.connect()
    rows = await _rows(adapter, lambda found: len(found) > 40)

    times = [row.source_ns for row in rows if row.flags & Flag.ARRIVAL_TIME]
    assert all(before < after for before, after in itertools.pairwise(times))
    assert bool(times) is not peer.timed


async def test_bad_status_is_data(peer: Peer, make: Make) -> None:
    """A sensor without a value becomes rows with a bad status and no number, and the other tags go on."""
    await peer.start()
    adapter = make()
    await adapter.connect()
    sensor = NAMES.index("sensor")

    def both(rows: list[Sample]) -> bool:
        found = {quality(row.status) for row in rows if row.tag == sensor}
        return {Quality.BAD, Quality.GOOD} <= found

    rows = await _rows(adapter, both)

    assert all(
        isinstance(row.value, float) and math.isnan(row.value) for row in rows if quality(row.status) is Quality.BAD
    )
    assert all(quality(row.status) is Quality.GOOD for row in rows if row.tag == NAMES.index("level"))


async def test_connect_is_repeatable(peer: Peer, make: Make) -> None:
    """A second connect, without close, works and delivers."""
    await peer.start()
    adapter = make()
    await adapter.connect()
    await _rows(adapter)
    await adapter.connect()

    assert await _rows(adapter)


async def test_peer_down_at_start(peer: Peer, make: Make) -> None:
    """Without a peer connect raises NotConnected with a text, in time; when the peer comes, connect works."""
    adapter = make()
    with pytest.raises(NotConnected) as error:
        await asyncio.wait_for(adapter.connect(), WITHIN_S)
    assert len(str(error.value)) > 10

    await peer.start()
    await adapter.connect()
    assert await _rows(adapter)


async def test_peer_dies_during_read_and_comes_back(peer: Peer, make: Make) -> None:
    """A peer that goes away ends the read with NotConnected; connect finds it again and reading goes on."""
    if not peer.mortal:
        pytest.skip(f"a peer of kind {peer.kind} cannot go away while it is read")
    await peer.start()
    adapter = make()
    await adapter.connect()
    await _rows(adapter)
    await peer.stop()
    with pytest.raises(NotConnected) as error:
        await _rows(adapter, lambda _: False)
    assert len(str(error.value)) > 10

    await peer.start()
    back_ns = time.time_ns()
    await adapter.connect()
    rows = await _rows(adapter, lambda found: any(row.source_ns > back_ns for row in found))
    assert rows


async def test_a_refused_delivery_is_not_acknowledged(peer: Peer, make: Make) -> None:
    """After ``settle(error)`` the adapter reconnects; peers that keep what is unacknowledged deliver it again."""
    await peer.start()
    adapter = make()
    await adapter.connect()
    item = await _read(adapter)
    while not isinstance(item, Delivery) or not len(item.batch):
        item = await _read(adapter)
    await item.settle(OSError("disk full"))
    wanted = {(row.tag, row.source_ns) for row in item.batch.rows()}
    with contextlib.suppress(NotConnected):
        await _rows(adapter, lambda _: not peer.repeats)
    await adapter.connect()

    def again(rows: list[Sample]) -> bool:
        return not peer.repeats or wanted <= {(row.tag, row.source_ns) for row in rows}

    await _rows(adapter, lambda rows: bool(rows) and again(rows))


async def test_close_without_connect(make: Make) -> None:
    """Close is harmless before connect, and after a connect that failed."""
    await make().close()
    adapter = make()
    with contextlib.suppress(NotConnected):
        await asyncio.wait_for(adapter.connect(), WITHIN_S)
    await adapter.close()


async def test_close_after_the_peer_died(peer: Peer, make: Make) -> None:
    """Close returns in time and does not raise when the peer is gone."""
    await peer.start()
    adapter = make()
    await adapter.connect()
    await _rows(adapter)
    await peer.stop()
    await asyncio.wait_for(adapter.close(), WITHIN_S)


async def test_cancellation_leaves_nothing(peer: Peer, make: Make, eventually: Callable[..., Awaitable[None]]) -> None:
    """A cancelled connect or read, then close, leaves no task, no thread and no socket to the peer."""
    await peer.start()
    sockets = _sockets(peer.port)
    adapter = make()
    connecting = asyncio.create_task(adapter.connect())
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait([connecting])
    await adapter.connect()
    await _rows(adapter)
    reading = asyncio.create_task(_rows(adapter, lambda _: False))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await asyncio.wait_for(adapter.close(), WITHIN_S)

    await eventually(lambda: _tasks() == [] and _threads() == [] and _sockets(peer.port) <= sockets)


def _tasks() -> list[str]:
    """Running tasks whose code belongs to an adapter or to the client half of a protocol library."""
    files = [task.get_coro().cr_code.co_filename for task in asyncio.all_tasks() if not task.done()]  # type: ignore[union-attr]
    return [name for name in files if any(part in name for part in _CLIENT_SIDE)]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("paho-mqtt-client-fairlead")]


def _sockets(port: int) -> set[int]:
    """Local ports of this process's open connections to the peer."""
    connections = psutil.Process().net_connections("tcp")
    return {c.laddr.port for c in connections if c.raddr and c.raddr.port == port and c.status == "ESTABLISHED"}


async def test_counters_and_facts(peer: Peer, make: Make) -> None:
    """Counters are whole numbers that only grow, over reconnects too; facts are texts."""
    await peer.start()
    adapter = make()
    await adapter.connect()
    await _rows(adapter)
    before = dict(adapter.counters)
    await adapter.connect()
    await _rows(adapter)

    assert all(isinstance(count, int) and count >= before.get(name, 0) for name, count in adapter.counters.items())
    assert set(before) <= set(adapter.counters)
    assert all(isinstance(text, str) for text in adapter.facts.values())


def _nodes(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [schema, *schema.get("$defs", {}).values()]
    return [(name, node) for model in found for name, node in model.get("properties", {}).items()]


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_option_has_a_description(kind: str) -> None:
    """The description of each option is the reference, the sample file and the error message."""
    undescribed = [
        name
        for name, node in _nodes(REGISTRY[kind].options.model_json_schema())
        if not node.get("description") and name != "kind"
    ]
    assert undescribed == []


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_kind_has_a_peer(kind: str) -> None:
    """A kind joins the contract tests by adding its peer."""
    assert kind in PEERS


async def test_tags_are_checked_before_anything_runs(peer: Peer) -> None:
    """The check of the map accepts the peer's tags and says what is wrong with an address that cannot be."""
    spec = REGISTRY[peer.kind]
    options = spec.options.model_validate(peer.options())
    assert [spec.check_tag(options, tag) for tag in peer.tags()] == [None] * len(NAMES)

    wrong = spec.check_tag(options, peer.tags()[0].model_copy(update={"address": ""}))
    assert wrong


def test_building_does_no_io(peer: Peer, make: Make) -> None:
    """An adapter is built without an event loop and without a peer."""
    adapter = make()
    assert adapter.counters is not None
