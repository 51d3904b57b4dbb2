"""The STATE of a primary host, its will, and what others say of it, through a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from schemas.errors import NotConnected
from tests.adapters.mqtt.sparkplug.reader import (
    ADDRESSES,
    SPARKPLUG,
    Make,
)
from tests.contract.mosquitto import Mosquitto


async def test_a_primary_host_says_that_it_is_there_and_that_it_is_gone(
    mosquitto: Mosquitto, make: Make, eventually: Callable[..., Any]
) -> None:
    """STATE is retained, true while we are connected, false by our farewell or by the broker in our name."""
    said: list[dict[str, Any]] = []
    listener = mqtt.Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: said.append(json.loads(message.payload))
    listener.on_connect = lambda client, *_: client.subscribe("spBv1.0/STATE/site", 1)
    listener.connect("127.0.0.1", mosquitto.port)
    listener.loop_start()
    role = {"role": "primary", "host_id": "site"}
    only = [{"filter": "spBv1.0/Plant/#", "decode": "sparkplug"}]
    adapter = make(mosquitto.url, ADDRESSES, subscriptions=only, sparkplug=role)
    try:
        await adapter.connect()
        await eventually(lambda: said and said[-1]["online"])
        since = said[-1]["timestamp"]
        await adapter.close()
        await eventually(lambda: not said[-1]["online"])
        await adapter.connect()
        await eventually(lambda: said[-1]["online"])
        listener.publish("spBv1.0/STATE/site", json.dumps({"online": False, "timestamp": since}), 1, True)
        count = len(said)
        reading = asyncio.create_task(adapter.read())
        await eventually(lambda: len(said) > count + 1 and said[-1]["online"])  # another's word about us is put right
        assert adapter._session is not None
        adapter._session._client._sock.shutdown(2)  # type: ignore[union-attr]
        await eventually(lambda: not said[-1]["online"])
        with pytest.raises(NotConnected):
            await reading
    finally:
        listener.disconnect()
        listener.loop_stop()
        await adapter.close()


async def test_a_newer_word_that_the_primary_host_is_gone_renews_state_and_will(
    mosquitto: Mosquitto, make: Make, eventually: Callable[..., Any]
) -> None:
    """
    Edge nodes pass over a STATE that is older than the last: our online must not be older than another's offline, nor
    our will older than our online. So both come anew, with a connection of their own.
    """
    said: list[dict[str, Any]] = []
    listener = mqtt.Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: said.append(json.loads(message.payload))
    listener.on_connect = lambda client, *_: client.subscribe("spBv1.0/STATE/site", 1)
    listener.connect("127.0.0.1", mosquitto.port)
    listener.loop_start()
    adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG, sparkplug={"role": "primary", "host_id": "site"})
    try:
        await adapter.connect()
        await eventually(lambda: said and said[-1]["online"])
        foreign = {"online": False, "timestamp": said[-1]["timestamp"] + 3_600_000}
        listener.publish("spBv1.0/STATE/site", json.dumps(foreign), 1, True)
        with pytest.raises(NotConnected, match="another client says that we are offline"):
            await asyncio.wait_for(adapter.read(), 60)
        await adapter.connect()
        await eventually(lambda: said[-1]["online"])
        assert said[1:] == [foreign, {"online": True, "timestamp": foreign["timestamp"]}]
        assert adapter.counters["state_contradicted"] == 1

        reading = asyncio.create_task(adapter.read())
        assert adapter._session is not None
        adapter._session._client._sock.shutdown(2)  # type: ignore[union-attr]
        await eventually(lambda: not said[-1]["online"])
        assert said[-1]["timestamp"] == foreign["timestamp"]  # the will is the pair of the last online
        with pytest.raises(NotConnected):
            await reading
        await adapter.connect()
        await eventually(lambda: said[-1]["online"])
        await adapter.close()
        await eventually(lambda: not said[-1]["online"])
        assert said[-1]["timestamp"] >= said[-2]["timestamp"]
    finally:
        listener.disconnect()
        listener.loop_stop()
        await adapter.close()


@pytest.mark.parametrize("payload", [b'{"online": false}', b'{"online": false, "timestamp": "now"}'])
async def test_a_word_without_a_time_that_the_primary_host_is_gone_is_put_right_at_once(
    mosquitto: Mosquitto, make: Make, eventually: Callable[..., Any], payload: bytes
) -> None:
    """It is older than nothing: the online message of this connection stands against it."""
    said: list[bytes] = []
    listener = mqtt.Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: said.append(message.payload)
    listener.on_connect = lambda client, *_: client.subscribe("spBv1.0/STATE/site", 1)
    listener.connect("127.0.0.1", mosquitto.port)
    listener.loop_start()
    adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG, sparkplug={"role": "primary", "host_id": "site"})
    try:
        await adapter.connect()
        await eventually(lambda: said)
        reading = asyncio.create_task(adapter.read())
        listener.publish("spBv1.0/STATE/site", payload, 1, True)
        await eventually(lambda: len(said) == 3)
        assert said == [said[0], payload, said[0]]
        reading.cancel()
    finally:
        listener.disconnect()
        listener.loop_stop()
        await adapter.close()
