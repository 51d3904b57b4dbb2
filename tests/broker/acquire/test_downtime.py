"""The time in which the broker was down, against real peers: told as filled where they bridged it, and only there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Adapter, AdapterContext
from adapters.mqtt import MqttAdapter, MqttOptions
from adapters.opcua import OpcUaAdapter, OpcUaOptions
from broker.acquire.process import Source, acquire
from broker.journal import JournalFiles
from schemas.entries import START
from schemas.samples import Gap, GapCause, SampleBatch
from schemas.tagmap import Tag, TagMap
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests.broker.acquire.conftest import OPTIONS
from tests.contract.mosquitto import Mosquitto

Eventually = Callable[..., Awaitable[None]]
URI = "urn:plant"


class Broker:
    """Runs of the acquire process with one source, whose adapter is built by *build* in a folder that stays."""

    def __init__(
        self, folder: Path, eventually: Eventually, options: Any, adapter: Callable[..., Adapter], address: str
    ) -> None:
        self._folder, self._eventually, self._options = folder, eventually, options
        tag = Tag(number=0, id="a", path="Acme/Lyon/a", source="plant", address=address, scan_ms=50)
        self._map = TagMap(site="Acme/Lyon", tags=(tag,))
        state = folder / "state"
        state.mkdir()
        context = AdapterContext("plant", (tag,), self._map.revision, time.time_ns, state, folder)
        self._build = lambda: adapter(options, context)
        self.adapter: Any = None

    def _make(self) -> Adapter:
        self.adapter = self._build()
        return self.adapter  # type: ignore[no-any-return]

    async def run(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """One run, until *meanwhile* has ended."""
        stop = asyncio.Event()
        self.adapter = None
        source = Source(self._options, self._make)
        task = asyncio.create_task(
            acquire({"plant": source}, self._map, data_dir=self._folder, options=OPTIONS, stop=stop)
        )
        try:
            await self._eventually(lambda: task.done() or (self.adapter is not None and self.adapter.facts))
            await meanwhile()
        finally:
            stop.set()
            await task

    def bodies(self) -> list[Any]:
        return [entry.body for entry in JournalFiles(self._folder / "journal").read(START, 100_000)]

    @property
    def rows(self) -> int:
        return sum(len(body) for body in self.bodies() if isinstance(body, SampleBatch))

    def told(self, cause: GapCause = GapCause.NOT_RUNNING) -> list[bool]:
        """Whether it is filled, each time that a closed gap of this cause is told."""
        gaps = [body for body in self.bodies() if isinstance(body, Gap) and body.to_ns is not None]
        return [gap.backfilled for gap in gaps if gap.cause is cause]


@pytest.mark.parametrize("kept", [True, False])
async def test_an_mqtt_session(
    tmp_path: Path,
    need: Callable[[str], str],
    free_port: Callable[[], int],
    eventually: Eventually,
    kept: bool,
) -> None:
    """What the broker kept for our session fills the downtime; a broker that was restarted kept nothing."""
    with Mosquitto(need("mosquitto"), tmp_path, free_port()).running() as mosquitto:
        asked = {"broker": mosquitto.url, "subscriptions": [{"filter": "t/#", "decode": "plain"}]}
        broker = Broker(tmp_path, eventually, MqttOptions.model_validate(asked), MqttAdapter, "t/a")

        async def send(rows: int) -> None:
            await eventually(lambda: "granted" in broker.adapter.facts.get("filter t/#", ""))
            await asyncio.to_thread(mosquitto.publish, [("t/a", b"1")])
            await eventually(lambda: broker.rows >= rows)

        await broker.run(lambda: send(1))
        if kept:
            await asyncio.to_thread(mosquitto.publish, [("t/a", b"2"), ("t/a", b"3")])
        else:
            mosquitto.stop()
            mosquitto.start()
        await broker.run(lambda: send(4 if kept else 2))
    assert broker.told() == ([False, True] if kept else [False])
    assert broker.told(GapCause.SESSION_LOST) == ([] if kept else [False])


@pytest.mark.parametrize("fill", ["gaps", "none"])
async def test_an_opcua_history(tmp_path: Path, eventually: Eventually, fill: str) -> None:
    """A server that held no subscription, but has a history: the gap of its session is filled, and the downtime."""
    ticks = iter(range(10**9))
    server = OpcUaServer(lambda: {"N": next(ticks)}, {"N": NodeSpec("Int32")}, namespace=URI, period_s=0.02)
    async with server:
        inner: Any = server._server
        await inner.historize_node_data_change(inner.get_node(server._ids["N"]))
        history = {"fill": fill, "settle": "100ms", "pause": "0s", "chunk": "1s"} if fill == "gaps" else {}
        asked = {
            "endpoint": server.endpoint,
            "security": "None",
            "subscription": {"publishing": "100ms", "keep_alive": "5s"},
            "history": history,
            "recover": "recreate",
        }
        broker = Broker(tmp_path, eventually, OpcUaOptions.model_validate(asked), OpcUaAdapter, f"nsu={URI};s=N")

        async def live(more: int) -> None:
            rows = broker.rows + more
            await eventually(lambda: broker.rows >= rows)

        async def filled() -> None:
            await live(5)
            if fill == "gaps":
                await eventually(lambda: True in broker.told())

        await broker.run(lambda: live(5))
        await broker.run(filled)
    assert broker.told() == ([False, True] if fill == "gaps" else [False])
