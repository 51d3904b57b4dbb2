"""The MQTT adapter on a real mosquitto: what is acknowledged, what comes again, what is told."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from adapters.mqtt import MqttAdapter
from adapters.mqtt.message import Block
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import Delivery, Gap, GapCause, Sample
from schemas.status import Flag
from tests.contract.mosquitto import Mosquitto

Make = Callable[..., MqttAdapter]
VERSIONS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])
NUMBERS = {"line1/n#v": "int32"}


def _numbers(begin: int, end: int) -> list[tuple[str, str]]:
    return [("line1/n", json.dumps({"v": n})) for n in range(begin, end)]


async def _read(adapter: MqttAdapter, within_s: float = 60.0) -> Delivery:
    item = await asyncio.wait_for(adapter.read(), within_s)
    assert isinstance(item, Delivery)
    return item


async def _settled(adapter: MqttAdapter, rows: int) -> list[Sample]:
    """Read and settle until so many rows came."""
    got: list[Sample] = []
    while len(got) < rows:
        delivery = await _read(adapter)
        got += delivery.batch.rows()
        await delivery.settle()
    return got


def _values(rows: Sequence[Sample]) -> list[object]:
    return [row.value for row in rows]


@VERSIONS
async def test_messages_arrive_in_order_and_are_acknowledged_when_settled(
    mosquitto: Mosquitto, make: Make, protocol: str
) -> None:
    """Settled messages are the broker's no more: nothing comes again after reconnecting."""
    adapter = make(mosquitto.url, NUMBERS, protocol=protocol)
    await adapter.connect()
    assert adapter.facts["session"] == "new"
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 300))

    assert _values(await _settled(adapter, 300)) == list(range(300))

    await adapter.connect()
    assert adapter.facts["session"] == "resumed"
    await asyncio.to_thread(mosquitto.publish, _numbers(300, 301))
    assert _values(await _settled(adapter, 1)) == [300]
    await adapter.close()


@VERSIONS
async def test_unsettled_messages_are_delivered_again(mosquitto: Mosquitto, make: Make, protocol: str) -> None:
    """A session that goes away without settling gets everything again, in order, flagged as possible repetition."""
    adapter = make(mosquitto.url, NUMBERS, protocol=protocol)
    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 50))
    lost = await _read(adapter)
    await adapter.close()
    await lost.settle(None)  # too late: the connection it belongs to is gone

    await adapter.connect()
    rows = await _settled(adapter, 50)

    assert _values(rows) == list(range(50))
    assert all(row.flags & Flag.DUP_POSSIBLE for row in rows[: len(lost.batch)])
    await adapter.close()


