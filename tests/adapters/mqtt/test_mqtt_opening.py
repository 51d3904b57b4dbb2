"""A connect that was given up half-way: its client id is the next one's, which it must not throw out of the broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from adapters.mqtt import MqttAdapter
from adapters.mqtt.client import Client
from schemas.samples import Delivery
from tests.contract.mosquitto import Mosquitto

Make = Callable[..., MqttAdapter]
Eventually = Callable[..., Awaitable[None]]


class Held:
    """The first connect stands still behind *step*, a method of the client, until ``go``."""

    def __init__(self, patch: pytest.MonkeyPatch, step: str) -> None:
        self.reached, self.go, self.over = threading.Event(), threading.Event(), threading.Event()
        self._first = True
        take, connect = getattr(Client, step), Client.connect

        def held(client: Client, *args: Any) -> Any:
            result = take(client, *args)
            if self._first:
                self._first = False
                self.reached.set()
                assert self.go.wait(60)
            return result

        def told(client: Client, *args: Any, **options: Any) -> Any:
            try:
                return connect(client, *args, **options)
            finally:
                self.over.set()

        patch.setattr(Client, step, held)
        patch.setattr(Client, "connect", told)


async def _gives_up(adapter: MqttAdapter, held: Held, eventually: Eventually) -> asyncio.Task[None]:
    connecting = asyncio.create_task(adapter.connect())
    await eventually(held.reached.is_set)
    connecting.cancel()
    return connecting


async def _reads(adapter: MqttAdapter, mosquitto: Mosquitto, value: str) -> None:
    """What is published now comes over the connection that stands."""
    await asyncio.to_thread(mosquitto.publish, [("line1/n", value)])
    item = await asyncio.wait_for(adapter.read(), 60)
    assert isinstance(item, Delivery)
    assert [row.value for row in item.batch.rows()] == [int(value)]
    await item.settle()


async def test_a_connect_given_up_before_its_greeting_sends_none(
    mosquitto: Mosquitto, make: Make, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """A slow name server or handshake ends after the next connect, whose session a late CONNECT would take over."""
    held = Held(monkeypatch, "_create_socket")
    adapter = make(mosquitto.url, {"line1/n": "int32"}, subscriptions=[{"filter": "line1/#", "decode": "plain"}])
    given_up = await _gives_up(adapter, held, eventually)
    await asyncio.wait([given_up])
    assert given_up.cancelled()

    await adapter.connect()
    held.over.clear()
    held.go.set()
    await eventually(held.over.is_set)

    await _reads(adapter, mosquitto, "1")
    await _reads(adapter, mosquitto, "2")
    await adapter.close()


async def test_a_connect_given_up_behind_its_greeting_says_goodbye_first(
    mosquitto: Mosquitto, make: Make, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """The broker has closed the connection that was greeted before the next one begins."""
    held = Held(monkeypatch, "_send_connect")
    adapter = make(mosquitto.url, {"line1/n": "int32"}, subscriptions=[{"filter": "line1/#", "decode": "plain"}])
    before = _connections(mosquitto.port)
    given_up = await _gives_up(adapter, held, eventually)
    held.go.set()
    await asyncio.wait([given_up])
    assert given_up.cancelled()
    assert _connections(mosquitto.port) == before

    await adapter.connect()
    await _reads(adapter, mosquitto, "1")
    await adapter.close()


def _connections(port: int) -> int:
    """Established connections to the port on this machine, as the kernel tells."""
    end = f"0100007F:{port:04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[2] == end and row[3] == "01" for row in rows)
