"""``kill -9`` of acquire or core at any moment: nothing settled is lost, nothing is doubled in SQL."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]


class Publisher:
    """Publishes a counter with its time at QoS 1, from paho's own thread, and counts what the broker took over."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "line1", protocol=mqtt.MQTTv311)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, count: int) -> None:
        base_ms = time.time_ns() // 1_000_000
        for i in range(count):
            body = json.dumps({"ts": base_ms + i, "n": self.sent})
            self._client.publish("line1/counter", body, 1).wait_for_publish(10)
            self.sent += 1

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def mqtt_site(mosquitto: int, free_port: Callable[[], int], tmp_path: Path) -> Iterator[Broker]:
    source = {
        "kind": "mqtt",
        "broker": f"mqtt://127.0.0.1:{mosquitto}",
        "subscriptions": [{"filter": "line1/#", "decode": "json", "time": "ts", "time_format": "epoch_ms"}],
    }
    tag = {"path": "Acme/Lyon/Line1/N", "source": "line", "address": "line1/counter#n", "type": "float64", "unit": "1"}
    broker = Broker(tmp_path, {"line": source}, [tag], port=free_port())
    yield broker
    broker.stop()


@pytest.mark.slow
async def test_mqtt_kill_loop(mqtt_site: Broker, mosquitto: int, eventually: Eventually) -> None:
    """Eight kills of acquire or core under load: every published value is in SQL, once, in order."""
    random.seed(5)
    broker = mqtt_site
    broker.start("acquire", "core")
    publisher = Publisher(mosquitto)
    await eventually(lambda: _published(broker, publisher), 30)
    first = int(broker.rows("SELECT min(value) FROM records")[0][0])
    for turn in range(8):
        victim = "acquire" if turn % 2 == 0 else "core"
        publishing = asyncio.create_task(asyncio.to_thread(publisher.publish, 150))
        before = broker.count()
        await eventually(lambda before=before, task=publishing: broker.count() > before or task.done(), 20)
        broker.kill(victim)
        broker.start(victim)
        await publishing
    total = publisher.sent
    await eventually(lambda: broker.count("SELECT count(DISTINCT value) FROM records") >= total - first, 60)
    publisher.close()

    rows = [row[0] for row in broker.rows("SELECT value FROM records ORDER BY seq")]
    assert sorted(rows) == [float(n) for n in range(first, total)], "lost or doubled"
    assert broker.end("acquire") == 0
    assert broker.end("core") == 0


def _published(broker: Broker, publisher: Publisher) -> bool:
    """Until the subscription stands, messages would go nowhere: publish one a look and see whether it arrives."""
    if broker.count() == 0:
        publisher.publish(1)
    return broker.count() > 0


@pytest.mark.slow
async def test_modbus_kill_leaves_gaps_and_no_wrong_value(
    tmp_path: Path, free_port: Callable[[], int], eventually: Eventually
) -> None:
    """Where nothing upstream can be acknowledged, the time of a kill is a gap row, and no value is repeated for it."""
    started = time.monotonic()

    def signals() -> dict[str, float]:
        return {"n": round((time.monotonic() - started) * 20)}

    async with ModbusServer(signals, [RegisterPoint("n", "holding", 0, "uint16")]) as plc:
        source = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "scan": "50ms"}
        tag = {"path": "Acme/Lyon/Line1/N", "source": "plc", "address": "40001", "type": "uint16", "unit": "1"}
        broker = Broker(tmp_path, {"plc": source}, [tag], port=free_port())
        try:
            broker.start("acquire", "core")
            for _ in range(3):
                before = broker.count()
                await eventually(lambda before=before: broker.count() > before + 10, 30)
                broker.kill("acquire")
                broker.start("acquire")
            before = broker.count()
            await eventually(lambda: broker.count() > before + 10, 30)
            gaps = broker.rows("SELECT from_ns, to_ns FROM gaps WHERE cause = 'not_running' ORDER BY from_ns")
            rows = broker.rows("SELECT source_ts, value FROM records ORDER BY seq")
        finally:
            broker.stop()

    assert len(gaps) == 3
    assert all(to_ns is not None and to_ns > from_ns for from_ns, to_ns in gaps)
    for from_ns, to_ns in gaps:
        assert not [ns for ns, _ in rows if from_ns < ns < to_ns], "a value inside a gap was made up"
    assert [ns for ns, _ in rows] == sorted({ns for ns, _ in rows}), "doubled or out of order"
    values = [value for _, value in rows]
    assert values == sorted(values), "an old value was repeated as new"
    assert plc.requests.keys() <= {1, 2, 3, 4}
