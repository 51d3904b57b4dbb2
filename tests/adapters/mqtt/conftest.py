"""Fixtures of the MQTT tests: a real broker, and adapters on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.base import AdapterContext
from adapters.mqtt import MqttAdapter, MqttOptions
from schemas.tagmap import Tag
from tests.contract.mosquitto import Mosquitto


@pytest.fixture
def mosquitto(need: Callable[[str], str], tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Mosquitto]:
    """A running mosquitto."""
    with Mosquitto(need("mosquitto"), tmp_path, free_port()).running() as broker:
        yield broker


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., MqttAdapter]:
    """Build an adapter: ``make(url, {"topic#path": type}, **options)``; equal ``state`` names share a session."""

    def build(url: str, addresses: dict[str, str | None], state: str = "state", **options: Any) -> MqttAdapter:
        folder = tmp_path / state
        folder.mkdir(exist_ok=True)
        options.setdefault("subscriptions", [{"filter": "line1/#", "decode": "json"}])
        tags = tuple(
            Tag(number=n, id=f"t{n}", path=f"S/{n}", source="plant", address=address, type=type_)
            for n, (address, type_) in enumerate(addresses.items())
        )
        checked = MqttOptions.model_validate({"broker": url, **options})
        return MqttAdapter(checked, AdapterContext("plant", tags, b"m" * 16, time.time_ns, folder, tmp_path))

    return build
