"""Nodes that go away while they are watched and come back, and the gaps over what a server does not give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from asyncua import ua

from adapters.base import AdapterContext
from adapters.opcua.handover import Handover
from adapters.opcua.refusals import Refusals
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests import scripted_opcua
from tests.adapters.opcua.conftest import LOOP

PEER: Final = Path(__file__).resolve().parents[2] / "vanishing_peer.js"
URI: Final = "urn:example:vanishing"
SOON: Final = {"invalid_node": "200ms", "bad_node": "200ms"}


@dataclass
class Vanishing:
    """The running server, see ``vanishing_peer.js``."""

    endpoint: str
    process: asyncio.subprocess.Process

    async def say(self, word: str) -> int:
        """Give a command; returns the number of monitored items after it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word.encode() + b"\n")
        async for line in self.process.stdout:
            if line.startswith(b"DONE "):
                return int(line.split()[1])
        raise AssertionError("node-opcua ended")


@pytest_asyncio.fixture(scope="module", loop_scope=LOOP)
async def peer(
    peer_folder: Path, need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Vanishing]:
    """The server on a port of its own; it ends with its standard input."""
    pki = tmp_path_factory.mktemp("pki")
    async with scripted_opcua.serving(need("node"), PEER, peer_folder, pki) as (endpoint, process):
        yield Vanishing(endpoint, process)


def _codes(taken: Any, tag: int) -> list[int]:
    return [row.status for batch in taken.batches for row in batch.rows() if row.tag == tag]


async def test_a_node_that_comes_back_is_watched_again(peer, make_tags, make_adapter, take) -> None:
    """Its item is made anew after retry.invalid_node, the old one given back, and the time between is a gap."""
    adapter = make_adapter(peer.endpoint, make_tags("A", "B", uri=URI), retry=SOON)
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(0)) >= 3 and len(t.values(1)) >= 3)
    assert not taken.gaps
    await peer.say("delete")
    taken = await take(adapter, lambda t: bool(t.gaps) and len(t.values(1)) >= 5)
    assert _codes(taken, 0)[-1] & 0xFFFF0000 in (status.BAD_NODE_ID_INVALID, status.BAD_NODE_ID_UNKNOWN)
    [begun] = taken.gaps
    assert (begun.cause, begun.tags, begun.to_ns) == (GapCause.SERVER_REFUSED, (0,), None)
    assert adapter.facts["items"] == "1 of 2 watched"
    assert "A/B/A: BadNodeId" in adapter.facts["refused"]
    await peer.say("add")
    taken = await take(adapter, lambda t: bool(t.gaps) and len(t.values(0)) >= 5)
    [ended] = taken.gaps
    assert ended.to_ns is not None
    assert replace(ended, to_ns=None) == begun
    assert adapter.facts["items"] == "2 of 2 watched"
    assert (adapter.counters["vanished_items"], adapter.counters["recreated"]) == (1, 1)
    assert adapter.continuity == "lost"  # as the first connect left it
    assert await peer.say("items") == 2


async def test_a_cut_between_does_not_leave_the_old_item_behind(peer, make_tags, make_adapter, take, crash) -> None:
    """What vanished is known over a connection that was lost, and its gap stays open."""
    adapter = make_adapter(peer.endpoint, make_tags("A", "B", uri=URI), retry=SOON)
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    await peer.say("delete")
    await take(adapter, lambda t: bool(t.gaps) and t.batches[-1].received_ns > t.gaps[0].from_ns)
    await crash(adapter)
    await adapter.connect()
    assert adapter.continuity == "kept"
    taken = await take(adapter, lambda t: len(t.values(1)) >= 3)
    assert not taken.gaps
    await peer.say("add")
    taken = await take(adapter, lambda t: bool(t.gaps) and len(t.values(0)) >= 3)
    assert [gap.to_ns is None for gap in taken.gaps] == [False]
    assert adapter.continuity == "kept"
    assert await peer.say("items") == 2


