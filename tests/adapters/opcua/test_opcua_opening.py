"""The first values after connecting: none between two steps is lost, late or doubled, on a server however slow."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asyncua.server.monitored_item_service import MonitoredItemService

from adapters.opcua import OpcUaAdapter
from schemas.samples import SampleBatch
from simulators.opcua_server import OpcUaServer
from tests.waiting import until_async

_SLOW_TICKS = 10


@pytest.fixture
def slow_server(server: OpcUaServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``slow_server(when)``: the server lets many ticks pass ``before`` or ``after`` it makes the items."""
    service = server._server.iserver.subscription_service  # type: ignore[union-attr]
    make = service.create_monitored_items

    async def ticks() -> None:
        since = server._last["N"]
        await until_async(lambda: server._last["N"] >= since + _SLOW_TICKS, 30)  # type: ignore[operator]

    def slow(when: str) -> None:
        async def create(params: Any) -> Any:
            if when == "before":
                await ticks()
            results = await make(params)
            if when == "after":
                await ticks()
            return results

        monkeypatch.setattr(service, "create_monitored_items", create)

    return slow


@pytest.fixture
def no_first_value(server: OpcUaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server breaks its duty for `Still`: a new item of it sends no first value."""
    first = MonitoredItemService.trigger_datachange
    still = server._ids["Still"]

    async def trigger(self: Any, handle: int, node_id: Any, attribute: Any) -> None:
        if node_id != still:
            await first(self, handle, node_id, attribute)

    monkeypatch.setattr(MonitoredItemService, "trigger_datachange", trigger)


def _times(batches: list[SampleBatch], tag: int) -> list[int]:
    return [row.source_ns for batch in batches for row in batch.rows() if row.tag == tag]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_no_change_between_two_steps_is_lost_late_or_doubled(
    server, make_tags, make_adapter, take, slow_server, when
) -> None:
    """From the first value of the counter on, every tick is there once and in order, however slow the items come."""
    slow_server(when)
    adapter = make_adapter(server.endpoint, make_tags("N"))
    await adapter.connect()
    taken = await take(adapter, lambda t: len(t.values(0)) >= 3 * _SLOW_TICKS)
    values = [row.value for batch in taken.batches for row in batch.rows()]
    assert values == [values[0] + i for i in range(len(values))]
    times = _times(taken.batches, 0)
    assert times == sorted(set(times))
    assert (taken.gaps, adapter.counters["silent_items"]) == ([], 0)


async def test_the_value_read_at_connect_would_be_late(
    server, make_tags, make_adapter, take, slow_server, monkeypatch
) -> None:
    """Control: handed on at once, as if no first value were to come, it comes before older ones that wait."""
    slow_server("after")
    adapter = make_adapter(server.endpoint, make_tags("N"))
    begin = adapter._watching._begin

    async def hasty(to: Any) -> Any:
        watches = await begin(to)
        eager.extend((tag, value) for watch in watches for tag, value in watch.opening.items())
        return watches

    eager: list[Any] = []
    monkeypatch.setattr(adapter._watching, "_begin", hasty)
    await adapter.connect()
    [(_, read)] = eager
    taken = await take(adapter, lambda t: len(t.values(0)) >= 3 * _SLOW_TICKS)
    assert sum(value < read.Value.Value for value in taken.values(0)) >= _SLOW_TICKS // 2


async def test_an_item_without_a_first_value_has_the_one_that_was_read(
    server, make_tags, make_adapter, take, no_first_value
) -> None:
    """It is handed on once, after the first cycles, with its own time; the items that spoke are not repeated."""
    adapter = make_adapter(server.endpoint, make_tags("N", "Still", "Big"))
    await adapter.connect()
    taken = await take(adapter, lambda t: bool(t.values(1)))
    taken.batches += (await take(adapter, lambda t: len(t.values(0)) >= 20)).batches
    rows = list(itertools.chain.from_iterable(batch.rows() for batch in taken.batches))
    assert [row.value for row in rows if row.tag == 1] == [1.5]
    assert [row.value for row in rows if row.tag == 2] == [2**64 - 3]
    assert adapter.counters["silent_items"] == 1
    values = [row.value for row in rows if row.tag == 0]
    assert values == [values[0] + i for i in range(len(values))]


@pytest.mark.parametrize("process", ["same", "new"])
async def test_a_value_that_is_owed_survives_a_lost_connection(
    server, make_tags, make_adapter, take, crash, no_first_value, process
) -> None:
    """Cut before the first cycles are over: the next connection or process knows which items have not spoken."""
    adapter: OpcUaAdapter = make_adapter(server.endpoint, make_tags("N", "Still"))
    await adapter.connect()
    adapter._watching.watches[0].open_at = float("inf")
    await take(adapter, lambda t: len(t.values(0)) >= 5)
    await crash(adapter)
    if process == "new":
        adapter = make_adapter(server.endpoint, make_tags("N", "Still"))
    await adapter.connect()
    assert adapter.counters["resumed"] == 1
    taken = await take(adapter, lambda t: bool(t.values(1)))
    assert taken.values(1) == [1.5]
    await _again(adapter, take, crash)


async def _again(adapter: OpcUaAdapter, take: Callable[..., Awaitable[Any]], crash: Callable[..., Any]) -> None:
    """Once it was handed on and settled, it is not handed on again."""
    await take(adapter, lambda t: bool(t.batches))
    await crash(adapter)
    await adapter.connect()
    assert adapter.counters["resumed"] >= 1
    taken = await take(adapter, lambda t: len(t.values(0)) >= 10)
    assert taken.values(1) == []