async def test_acknowledging_at_arrival_would_lose_messages(
    mosquitto: Mosquitto, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the test above: acknowledged when it arrives, nothing comes again."""
    adapter = make(mosquitto.url, NUMBERS)
    await adapter.connect()
    assert adapter._session is not None
    client = adapter._session._client
    queue = client.on_block

    def at_once(block: Block) -> None:
        client.acknowledge(block.mids)
        queue(block)

    monkeypatch.setattr(client, "on_block", at_once)
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 50))
    lost = await _read(adapter)
    await adapter.close()
    await lost.settle(None)

    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(50, 51))
    again = _values(await _settled(adapter, 1))

    assert len(lost.batch) > 0
    assert again[0] != 0
    await adapter.close()


@VERSIONS
async def test_a_backlog_longer_than_the_queue_arrives_whole(mosquitto: Mosquitto, make: Make, protocol: str) -> None:
    """What the broker kept comes before its answer to the subscription; however much it is, reading begins."""
    adapter = make(mosquitto.url, NUMBERS, protocol=protocol)
    await adapter.connect()
    await adapter.close()
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 6000))
    await asyncio.wait_for(adapter.connect(), 60)

    rows = await _settled(adapter, 6000)

    assert _values(rows) == list(range(6000))
    assert adapter.facts["filter line1/#"] == "granted QoS 1"
    await adapter.close()


async def test_a_withheld_settlement_closes_the_window(mosquitto: Mosquitto, make: Make) -> None:
    """The broker sends no more than ``receive_maximum`` unacknowledged messages, and goes on after settling."""
    adapter = make(mosquitto.url, NUMBERS, receive_maximum=10)
    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 40))
    held = [await _read(adapter)]
    while sum(len(d.batch) for d in held) < 10:
        held.append(await _read(adapter))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(adapter.read(), 0.3)

    for delivery in held:
        await delivery.settle()
    assert _values(await _settled(adapter, 30)) == list(range(10, 40))
    await adapter.close()


async def test_acknowledgements_leave_in_the_order_of_arrival(mosquitto: Mosquitto, make: Make) -> None:
    """Settling the later delivery first acknowledges nothing before the earlier one is settled."""
    adapter = make(mosquitto.url, NUMBERS, receive_maximum=10)
    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 1))
    first = await _read(adapter)
    await asyncio.to_thread(mosquitto.publish, _numbers(1, 2))
    second = await _read(adapter)
    await second.settle()
    await adapter.close()
    await adapter.connect()

    assert _values(await _settled(adapter, 2)) == [0, 1]
    await first.settle()
    await adapter.close()


async def test_a_refused_delivery_comes_again(mosquitto: Mosquitto, make: Make) -> None:
    """When the journal cannot take a delivery, the connection is dropped and the broker delivers again."""
    adapter = make(mosquitto.url, NUMBERS)
    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 20))
    await (await _read(adapter)).settle(OSError("disk full"))

    with pytest.raises(NotConnected, match="disk full"):
        await adapter.read()
    await adapter.connect()

    assert _values(await _settled(adapter, 20)) == list(range(20))
    await adapter.close()


async def test_a_bad_message_is_refused_acknowledged_and_costs_nothing_else(mosquitto: Mosquitto, make: Make) -> None:
    """Malformed messages are quarantined once; they do not come again and the others arrive."""
    adapter = make(mosquitto.url, NUMBERS)
    await adapter.connect()
    bad: list[tuple[str, str | bytes]] = [("line1/n", b'{"v": '), ("line1/n", b"\xff"), ("line1/n", '{"v": "0x1F"}')]
    await asyncio.to_thread(mosquitto.publish, [*_numbers(0, 1), *bad, *_numbers(1, 2)])
    rows, raws = [], []
    while len(rows) < 2 or len(raws) < 3:
        delivery = await _read(adapter)
        rows += delivery.batch.rows()
        raws += [reject.raw for reject in delivery.rejects]
        await delivery.settle()
    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(2, 3))

    assert _values(rows) == [0, 1]
    assert raws == [raw for _, raw in bad[:2]] + [b'{"v": "0x1F"}']
    assert _values(await _settled(adapter, 1)) == [2]
    await adapter.close()


@VERSIONS
async def test_a_retained_message_is_uncertain(mosquitto: Mosquitto, make: Make, protocol: str) -> None:
    """What the broker kept from before is a last known value, not a fresh one."""
    await asyncio.to_thread(mosquitto.publish, _numbers(7, 8), 1, True)
    adapter = make(mosquitto.url, NUMBERS, protocol=protocol)
    await adapter.connect()

    (row,) = await _settled(adapter, 1)

    assert (row.value, row.status) == (7.0, status.UNCERTAIN_LAST_USABLE)
    assert row.flags & Flag.RETAINED
    assert row.flags & Flag.ARRIVAL_TIME
    await adapter.close()


async def test_mqtt_5_sends_retained_messages_once(mosquitto: Mosquitto, make: Make) -> None:
    """Reconnecting to a kept session does not bring the old value with a new arrival time (M11)."""
    await asyncio.to_thread(mosquitto.publish, _numbers(7, 8), 1, True)
    adapter = make(mosquitto.url, NUMBERS)
    await adapter.connect()
    await _settled(adapter, 1)
    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(8, 9))

    assert _values(await _settled(adapter, 1)) == [8]
    await adapter.close()


async def test_a_lost_session_is_a_gap_and_a_new_one_is_not(mosquitto: Mosquitto, make: Make) -> None:
    """A broker that forgot our session is told as a gap from the last message to now, after a restart of ours too."""
    adapter = make(mosquitto.url, NUMBERS)
    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 1))
    (row,) = await _settled(adapter, 1)
    await adapter.close()
    mosquitto.stop()
    mosquitto.start()

    again = make(mosquitto.url, NUMBERS)
    await again.connect()
    gap = await asyncio.wait_for(again.read(), 60)

    assert isinstance(gap, Gap)
    assert (gap.cause, gap.tags, gap.from_ns) == (GapCause.SESSION_LOST, (), row.source_ns)
    assert gap.to_ns is not None
    assert gap.to_ns > gap.from_ns
    await again.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(1, 2))
    assert _values(await _settled(again, 1)) == [1]
    await again.close()


async def test_filters_that_vanished_are_unsubscribed(mosquitto: Mosquitto, make: Make) -> None:
    """The kept session does not go on delivering what the configuration no longer names."""
    both = [{"filter": "line1/#", "decode": "json"}, {"filter": "line2/#", "decode": "json"}]
    before = make(mosquitto.url, NUMBERS, subscriptions=both)
    await before.connect()
    await before.close()
    after = make(mosquitto.url, NUMBERS)
    await after.connect()
    await asyncio.to_thread(mosquitto.publish, [("line2/n", '{"v": 1}'), *_numbers(0, 1)])

    await _settled(after, 1)

    assert after.counters["messages"] == 1
    await after.close()


@VERSIONS
async def test_a_shared_subscription_divides_the_messages(mosquitto: Mosquitto, make: Make, protocol: str) -> None:
    """Two adapters under one name get each message once between them, each in rising order."""
    shared = [{"filter": "$share/fairlead/line1/#", "decode": "json"}]
    both = [make(mosquitto.url, NUMBERS, name, subscriptions=shared, protocol=protocol) for name in ("a", "b")]
    for adapter in both:
        await adapter.connect()
        assert adapter.facts["filter $share/fairlead/line1/#"] == "granted QoS 1"
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 100))

    parts: list[list[object]] = [[], []]

    async def collect(adapter: MqttAdapter, part: list[object]) -> None:
        while len(parts[0]) + len(parts[1]) < 100:
            delivery = await adapter.read()
            assert isinstance(delivery, Delivery)
            part += _values(list(delivery.batch.rows()))
            await delivery.settle()

    tasks = [asyncio.create_task(collect(*pair)) for pair in zip(both, parts, strict=True)]
    await asyncio.wait(tasks, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert sorted(map(int, [*parts[0], *parts[1]])) == list(range(100))  # type: ignore[call-overload]
    assert all(part and part == sorted(part) for part in parts)  # type: ignore[type-var]
    for adapter in both:
        await adapter.close()


async def test_qos_0_is_read_without_a_promise(mosquitto: Mosquitto, make: Make) -> None:
    """With ``qos: 0`` values come, and a lost session is no gap of ours."""
    adapter = make(mosquitto.url, NUMBERS, qos=0)
    await adapter.connect()
    assert adapter.facts["filter line1/#"] == "granted QoS 0"
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 5))
    assert _values(await _settled(adapter, 5)) == list(range(5))
    await adapter.close()


async def test_a_dead_broker_is_noticed_after_what_came_was_read(mosquitto: Mosquitto, make: Make) -> None:
    """Messages that arrived before the connection broke are delivered before it is reported."""
    adapter = make(mosquitto.url, NUMBERS)
    await adapter.connect()
    await asyncio.to_thread(mosquitto.publish, _numbers(0, 5))
    mosquitto.stop()

    rows = await _settled(adapter, 5)

    assert _values(rows) == list(range(5))
    with pytest.raises(NotConnected, match="connection broke"):
        await adapter.read()
    with pytest.raises(NotConnected, match="no connection to"):
        await adapter.connect()
    await adapter.close()


async def test_a_wrong_password_is_told(
    need: Callable[[str], str],
    tmp_path: Path,
    free_port: Callable[[], int],
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that refuses the login gives its reason, and the right password works."""
    (tmp_path / "pw").write_text("line:right\n")
    (tmp_path / "pw").chmod(0o600)
    subprocess.run([need("mosquitto_passwd"), "-U", str(tmp_path / "pw")], check=True)
    broker = Mosquitto(need("mosquitto"), tmp_path, free_port(), f"password_file {tmp_path / 'pw'}", "user root")
    broker._config.write_text(broker._config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    monkeypatch.setenv("WRONG", "wrong")
    monkeypatch.setenv("RIGHT", "right")
    with broker.running():
        adapter = make(broker.url, NUMBERS, user={"name": "line", "password": "env:WRONG"})
        with pytest.raises(NotConnected, match=r"(?i)not authori[sz]ed|bad user name"):
            await adapter.connect()
        adapter = make(broker.url, NUMBERS, user={"name": "line", "password": "env:RIGHT"})
        await adapter.connect()
        await adapter.close()


async def test_closing_leaves_no_thread(mosquitto: Mosquitto, make: Make, eventually: Callable[..., object]) -> None:
    """After close, and after a connect that was cancelled, no network thread of ours is alive."""
    adapter = make(mosquitto.url, NUMBERS)
    await adapter.connect()
    task = asyncio.create_task(adapter.connect())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await adapter.close()

    def gone() -> bool:
        return not [t for t in threading.enumerate() if t.name.startswith("paho-mqtt-client-fairlead")]

    await eventually(gone)  # type: ignore[misc]


def test_the_environment_cannot_name_a_proxy(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would take a proxy from the environment where PySocks is installed; our client never does."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    from adapters.mqtt.client import Client

    class Socks:
        HTTP, SOCKS4, SOCKS5 = 3, 1, 2

        @staticmethod
        def get_default_proxy() -> None:
            return None

    monkeypatch.setattr(mqtt, "socks", Socks)
    monkeypatch.setenv("mqtt_proxy", "socks://192.0.2.1:1080")
    monkeypatch.delenv("no_proxy", raising=False)

    assert mqtt.Client(CallbackAPIVersion.VERSION2)._get_proxy() is not None  # the trap is there
    assert Client(CallbackAPIVersion.VERSION2)._get_proxy() is None


async def test_the_shared_publisher_arrives_as_its_formula_says(
    mosquitto: Mosquitto, make: Make, shared: Path, need: Callable[[str], str]
) -> None:
    """Three rounds of the independent publisher come out as its script computes them."""
    need("mosquitto_pub")
    adapter = make(
        mosquitto.url,
        {"line1/press/json#temperature": None, "line1/press/json#running": "bool", "line1/press/json#seq": "int32"}
        | {"line1/press/temperature": None, "line1/press/array": None, "line1/press/config#recipe": "string[4]"},
        subscriptions=[
            {"filter": "line1/press/json", "decode": "json"},
            {"filter": "line1/press/array", "decode": "json"},
            {"filter": "line1/press/config", "decode": "json"},
            {"filter": "line1/press/temperature", "decode": "plain"},
        ],
    )
    await adapter.connect()
    script = subprocess.Popen(["sh", str(shared / "peers/mqtt/publish.sh"), str(mosquitto.port), "2"])
    rows = await _settled(adapter, 11)
    await asyncio.to_thread(script.wait)
    await adapter.close()

    def of(tag: int) -> list[object]:
        return [row.value for row in rows if row.tag == tag]

    assert of(0) == [60.5, 61.5]
    assert of(1) == [1.0, 1.0]
    assert of(2) == [0.0, 1.0]
    assert of(3) == [60.5, 61.5]
    assert of(4) == [[0, 1], [1, 2]]
    assert of(5) == ["R0"]