async def _write(server: OpcUaServer, name: str, value: float | None) -> None:
    """A value with a time of its own, so that what comes twice counts once; None: BadNodeIdUnknown."""
    assert server._server is not None
    data = (
        ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown))
        if value is None
        else ua.DataValue(ua.Variant(value), SourceTimestamp=datetime.now(UTC))
    )
    await server._server.write_attribute_value(ua.NodeId(name, server.namespace_index), data)


async def test_an_item_that_goes_on_by_itself_is_watched_again(server, make_tags, make_adapter, take) -> None:
    """A server may keep the item of a node that is gone; it is not made anew while the node is not there."""
    server._last["Own"] = None  # its values come from here
    await server.add("Own", NodeSpec())
    await _write(server, "Own", 1.0)
    adapter = make_adapter(server.endpoint, make_tags("Own", "N"), retry=SOON)
    await adapter.connect()
    await take(adapter, lambda t: bool(t.values(0)))
    await _write(server, "Own", None)
    taken = await take(adapter, lambda t: len(t.values(1)) >= 50)  # a second, in which it is asked for again
    assert _codes(taken, 0) == [status.BAD_NODE_ID_UNKNOWN]
    assert [gap.to_ns for gap in taken.gaps] == [None]
    await _write(server, "Own", 2.0)
    taken = await take(adapter, lambda t: bool(t.gaps) and bool(t.values(0)))
    assert taken.values(0) == [2.0]
    assert taken.gaps[0].to_ns is not None
    assert adapter.facts["refused"] == "none"


async def test_a_node_that_goes_without_a_word_is_found_out(server, make_tags, make_adapter, take) -> None:
    """The server sends no status: a read of what was quiet for long shows it; what is there and quiet is left alone."""
    server._last["Quiet"] = None  # its values come from here
    await server.add("Quiet", NodeSpec())
    await _write(server, "Quiet", 1.0)
    adapter = make_adapter(server.endpoint, make_tags("Quiet", "N", "Still"), retry=SOON)
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(1)) >= 50 and adapter.counters["quiet_items"] >= 4)
    assert adapter.counters["vanished_items"] == 0
    await server.remove("Quiet")
    taken = await take(adapter, lambda t: bool(t.gaps) and bool(_codes(t, 0)) and bool(t.values(1)))
    assert _codes(taken, 0) == [status.BAD_NODE_ID_UNKNOWN]
    assert [(gap.cause, gap.tags, gap.to_ns) for gap in taken.gaps] == [(GapCause.SERVER_REFUSED, (0,), None)]
    server._last["Quiet"] = None
    await server.add("Quiet", NodeSpec())
    await _write(server, "Quiet", 2.0)
    taken = await take(adapter, lambda t: bool(t.gaps) and bool(t.values(0)))
    assert taken.values(0) == [2.0]
    assert not _codes(taken, 2)
    assert (adapter.counters["vanished_items"], adapter.facts["items"]) == (1, "3 of 3 watched")


async def test_what_a_server_refuses_is_a_gap_until_it_is_there(server, make_tags, make_adapter, take) -> None:
    """One gap for what was refused together; it ends when the node has appeared, and the rest begins a new one."""
    adapter = make_adapter(server.endpoint, make_tags("Appears", "N", "Never"), retry=SOON)
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(1)) >= 20)
    [begun] = taken.gaps
    assert (begun.cause, begun.tags, begun.to_ns) == (GapCause.SERVER_REFUSED, (0, 2), None)
    assert begun.detail == "BadNodeIdUnknown: 2 tags"
    await server.add("Appears", NodeSpec())
    taken = await take(adapter, lambda t: len(t.gaps) == 2)
    ended, rest = taken.gaps
    assert ended == replace(begun, to_ns=ended.to_ns)
    assert (rest.tags, rest.from_ns, rest.to_ns) == ((2,), ended.to_ns, None)


