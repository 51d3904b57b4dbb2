"""``kill -9`` of acquire or core at any moment: nothing settled is lost, nothing is doubled in SQL."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from schemas.status import Flag
from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]
DOWN = "SELECT count(*) FROM gaps WHERE cause = 'not_running' AND to_ns IS NOT NULL"


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
def make_site(mosquitto: int, free_port: Callable[[], int], tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """A broker that reads the counter; ``make_site(timed=False)``: without the time in its payload."""
    made: list[Broker] = []

    def make(*, timed: bool) -> Broker:
        when = {"time": "ts", "time_format": "epoch_ms"} if timed else {}
        subscription = {"filter": "line1/#", "decode": "json", **when}
        source = {"kind": "mqtt", "broker": f"mqtt://127.0.0.1:{mosquitto}", "subscriptions": [subscription]}
        path = "Acme/Lyon/Line1/N"
        tag = {"path": path, "source": "line", "address": "line1/counter#n", "type": "float64", "unit": "1"}
        made.append(Broker(tmp_path, {"line": source}, [tag], port=free_port()))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("timed", [True, False], ids=["with a time", "without a time"])
async def test_mqtt_kill_loop(
    make_site: Callable[..., Broker],
    mosquitto: int,
    eventually: Eventually,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
    timed: bool,
) -> None:
    """
    Kills of acquire or core under load: every published value is in SQL, in order; once, where the payload has a time.

    Where it has none a value that came again is kept, and flagged.
    """
    kills = scale(4, 50) if timed else scale(2, 20)
    broker = make_site(timed=timed)
    broker.start("acquire", "core")
    publisher = Publisher(mosquitto)
    await eventually(lambda: _published(broker, publisher), 240)
    first = int(broker.rows("SELECT min(value) FROM records")[0][0])
    slowest = 0.0
    for turn in range(kills):
        victim = "acquire" if turn % 2 == 0 else "core"
        publishing = asyncio.create_task(asyncio.to_thread(publisher.publish, 150))
        before = broker.count()
        await eventually(lambda before=before, task=publishing: broker.count() > before or task.done(), 240)
        broker.kill(victim)
        before, begun = broker.count(), time.monotonic()
        broker.start(victim)
        await publishing
        await eventually(lambda before=before: broker.count() > before, 240)
        slowest = max(slowest, time.monotonic() - begun)
    total = publisher.sent
    await eventually(lambda: broker.count("SELECT count(DISTINCT value) FROM records") >= total - first, 240)
    publisher.close()

    found = broker.rows("SELECT value, flags FROM records ORDER BY seq")
    values = [value for value, _ in found]
    lost = len(set(map(float, range(first, total))) - set(values))
    doubled = len(values) - len(set(values))
    flagged = sum(bool(flags & Flag.DUP_POSSIBLE) for _, flags in found)
    figures(
        f"F1 kill -9 of acquire or core, MQTT QoS 1, {'a time' if timed else 'no time'} in the payload",
        f"{kills} kills, {len(set(values))} values in SQL",
        lost=lost,
        doubled=doubled,
        wrong=sum(value not in range(first, total) for value in values),
        recovery_s=round(slowest, 1),
        control="settled at arrival (see F1, the adapter)" if timed else f"{flagged} rows flagged dup_possible",
    )
    assert lost == 0
    if timed:
        assert values == [float(n) for n in range(first, total)], "doubled, or out of order"
    else:
        assert doubled <= flagged, "a repeat without its flag"
        firsts = list(dict.fromkeys(values))
        assert firsts == sorted(firsts), "out of order"
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
            for turn in range(3):
                before = broker.count()
                await eventually(lambda before=before: broker.count() > before + 10, 240)
                broker.kill("acquire")
                broker.start("acquire")
                # rows of before the kill may still be on their way: what counts is that the new process was heard
                await eventually(lambda turn=turn: broker.count(DOWN) == turn + 1, 240)
            before = broker.count()
            await eventually(lambda: broker.count() > before + 10, 240)
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
