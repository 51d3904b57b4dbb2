"""Adapters over tags given in one line each, closed at the end; one whole delivery."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.base import AdapterContext, Clock
from adapters.modbus import ModbusAdapter, ModbusOptions
from schemas.errors import NotConnected
from schemas.samples import Gap, SampleBatch
from schemas.tagmap import Tag

MakeTag = Callable[..., Tag]


@pytest.fixture
def make_tag() -> MakeTag:
    """A tag by number, address and type; further fields by name."""

    def make(number: int, address: str, type: str | None = "uint16", **more: Any) -> Tag:  # noqa: A002 - Tag's word
        fields = {"scan_ms": 20, **more}
        return Tag(
            number=number, id=f"t{number}", path=f"A/B/T{number}", source="plc", address=address, type=type, **fields
        )

    return make


@pytest.fixture
async def make_adapter(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """An adapter of the source ``plc`` on a loopback port: ``make_adapter(port, tags, **options)``."""
    made: list[Any] = []

    def make(port: int, tags: list[Tag], now_ns: Clock = time.time_ns, **options: Any) -> Any:
        defaults = {"host": "127.0.0.1", "port": port, "timeout": "5s", "byte_order": "ABCD"}
        context = AdapterContext("plc", tuple(tags), bytes(range(16)), now_ns, tmp_path, tmp_path)
        made.append(ModbusAdapter(ModbusOptions(**{**defaults, **options}), context))
        return made[-1]

    yield make
    for adapter in made:
        await adapter.close()


@pytest.fixture
def take() -> Callable[[Any], Awaitable[SampleBatch]]:
    """Read up to the next delivery, check its columns and settle it; a poll missed on a busy machine is passed over."""

    async def one(adapter: Any) -> SampleBatch:
        delivery = await adapter.read()
        while isinstance(delivery, Gap):
            delivery = await adapter.read()
        delivery.batch.check()
        await delivery.settle()
        return delivery.batch

    return one


@pytest.fixture
def lose(take: Callable[[Any], Awaitable[SampleBatch]]) -> Callable[[Any], Awaitable[NotConnected]]:
    """Read until the adapter says that the peer is gone; whatever it delivers before must be bad and empty."""

    async def until_lost(adapter: Any) -> NotConnected:
        for _ in range(5):
            try:
                batch = await take(adapter)
            except NotConnected as error:
                return error
            assert (batch.status != 0).all()
            assert np.isnan(batch.value).all()
            assert not batch.exact
        pytest.fail("the adapter went on reading from a peer that was gone")

    return until_lost
