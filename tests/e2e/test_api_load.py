"""F29: many requests and long ones beside the stream: what was sent is stored, and the WAL stays bounded."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field

import httpx
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]
#: Values of one message, and messages a second: 15,000 values/s.
WIDTH, RATE = 300, 50
UNDER_WAY = 50
#: SQLite moves the WAL into the database each 16 MiB; a broker under load may have 256.
CHECKPOINT, LIMIT = 16 * 2**20, 256 * 2**20
PAGES = (
    "/api/v1/records?limit=10000",
    "/api/v1/records?limit=1000&path=Acme/Lyon/Line1/V7",
    "/api/v1/current",
    "/api/v1/trend?path=Acme/Lyon/Line1/V3&from_ms={from_ms}&to_ms={to_ms}&buckets=2000",
    "/api/v1/anomalies",
    "/api/v1/gaps",
    "/api/v1/status",
    "/",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass
class Stream:
    """Publishes wide messages at QoS 1 from one task; ``lag_ms`` is how old the newest row in SQL was at each look."""

    port: int
    broker: Broker
    sent: int = 0
    wal: int = 0
    lag_ms: list[float] = field(default_factory=list)
    going: bool = True

    async def run(self) -> None:
        """Publish, and look at the store, until ``going`` is taken back."""
        loop = asyncio.get_running_loop()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, "wide", protocol=mqtt.MQTTv311)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        due_s = loop.time()
        try:
            while self.going:
                body: dict[str, float] = {"ts": time.time_ns() // 1_000_000}
                body |= {f"v{i}": self.sent + i / 1000 for i in range(WIDTH)}
                message = client.publish("line1/wide", json.dumps(body), 1)
                await asyncio.to_thread(message.wait_for_publish, 60)
                self.sent += 1
                if self.sent % 5 == 0:
                    self._look()
                due_s = max(due_s + 1 / RATE, loop.time() - 1)
                await asyncio.sleep(due_s - loop.time())  # the pace of the line
        finally:
            client.disconnect()
            client.loop_stop()

    def _look(self) -> None:
        rows = self.broker.rows("SELECT source_ts FROM records ORDER BY seq DESC LIMIT 1")
        if rows:
            self.lag_ms.append((time.time_ns() - rows[0][0]) / 1e6)
            self.wal = max(self.wal, (self.broker.home / "var" / "store.db-wal").stat().st_size)


async def _load(broker: Broker, seconds: float, rate: float) -> Counter[int]:
    """
    Up to so many requests a second for so long, at most ``UNDER_WAY`` at once: a machine is asked what it can answer.
    How often each status was the answer.
    """
    access = json.loads((broker.home / "var" / "core.json").read_bytes())
    headers = {"Authorization": f"Bearer {access['token']}"}
    answers: Counter[int] = Counter()
    limits = httpx.Limits(max_connections=UNDER_WAY)
    async with httpx.AsyncClient(base_url=access["url"], headers=headers, timeout=120, limits=limits) as client:

        async def ask(number: int) -> None:
            now_ms = time.time_ns() // 1_000_000
            page = PAGES[number % len(PAGES)].format(from_ms=now_ms - 86_400_000, to_ms=now_ms)
            answers[(await client.get(page)).status_code] += 1

        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        under_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as asking:
            for number in range(int(rate * seconds)):
                if len(under_way) < UNDER_WAY:
                    task = asking.create_task(ask(number))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                await asyncio.sleep(begun_s + number / rate - loop.time())  # the rate of the load
    return answers


def _p99(values: list[float]) -> float:
    return float(np.percentile(values, 99)) if values else float("nan")


async def test_requests_beside_the_stream(
    mosquitto: int,
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    scale: Callable[[float, float], float],
    figures: Callable[..., None],
) -> None:
    """Every value is stored, the WAL is far from its limit; a reader that holds its snapshot lets it grow."""
    tags = [
        {
            "path": f"Acme/Lyon/Line1/V{i}",
            "source": "line",
            "address": f"line1/wide#v{i}",
            "type": "float64",
            "unit": "1",
        }
        for i in range(WIDTH)
    ]
    source = {
        "kind": "mqtt",
        "broker": f"mqtt://127.0.0.1:{mosquitto}",
        "subscriptions": [{"filter": "line1/#", "decode": "json", "time": "ts", "time_format": "epoch_ms"}],
    }
    broker = make_broker({"line": source}, tags)
    broker.start("acquire", "core")
    stream = Stream(mosquitto, broker)
    running = asyncio.create_task(stream.run())
    seconds, rate = scale(5.0, 60.0), scale(40.0, 200.0)
    try:
        await eventually(lambda: broker.count() > 0 and broker.answer("/healthz") is not None, 240)
        first = int(broker.rows("SELECT min(value) FROM records")[0][0])
        quiet = await _during(stream, asyncio.sleep(seconds))  # the time that is measured
        begun = time.monotonic()
        answers: Counter[int] = Counter()

        async def load() -> None:
            answers.update(await _load(broker, seconds, rate))

        busy = await _during(stream, load())
        took, wal = time.monotonic() - begun, stream.wal
        held = await _held(broker, stream, eventually)
    finally:
        stream.going = False
        await running
    wanted = stream.sent - first
    await eventually(lambda: broker.count() >= wanted * WIDTH, 240)
    stored, distinct = broker.count(), broker.count("SELECT count(DISTINCT value) FROM records")
    figures(
        "F29 requests beside the stream",
        f"{sum(answers.values()) / took:.0f} requests/s for {took:.0f} s beside {WIDTH * RATE} values/s; newest row "
        f"p99 {_p99(busy):.0f} ms old, {_p99(quiet):.0f} without; WAL at most {wal / 2**20:.0f} MiB",
        lost=wanted * WIDTH - distinct,
        doubled=stored - distinct,
        control=f"a reader that keeps its snapshot: WAL {held / 2**20:.0f} MiB and growing",
    )
    assert set(answers) <= {200, 503}, answers
    assert answers[200] > 0
    assert wal < LIMIT
    assert held > 2 * CHECKPOINT
    assert (stored, distinct) == (wanted * WIDTH, wanted * WIDTH)


async def _during(stream: Stream, work: Awaitable[object]) -> list[float]:
    """How old the newest row was while the work was done, ms."""
    begin = len(stream.lag_ms)
    await work
    return stream.lag_ms[begin:]


async def _held(broker: Broker, stream: Stream, eventually: Eventually) -> int:
    """Bytes of the WAL when it has grown beyond two checkpoints behind a reader that never ends, or stopped to grow."""
    with closing(sqlite3.connect(f"file:{broker.home / 'var' / 'store.db'}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM maps").fetchone()
        stream.wal = 0
        await eventually(lambda: stream.wal > 2 * CHECKPOINT, 240, "a WAL of two checkpoints")
        reader.rollback()
    return stream.wal
