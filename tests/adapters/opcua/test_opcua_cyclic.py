"""Cyclic reads: by choice or where the server cannot subscribe; what changed is handed on once, late reads are gaps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError

from adapters.opcua.link import Link
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import GapCause
from simulators.opcua_server import OpcUaServer


@pytest.fixture
def cannot_subscribe(server: OpcUaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server knows no subscriptions."""

    async def refuse(*arguments: Any, **more: Any) -> Any:
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

    service = server._server.iserver.subscription_service  # type: ignore[union-attr]
    monkeypatch.setattr(service, "create_subscription", refuse)


def _rows(taken: Any, tag: int) -> list[Any]:
    return [row for batch in taken.batches for row in batch.rows() if row.tag == tag]


async def test_a_server_that_cannot_subscribe_is_read(server, make_tags, make_adapter, take, cannot_subscribe) -> None:
    """Values come in order, each once; an item that stays is handed on once; what is not there is a Bad row."""
    adapter = make_adapter(server.endpoint, make_tags("N", "Big", "Still", "Dead", "Missing", scan_ms=20))
    await adapter.connect()
    assert (adapter.continuity, adapter.covered_ns) == ("unknown", None)
    assert adapter.facts["read"].startswith("cyclic, since the server cannot subscribe (BadServiceUnsupported")
    taken = await take(adapter, lambda t: len(t.values(0)) >= 20)
    times = [row.source_ns for row in _rows(taken, 0)]
    assert times == sorted(set(times))
    assert [row.value for row in _rows(taken, 1)] == [2**64 - 3]
    assert [row.value for row in _rows(taken, 2)] == [1.5]
    assert [row.status for row in _rows(taken, 3)] == [status.BAD_SENSOR_FAILURE]
    assert {row.status for row in _rows(taken, 4)} == {status.BAD_NODE_ID_UNKNOWN}
    assert adapter.counters["unchanged"] > 20


async def test_by_choice_and_never(server, make_tags, make_adapter, take, cannot_subscribe) -> None:
    """`cyclic` does not ask for a subscription; `subscribe` fails where there is none, with the step."""
    adapter = make_adapter(server.endpoint, make_tags("N"), read="cyclic")
    await adapter.connect()
    assert (await take(adapter, lambda t: len(t.values(0)) >= 3)).values(0)
    strict = make_adapter(server.endpoint, make_tags("N"), read="subscribe")
    with pytest.raises(NotConnected, match="subscription: BadServiceUnsupported"):
        await strict.connect()


async def test_each_tag_has_its_interval(server, make_tags, make_adapter, take) -> None:
    """A tag that is read five times as often has several times the values, each at its own round."""
    tags = make_tags("N", "Still", scan_ms=20)
    slow = tags[0].model_copy(update={"number": 2, "id": "t2", "path": "A/B/Slow", "scan_ms": 200})
    adapter = make_adapter(server.endpoint, [*tags, slow], read="cyclic")
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(2)) >= 4)
    assert len(taken.values(0)) > 1.5 * len(taken.values(2))


async def test_a_late_read_is_a_gap(server, make_tags, make_adapter, take, monkeypatch) -> None:
    """While one read takes many intervals, the reads that could not be made are one gap of exactly those tags."""
    adapter = make_adapter(server.endpoint, make_tags("N", scan_ms=50), read="cyclic")
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    read, slow = Link.read, asyncio.Event()

    async def once_slow(self: Link, nodes: Any, chunk: int) -> Any:
        values = await read(self, nodes, chunk)
        if not slow.is_set():
            slow.set()
            await asyncio.sleep(0.5)  # the fault: a server that takes its time
        return values

    monkeypatch.setattr(Link, "read", once_slow)
    taken = await take(adapter, lambda t: bool(t.gaps) and len(t.values(0)) >= 3)
    gap = taken.gaps[0]
    assert (gap.cause, gap.tags) == (GapCause.POLL_MISSED, (0,))
    assert gap.to_ns is not None
    assert gap.to_ns - gap.from_ns >= 450_000_000
    assert adapter.counters["missed_reads"] >= 9


async def test_a_round_that_waits_for_another_has_a_gap_since_it_was_due(
    server, make_tags, make_adapter, take, monkeypatch
) -> None:
    """The read of one interval holds up another: the hole of that one begins when its read was due."""
    fast, slow = make_tags("N", "Still", scan_ms=50)
    adapter = make_adapter(server.endpoint, [fast, slow.model_copy(update={"scan_ms": 300})], read="cyclic")
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    read = Link.read

    async def slow_for_one(self: Link, nodes: Any, chunk: int) -> Any:
        if any(node.Identifier == "Still" for node in nodes):
            await asyncio.sleep(0.5)  # the fault: a server that takes its time
        return await read(self, nodes, chunk)

    monkeypatch.setattr(Link, "read", slow_for_one)
    taken = await take(adapter, lambda t: any(gap.tags == (0,) for gap in t.gaps))
    gap = next(gap for gap in taken.gaps if gap.tags == (0,))
    assert gap.to_ns is not None
    assert gap.to_ns - gap.from_ns >= 400_000_000


async def test_what_was_not_journalled_is_read_again(server, make_tags, make_adapter, take) -> None:
    """settle(error) ends the connection; the next one reads every value anew, also one that did not change."""
    adapter = make_adapter(server.endpoint, make_tags("Still", scan_ms=20), read="cyclic")
    await adapter.connect()
    refused = await adapter.read()
    await refused.settle(OSError("disk full"))
    with pytest.raises(NotConnected, match="disk full"):
        await adapter.read()
    await adapter.connect()
    assert (await take(adapter, lambda t: bool(t.values(0)))).values(0) == [1.5]


async def test_a_cut_ends_the_read(server, make_tags, make_adapter, take) -> None:
    """A lost connection is NotConnected, and reading goes on after the next connect."""
    adapter = make_adapter(server.endpoint, make_tags("N", scan_ms=20), read="cyclic")
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
    await server.drop_connections()
    with pytest.raises(NotConnected):
        await take(adapter, lambda t: False)
    await adapter.connect()
    await take(adapter, lambda t: len(t.values(0)) >= 3)
