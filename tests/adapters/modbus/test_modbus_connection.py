"""Connections that cannot be made, are lost, or are cut in the middle."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from schemas import status
from schemas.errors import NotConnected
from schemas.samples import SampleBatch
from schemas.tagmap import Tag
from simulators import SignalValue
from simulators.modbus_server import ModbusServer, RegisterPoint

MakeTag = Callable[..., Tag]
MakeAdapter = Callable[..., Any]
Take = Callable[[Any], Awaitable[SampleBatch]]
Lose = Callable[[Any], Awaitable[NotConnected]]


def server_of(values: dict[str, SignalValue], points: list[RegisterPoint]) -> ModbusServer:
    return ModbusServer(lambda: values, points)


async def test_nobody_listens(make_tag: MakeTag, make_adapter: MakeAdapter, free_port: Callable[[], int]) -> None:
    """A port without a server is NotConnected at once, with a text that says where to look."""
    adapter = make_adapter(free_port(), [make_tag(0, "HR1")])
    with pytest.raises(NotConnected, match="refused the connection"):
        await adapter.connect()
    with pytest.raises(NotConnected, match="connect first"):
        await adapter.read()


async def test_a_peer_that_accepts_nobody(make_tag: MakeTag, make_adapter: MakeAdapter) -> None:
    """A peer whose connections hang is NotConnected when the time-out has passed, with a text that says so."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # fill the queue of connections that are never accepted
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        adapter = make_adapter(listener.getsockname()[1], [make_tag(0, "HR1")], timeout="100ms")
        with pytest.raises(NotConnected, match="no answer from"):
            await asyncio.wait_for(adapter.connect(), 10)


async def test_a_silent_peer_is_not_connected(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, lose: Lose
) -> None:
    """A peer that takes requests and answers none is given up after fail_after time-outs, and nothing is invented."""
    async with server_of({"x": 5}, [RegisterPoint("x", "holding", i, "uint16") for i in (0, 100)]) as server:
        tags = [make_tag(0, "HR1"), make_tag(1, "HR101")]
        adapter = make_adapter(server.port, tags, timeout="150ms", fail_after=2)
        await adapter.connect()
        await take(adapter)
        server.mode = "silent"
        begun = asyncio.get_running_loop().time()
        assert "no reply within" in str(await lose(adapter))
        assert asyncio.get_running_loop().time() - begun < 3
        assert adapter.counters["timeouts"] == 2
        with pytest.raises(NotConnected):
            await adapter.read()
        server.mode = "answer"
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5, 5]


async def test_one_time_out_costs_one_block(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A single time-out leaves bad rows and a new socket; the poll after it is good."""
    async with server_of({"x": 5}, [RegisterPoint("x", "holding", 0, "uint16")]) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1")], timeout="200ms")
        await adapter.connect()
        server.mode = "silent"
        bad = await take(adapter)
        assert bad.status.tolist() == [status.BAD_TIMEOUT]
        assert np.isnan(bad.value).all()
        server.mode = "answer"
        assert (await take(adapter)).value.tolist() == [5]
        assert server.connections == 2


async def test_the_peer_dies_and_comes_back(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, lose: Lose
) -> None:
    """A server that goes away is NotConnected; connect works again as soon as it is back on its port."""
    server = server_of({"x": 5}, [RegisterPoint("x", "holding", 0, "uint16")])
    await server.start()
    adapter = make_adapter(server.port, [make_tag(0, "HR1")], timeout="100ms")
    await adapter.connect()
    await take(adapter)
    await server.stop()
    assert isinstance(await lose(adapter), NotConnected)
    with pytest.raises(NotConnected):
        await adapter.connect()
    async with server:
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5]


async def test_the_peer_dies_in_the_middle_of_a_poll(make_tag: MakeTag, make_adapter: MakeAdapter, lose: Lose) -> None:
    """What a poll had read before the peer went away is delivered, the rest is bad, and the next read raises."""
    stopped = asyncio.Event()

    def signals() -> dict[str, SignalValue]:
        if server.requests[3] == 1:
            server.mode = "silent"
            stopped.set()
        return {"x": 5}

    server = ModbusServer(signals, [RegisterPoint("x", "holding", i, "uint16") for i in (0, 100)])
    await server.start()
    adapter = make_adapter(server.port, [make_tag(0, "HR1"), make_tag(1, "HR101")], timeout="200ms")
    await adapter.connect()
    reading = asyncio.ensure_future(adapter.read())
    await stopped.wait()
    await server.stop()
    delivery = await reading
    await delivery.settle()
    assert delivery.batch.status[0] == status.GOOD
    assert delivery.batch.value[0] == 5
    assert delivery.batch.status[1] in (status.BAD_TIMEOUT, status.BAD_NO_COMMUNICATION)
    assert isinstance(await lose(adapter), NotConnected)


async def test_a_cancelled_read_leaves_no_reply_behind(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, eventually: Any
) -> None:
    """Cancelling a read in the middle of a request is normal: the socket goes, and the next read is right."""
    async with server_of({"x": 5}, [RegisterPoint("x", "holding", 0, "uint16")]) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1", scan_ms=60_000)])
        await adapter.connect()
        server.mode = "silent"
        reading = asyncio.ensure_future(adapter.read())
        await eventually(lambda: server.requests[3] == 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        server.mode = "answer"
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5]
        assert server.connections == 2


async def test_closing_is_always_possible(make_tag: MakeTag, make_adapter: MakeAdapter) -> None:
    """Close before connect, and twice, does nothing and never raises."""
    adapter = make_adapter(1, [make_tag(0, "HR1")])
    await adapter.close()
    await adapter.close()
