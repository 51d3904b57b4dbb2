"""Publishes simulated signals to an MQTT broker, one round of topics each period."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from simulators import Signals, SignalValue


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """
    What one topic carries.

    Attributes:
        fields: member of the JSON message to name of the signal; a signal without a value is left out.
        plain: name of the one signal whose value is the whole payload; then ``fields`` is unused.
        time: member that carries the time of the round in epoch milliseconds; empty for none.
        qos: 0 or 1.
        retain: whether the broker keeps the last message.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    plain: str | None = None
    time: str = "ts"
    qos: int = 1
    retain: bool = False


class MqttPublisher:
    """
    Async context manager: publishes every topic once a period, on the clock's whole periods.

    ``rounds`` counts finished rounds; ``published`` the messages handed over. Reconnects by itself and publishes
    nothing while the broker is away, as a simple device does.
    """

    def __init__(
        self,
        signals: Signals,
        topics: Mapping[str, TopicSpec],
        *,
        host: str = "127.0.0.1",
        port: int,
        period_s: float = 1.0,
        client_id: str = "plant",
    ) -> None:
        self.rounds = 0
        self.published = 0
        self._signals = signals
        self._topics = dict(topics)
        self._address = (host, port)
        self._period_s = period_s
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv311)
        self._client.reconnect_delay_set(1, 5)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect and start publishing. Raises OSError when nobody listens."""
        await asyncio.to_thread(self._client.connect, *self._address, 30)
        self._client.loop_start()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop publishing and disconnect."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def publish_round(self, now_s: float) -> None:
        """Publish every topic once with the present signals and the time *now_s*."""
        signals = self._signals()
        for topic, spec in self._topics.items():
            payload = self._payload(spec, signals, now_s)
            if payload is not None and self._client.is_connected():
                self._client.publish(topic, payload, spec.qos, spec.retain)
                self.published += 1
        self.rounds += 1

    async def _run(self) -> None:
        while True:
            now_s = time.time()
            self.publish_round(now_s)
            await asyncio.sleep(self._period_s - now_s % self._period_s)

    @staticmethod
    def _payload(spec: TopicSpec, signals: Mapping[str, SignalValue], now_s: float) -> str | None:
        if spec.plain is not None:
            value = signals.get(spec.plain)
            return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        body = {name: signals[signal] for name, signal in spec.fields.items() if signals.get(signal) is not None}
        if not body:
            return None
        return json.dumps({spec.time: round(now_s * 1000), **body} if spec.time else body)
