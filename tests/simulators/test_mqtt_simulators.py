"""The simulated publisher and the embedded broker, as the demo uses them: together, on a free port."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

pytest.importorskip("amqtt", reason="amqtt comes with the extra demo")

from simulators.mqtt_broker import EmbeddedBroker
from simulators.mqtt_publisher import MqttPublisher, TopicSpec

Eventually = Callable[..., Awaitable[None]]
VALUES = {"P.Temperature": 21.5, "P.Running": True, "P.Missing": None}


class Listener:
    """A subscriber to everything."""

    def __init__(self) -> None:
        self.messages: list[mqtt.MQTTMessage] = []
        self.subscribed = False
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _c, _u, message: self.messages.append(message)
        self._client.on_subscribe = lambda *_: setattr(self, "subscribed", True)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)

    async def start(self, port: int) -> None:
        await asyncio.to_thread(self._client.connect, "127.0.0.1", port)
        self._client.loop_start()

    async def stop(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def last(self, topic: str) -> bytes | None:
        return next((bytes(m.payload) for m in reversed(self.messages) if m.topic == topic), None)


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    """An embedded broker on a free port."""
    async with EmbeddedBroker() as running:
        yield running


async def test_topics_carry_the_signals(broker: EmbeddedBroker, eventually: Eventually) -> None:
    """JSON members, a time in milliseconds and plain values arrive; a signal without a value is left out."""
    listener = Listener()
    await listener.start(broker.port)
    await eventually(lambda: listener.subscribed)
    topics = {
        "site/pump": TopicSpec({"temp": "P.Temperature", "run": "P.Running", "none": "P.Missing"}),
        "site/plain": TopicSpec(plain="P.Temperature", qos=0),
        "site/flag": TopicSpec(plain="P.Running"),
        "site/missing": TopicSpec(plain="P.Missing"),
        "site/untimed": TopicSpec({"temp": "P.Temperature"}, time=""),
    }
    async with MqttPublisher(lambda: VALUES, topics, port=broker.port, period_s=0.05) as publisher:
        await eventually(lambda: publisher.rounds > 1 and listener.last("site/untimed") is not None)
    await listener.stop()

    message = json.loads(listener.last("site/pump") or b"")
    assert abs(message.pop("ts") - time.time() * 1000) < 60_000
    assert message == {"temp": 21.5, "run": True}
    assert listener.last("site/plain") == b"21.5"
    assert listener.last("site/flag") == b"true"
    assert listener.last("site/missing") is None
    assert json.loads(listener.last("site/untimed") or b"") == {"temp": 21.5}


async def test_the_broker_has_a_free_port_and_frees_it(eventually: Eventually) -> None:
    """Two brokers run side by side, quietly, and their ports can be taken again at once."""
    async with EmbeddedBroker() as one, EmbeddedBroker() as two:
        assert one.port != two.port
        assert one.url == f"mqtt://127.0.0.1:{one.port}"
        port = one.port
    async with EmbeddedBroker(port) as again:
        assert again.port == port
    assert not logging.getLogger("amqtt.broker").isEnabledFor(logging.ERROR)


async def test_a_publisher_without_a_broker_says_so(free_port: Callable[[], int]) -> None:
    """Nobody listening is an error at the start, not silence."""
    with pytest.raises(OSError, match="refused"):
        async with MqttPublisher(lambda: VALUES, {}, port=free_port()):
            pass