@pytest.mark.parametrize("read", ["subscribe", "cyclic"])
async def test_an_unknown_namespace_is_a_gap(server, make_tags, make_adapter, take, read) -> None:
    """Also where the source is read; the gap is told once, and not again by a new connection of the same adapter."""
    tags = make_tags("N")
    lost = tags[0].model_copy(update={"number": 1, "id": "t1", "path": "A/B/X", "address": "nsu=urn:elsewhere;s=X"})
    adapter = make_adapter(server.endpoint, [*tags, lost], read=read)
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(0)) >= 5)
    assert [(gap.cause, gap.tags) for gap in taken.gaps] == [(GapCause.SERVER_REFUSED, (1,))]
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(0)) >= 5)
    assert not [gap for gap in taken.gaps if gap.cause is GapCause.SERVER_REFUSED]


class _Taker(Handover[Gap]):
    """Takes each gap at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[Gap] = []

    async def told(self, item: Gap) -> None:
        """Keep it."""
        self.gaps.append(item)


def test_tags_that_come_back_one_by_one_share_an_end(tmp_path: Path) -> None:
    """
    The first is told at once, the next together after 5 s, with the time at which the last of them came; what is
    refused anew is told at once in between.
    """
    clock, code = [100.0], status.BAD_NODE_ID_UNKNOWN
    refusals = Refusals(AdapterContext("cell", (), bytes(16), lambda: round(clock[0] * 1e9), tmp_path))
    taker, refused = _Taker(), dict.fromkeys(range(1000), code)

    async def step(by_s: float) -> list[tuple[int, float, float | None]]:
        clock[0] += by_s
        await refusals.tell(taker, refused, {})
        told, taker.gaps = taker.gaps, []
        return [(len(gap.tags), gap.from_ns / 1e9, gap.to_ns and gap.to_ns / 1e9) for gap in told]

    async def run() -> None:
        asyncio.get_running_loop().time = lambda: clock[0]  # type: ignore[method-assign]
        assert await step(0.0) == [(1000, 100.0, None)]
        del refused[0]
        assert await step(1.0) == [(1000, 100.0, 101.0), (999, 101.0, None)]
        for tag in range(1, 5):
            del refused[tag]
            assert await step(0.5) == []
        refused[2000] = code
        assert await step(0.5) == [(1, 103.5, None)]
        refused[4] = code  # gone again before it was told that it was back
        assert await step(2.0) == []
        assert await step(0.5) == [(999, 101.0, 103.0), (996, 103.0, None)]
        del refused[2000]
        ended = Handover[Gap]()
        ended.fail(NotConnected("gone"))
        clock[0] += 6.0
        with pytest.raises(NotConnected):
            await refusals.tell(ended, refused, {})
        assert await step(1.0) == [(1, 103.5, 112.0)]
        rows = 0
        for tag in [*refused]:
            del refused[tag]
            rows += sum(count for count, _, to in await step(0.1) if to is None)
        assert rows < 30_000  # one telling for each tag would be 496,000
        last_at = clock[0]
        [(_, _, ended_at)] = await step(5.0)
        assert ended_at == pytest.approx(last_at)
        assert await step(5.0) == []

    asyncio.run(run())


async def test_a_gap_that_nobody_took_is_told_again(tmp_path: Path) -> None:
    """The connection ends before the gap was taken: the next one tells it."""
    times = iter(range(1, 100))
    refusals = Refusals(AdapterContext("cell", (), bytes(16), lambda: next(times), tmp_path))
    ended: Handover[Gap] = Handover()
    ended.fail(NotConnected("gone"))
    with pytest.raises(NotConnected):
        await refusals.tell(ended, {7: status.BAD_NODE_ID_UNKNOWN}, {})
    handover: Handover[Gap] = Handover()
    telling = asyncio.create_task(refusals.tell(handover, {7: status.BAD_NODE_ID_UNKNOWN}, {}))
    gap = await handover.take()
    assert (gap.tags, gap.to_ns) == ((7,), None)
    handover.fail(NotConnected("gone"))
    with pytest.raises(NotConnected):
        await handover.take()
    await telling
    await refusals.tell(ended, {7: status.BAD_NODE_ID_UNKNOWN}, {})
