"""Fixtures of the Sparkplug tests with a real broker: nodes, and an adapter that has read their births."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adapters.mqtt import MqttAdapter
from simulators.sparkplug_node import EdgeNode
from tests.adapters.mqtt.sparkplug.reader import ADDRESSES, DEVICES, SPARKPLUG, Make, Reader, Reading
from tests.contract.mosquitto import Mosquitto


@pytest.fixture
def node(mosquitto: Mosquitto) -> Iterator[Callable[..., EdgeNode]]:
    """Make connected edge nodes; ended behind the test."""
    made: list[EdgeNode] = []

    def build(**more: Any) -> EdgeNode:
        made.append(EdgeNode(mosquitto.port, DEVICES, **more))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def reading(mosquitto: Mosquitto, make: Make, node: Callable[..., EdgeNode]) -> Reading:
    """An adapter that read the births of a node: ``reading(sparkplug={}, **options of the node)``."""

    async def begin(sparkplug: dict[str, Any] | None = None, **more: Any) -> tuple[MqttAdapter, Reader, EdgeNode]:
        adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG, sparkplug=sparkplug or {})
        await adapter.connect()
        reader, edge = Reader(adapter), node(**more)
        await asyncio.to_thread(edge.connect)
        await reader.until(lambda r: r.of(2))
        return adapter, reader, edge

    return begin
