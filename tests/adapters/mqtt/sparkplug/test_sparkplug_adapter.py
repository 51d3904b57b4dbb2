"""Sparkplug through a real broker: another implementation's node, and a node that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from adapters.mqtt import MqttAdapter
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import Delivery, Gap, GapCause, Sample
from simulators.sparkplug_node import EdgeNode, Metric
from tests import npm_sparkplug
from tests.contract.mosquitto import Mosquitto

Make = Callable[..., MqttAdapter]
SPARKPLUG: dict[str, Any] = {"subscriptions": [{"filter": "spBv1.0/#", "decode": "sparkplug"}]}
ACTIVE: dict[str, Any] = {"role": "secondary_active", "rebirth": "on_need", "rebirth_every": "100ms"}
ADDRESSES = {
    "spBv1.0/Plant/edge#Uptime": "int32",
    "spBv1.0/Plant/edge/press#Temperature": "float64",
    "spBv1.0/Plant/edge/press#Count": "uint32",
}
DEVICES = {
    "": {"Uptime": ("Int32", 1)},
    "press": {"Temperature": ("Double", 60.0), "Count": ("UInt32", 0)},
}


class Reader:
    """Reads and settles until something is there; keeps rows and gaps."""

    def __init__(self, adapter: MqttAdapter) -> None:
        self.adapter = adapter
        self.rows: list[Sample] = []
        self.gaps: list[Gap] = []
        self.reasons: list[str] = []

    async def until(self, condition: Callable[[Reader], object], within_s: float = 60.0) -> None:
        """Read until the condition holds."""
        async with asyncio.timeout(within_s):
            while not condition(self):
                item = await self.adapter.read()
                if isinstance(item, Gap):
                    self.gaps.append(item)
                    continue
                item.batch.check()
                self.rows += item.batch.rows()
                self.reasons += [reject.reason for reject in item.rejects]
                await item.settle()

    def of(self, tag: int) -> list[object]:
        """Values of a tag, or the status where it is not good."""
        return [row.value if row.status == status.GOOD else row.status for row in self.rows if row.tag == tag]


Reading = Callable[..., Awaitable[tuple[MqttAdapter, Reader, EdgeNode]]]


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


async def _meet(adapter: MqttAdapter, edge: EdgeNode, tag: int) -> None:
    """Let the adapter read the births of *edge*, until it has values of *tag*, and end it."""
    await adapter.connect()
    await asyncio.to_thread(edge.connect)
    await Reader(adapter).until(lambda r: r.of(tag))
    await adapter.close()


async def test_the_publisher_of_another_implementation_arrives_as_its_formula_says(
    mosquitto: Mosquitto,
    make: Make,
    need: Callable[[str], str],
    shared: Path,
    pytestconfig: pytest.Config,
) -> None:
    """Births, data by alias and the device's death of the npm publisher, value by value."""
    node, npm = need("node"), need("npm")
    cache = os.environ.get("FAIRLEAD_PEER_CACHE") or str(pytestconfig.cache.mkdir("peers"))  # type: ignore[union-attr]
    folder = await asyncio.to_thread(npm_sparkplug.install, shared / "peers/mqtt", npm, Path(cache))
    press = "spBv1.0/Line/edge/press"
    adapter = make(mosquitto.url, {f"{press}#Temperature": "float64", f"{press}#Count": "uint32"}, **SPARKPLUG)
    await adapter.connect()
    reader = Reader(adapter)
    publisher = subprocess.Popen([node, "sparkplug.js", str(mosquitto.port), "3"], cwd=folder)
    try:
        await reader.until(lambda r: status.BAD_NO_COMMUNICATION in r.of(1), 30)
    finally:
        publisher.kill()
        publisher.wait()

    assert reader.of(0) == [60.0, 60.0, 61.0, 62.0, status.BAD_NO_COMMUNICATION]
    assert reader.of(1) == [0.0, 0.0, 1.0, 2.0, status.BAD_NO_COMMUNICATION]
    assert (reader.reasons, reader.gaps) == ([], [])
    await adapter.close()


async def test_a_node_that_was_there_before_is_asked_for_its_birth(
    mosquitto: Mosquitto, make: Make, node: Callable[..., EdgeNode]
) -> None:
    """With rebirth on_need a new session asks at once, and values come; nothing else is ever published."""
    edge = node(qos=1)  # confirmed: the broker has passed the births on before we come
    await asyncio.to_thread(edge.connect)
    adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG, sparkplug=ACTIVE)
    await adapter.connect()
    reader = Reader(adapter)
    await reader.until(lambda r: r.of(2))

    assert edge.rebirths == 1
    await asyncio.to_thread(edge.data, "press", {"Temperature": 61.5, "Count": 7})
    await reader.until(lambda r: 7.0 in r.of(2))
    assert reader.of(1) == [60.0, 61.5]
    assert adapter.counters["rebirths_requested"] == 1
    await adapter.close()


async def test_by_default_nothing_is_published_and_the_lack_is_told(
    mosquitto: Mosquitto, make: Make, node: Callable[..., EdgeNode]
) -> None:
    """A passive host says what it needs, in facts, quarantine and a gap, and sends no command."""
    edge = node(qos=1)
    await asyncio.to_thread(edge.connect)
    adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG)
    await adapter.connect()
    reader = Reader(adapter)
    await asyncio.to_thread(edge.data, "press", {"Temperature": 61.5})
    await reader.until(lambda r: r.gaps and r.reasons)

    assert edge.rebirths == 0
    assert reader.reasons == ["Plant/edge/press: no birth known"]
    assert reader.gaps[0].to_ns is None
    assert "rebirth needed" in adapter.facts["edge node Plant/edge"]
    await asyncio.to_thread(edge.birth)
    await reader.until(lambda r: r.rows and len(r.gaps) == 2)
    assert reader.gaps[1].to_ns is not None
    await adapter.close()


async def test_births_are_remembered_over_a_restart(
    mosquitto: Mosquitto, make: Make, node: Callable[..., EdgeNode]
) -> None:
    """A new adapter on the kept session reads data by alias without a birth; on a lost session it is uncertain."""
    edge = node()
    await _meet(make(mosquitto.url, ADDRESSES, **SPARKPLUG), edge, 2)

    again = make(mosquitto.url, ADDRESSES, **SPARKPLUG)
    await again.connect()
    assert again.facts["session"] == "resumed"
    assert again.continuity == "unknown"  # the node publishes with QoS 0, of which the broker kept nothing
    reader = Reader(again)
    await asyncio.to_thread(edge.data, "press", {"Count": 11})
    await reader.until(lambda r: r.rows)
    assert reader.of(2) == [11.0]
    assert reader.reasons == []
    await again.close()

    other = make(mosquitto.url, ADDRESSES, client_id="another", **SPARKPLUG)
    await other.connect()
    reader = Reader(other)
    await asyncio.to_thread(edge.data, "press", {"Count": 12})
    await reader.until(lambda r: r.rows or r.reasons)
    assert [(row.value, row.status) for row in reader.rows] == [(12.0, status.UNCERTAIN)]
    await other.close()


@pytest.mark.parametrize(
    ("sparkplug", "stored", "gaps"),
    [(ACTIVE, [], [(0, 1, 2, 3), (1, 2, 3)]), ({}, [(3, 99.0, status.UNCERTAIN)], [(0, 1, 2, 3)])],
    ids=["active", "passive"],
)
async def test_births_missed_while_we_were_away_put_no_good_value_on_a_wrong_tag(
    mosquitto: Mosquitto,
    make: Make,
    node: Callable[..., EdgeNode],
    sparkplug: dict[str, Any],
    stored: list[tuple[int, float, int]],
    gaps: list[tuple[int, ...]],
) -> None:
    """
    A node is born with other aliases while we are away, with QoS 0: its values wait for a birth of theirs.

    Where none may be asked for they do not wait, and are uncertain.
    """
    addresses = {**ADDRESSES, "spBv1.0/Plant/edge/press#Pressure": "float64"}
    edge = node(deaf=True)
    edge.devices["press"]["Pressure"] = ("Double", 5.0)
    await _meet(make(mosquitto.url, addresses, **SPARKPLUG, sparkplug=sparkplug), edge, 3)
    edge.first_alias += 2  # the alias of Temperature is that of Pressure now
    await asyncio.to_thread(edge.birth)
    await asyncio.to_thread(edge.data, "press", {"Count": 1})

    again = make(mosquitto.url, addresses, **SPARKPLUG, sparkplug=sparkplug)
    await again.connect()
    assert again.facts["session"] == "resumed"
    reader = Reader(again)
    await asyncio.to_thread(edge.data, "press", {"Temperature": 99.0})
    await reader.until(lambda r: (r.rows or r.reasons) and len(r.gaps) == len(gaps))
    assert [(row.tag, row.value, row.status) for row in reader.rows] == stored
    assert [gap.tags for gap in reader.gaps] == gaps
    await asyncio.to_thread(edge.birth)
    await reader.until(lambda r: 99.0 in r.of(1))
    assert reader.of(3) == [*(status_ for _, _, status_ in stored), 5.0]
    await again.close()


async def test_a_passive_host_reads_on_behind_a_restart_in_which_data_passed(
    mosquitto: Mosquitto, make: Make, node: Callable[..., EdgeNode]
) -> None:
    """Data of QoS 0 came while we were away: the hole is told, values are uncertain until the device's next birth."""
    edge = node()
    await _meet(make(mosquitto.url, ADDRESSES, **SPARKPLUG), edge, 2)
    await asyncio.to_thread(edge.data, "press", {"Count": 1})

    again = make(mosquitto.url, ADDRESSES, **SPARKPLUG)
    await again.connect()
    reader = Reader(again)
    for count in (2, 3):
        await asyncio.to_thread(edge.data, "press", {"Count": count})
    await reader.until(lambda r: len(r.of(2)) == 2)
    assert [(row.value, row.status) for row in reader.rows] == [(2.0, status.UNCERTAIN), (3.0, status.UNCERTAIN)]
    await asyncio.to_thread(edge.device_birth, "press")
    await asyncio.to_thread(edge.data, "press", {"Count": 4})
    await reader.until(lambda r: 4.0 in r.of(2))

    assert "1 messages before seq 3" in reader.gaps[0].detail
    assert [gap.tags for gap in reader.gaps] == [(0, 1, 2)]
    assert (edge.rebirths, reader.reasons) == (0, [])
    await again.close()


async def test_a_damaged_memory_of_births_is_told_and_awaits_births_anew(
    mosquitto: Mosquitto, make: Make, node: Callable[..., EdgeNode], tmp_path: Path
) -> None:
    """Never a name from a damaged file."""
    edge = node()
    await _meet(make(mosquitto.url, ADDRESSES, **SPARKPLUG), edge, 2)
    path = tmp_path / "state" / "births.bin"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)

    again = make(mosquitto.url, ADDRESSES, **SPARKPLUG)
    await again.connect()
    assert again.counters["births_damaged"] == 1
    reader = Reader(again)
    await asyncio.to_thread(edge.data, "press", {"Count": 11})
    await reader.until(lambda r: r.reasons)
    assert reader.rows == []
    await again.close()


async def test_a_node_that_vanishes_is_said_and_comes_back(node: Callable[..., EdgeNode], reading: Reading) -> None:
    """The will makes every tag of the node bad; the birth of its next connection makes them good again."""
    adapter, reader, edge = await reading(bdseq=1)
    await asyncio.to_thread(edge.drop)
    await reader.until(lambda r: all(r.of(tag)[-1:] == [status.BAD_NO_COMMUNICATION] for tag in range(3)))
    back = node(bdseq=2, first_alias=50)
    await asyncio.to_thread(back.connect)
    await asyncio.to_thread(back.data, "press", {"Temperature": 63.0})
    await reader.until(lambda r: 63.0 in r.of(1))

    assert reader.of(0) == [1.0, status.BAD_NO_COMMUNICATION, 1.0]
    assert reader.of(1) == [60.0, status.BAD_NO_COMMUNICATION, 60.0, 63.0]
    assert reader.reasons == []
    await adapter.close()


async def test_a_node_that_comes_back_at_once_with_the_same_number_is_read(
    mosquitto: Mosquitto,
    make: Make,
    node: Callable[..., EdgeNode],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """We came in the middle of its connection: its will comes before any birth, the birth right behind it."""
    with monkeypatch.context() as patch:
        patch.setattr("simulators.sparkplug_node._now_ms", lambda: time.time_ns() // 10**6 - 3_600_000)
        edge = node(qos=1)  # confirmed: the broker has passed the births on before we come
        await asyncio.to_thread(edge.connect)
    adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG, sparkplug={"reorder": "2s"})
    await adapter.connect()
    reader, back = Reader(adapter), node()
    await asyncio.to_thread(edge.drop)
    await asyncio.to_thread(back.connect)
    await reader.until(lambda r: r.of(2) and adapter.counters["deaths"] + adapter.counters["deaths_ignored"])
    await asyncio.to_thread(back.data, "press", {"Temperature": 63.0})
    await reader.until(lambda r: 63.0 in r.of(1) or r.reasons)

    assert (reader.of(1), reader.reasons, reader.gaps) == ([60.0, 63.0], [], [])
    assert adapter.counters["deaths_ignored"] == 1
    await adapter.close()


async def test_a_lost_message_is_a_gap_and_a_rebirth(reading: Reading) -> None:
    """A hole in the numbers is a gap row over the node's tags, and a reason to ask for its birth."""
    adapter, reader, edge = await reading(sparkplug=ACTIVE)
    before = edge.rebirths
    edge.seq += 3
    await asyncio.to_thread(edge.data, "press", {"Count": 1})
    await reader.until(lambda r: r.gaps and 1.0 in r.of(2))
    await reader.until(lambda _: edge.rebirths > before and adapter.counters["births"] >= 4)

    assert (reader.gaps[0].cause, reader.gaps[0].tags) == (GapCause.SEQUENCE_GAP, (0, 1, 2))
    assert (reader.gaps[1].tags, reader.gaps[1].to_ns) == ((1, 2), None)  # unnamed until the birth
    assert "3 messages before seq 5" in reader.gaps[0].detail
    await adapter.close()


async def test_a_lost_message_does_not_end_the_reading_of_a_passive_host(reading: Reading) -> None:
    """Nothing is published; values are uncertain until the node's next birth, over a reconnect too, then good."""
    adapter, reader, edge = await reading()
    edge.seq += 1
    for count in (1, 2):
        await asyncio.to_thread(edge.data, "press", {"Count": count})
    await reader.until(lambda r: [row.value for row in r.rows if row.tag == 2] == [0.0, 1.0, 2.0])
    await adapter.connect()
    await asyncio.to_thread(edge.data, "press", {"Count": 3})
    await reader.until(lambda r: len(r.of(2)) == 4)
    assert reader.of(2) == [0.0, *[status.UNCERTAIN] * 3]
    await asyncio.to_thread(edge.birth)
    await asyncio.to_thread(edge.data, "press", {"Count": 4})
    await reader.until(lambda r: 4.0 in r.of(2))

    assert [gap.cause for gap in reader.gaps] == [GapCause.SEQUENCE_GAP]
    assert (edge.rebirths, reader.reasons) == (0, [])
    await adapter.close()


async def test_what_waits_for_its_birth_is_acknowledged_behind_it(reading: Reading) -> None:
    """A message that waits holds back the acknowledgements behind it: a restart in between loses nothing."""
    adapter, reader, edge = await reading(qos=1, sparkplug={"reorder": "5s"})
    await asyncio.to_thread(edge.send, "DDATA", "press", [Metric("Count", "UInt32", 5)])
    await reader.until(lambda r: 5.0 in r.of(2))
    missing = edge.seq
    edge.seq += 1
    await asyncio.to_thread(edge.data, "press", {"Count": 6})  # waits for the one that is missing
    with pytest.raises(TimeoutError):
        await reader.until(lambda r: 6.0 in r.of(2), 0.5)
    assert adapter.counters["reordered"] == 1
    await adapter.connect()
    edge.seq = missing
    await asyncio.to_thread(edge.data, "press", {"Temperature": 61.0})
    await reader.until(lambda r: 6.0 in r.of(2))

    assert reader.of(2) == [0.0, 5.0, 6.0]
    assert reader.of(1) == [60.0, 61.0]
    assert reader.gaps == []
    await adapter.close()


async def test_a_primary_host_says_that_it_is_there_and_that_it_is_gone(
    mosquitto: Mosquitto, make: Make, eventually: Callable[..., Any]
) -> None:
    """STATE is retained, true while we are connected, false by our farewell or by the broker in our name."""
    said: list[dict[str, Any]] = []
    listener = mqtt.Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: said.append(json.loads(message.payload))
    listener.on_connect = lambda client, *_: client.subscribe("spBv1.0/STATE/site", 1)
    listener.connect("127.0.0.1", mosquitto.port)
    listener.loop_start()
    role = {"role": "primary", "host_id": "site"}
    only = [{"filter": "spBv1.0/Plant/#", "decode": "sparkplug"}]
    adapter = make(mosquitto.url, ADDRESSES, subscriptions=only, sparkplug=role)
    try:
        await adapter.connect()
        await eventually(lambda: said and said[-1]["online"])
        since = said[-1]["timestamp"]
        await adapter.close()
        await eventually(lambda: not said[-1]["online"])
        await adapter.connect()
        await eventually(lambda: said[-1]["online"])
        listener.publish("spBv1.0/STATE/site", json.dumps({"online": False, "timestamp": since}), 1, True)
        count = len(said)
        reading = asyncio.create_task(adapter.read())
        await eventually(lambda: len(said) > count + 1 and said[-1]["online"])  # another's word about us is put right
        assert adapter._session is not None
        adapter._session._client._sock.shutdown(2)  # type: ignore[union-attr]
        await eventually(lambda: not said[-1]["online"])
        with pytest.raises(NotConnected):
            await reading
    finally:
        listener.disconnect()
        listener.loop_stop()
        await adapter.close()


async def test_a_newer_word_that_the_primary_host_is_gone_renews_state_and_will(
    mosquitto: Mosquitto, make: Make, eventually: Callable[..., Any]
) -> None:
    """
    Edge nodes pass over a STATE that is older than the last: our online must not be older than another's offline, nor
    our will older than our online. So both come anew, with a connection of their own.
    """
    said: list[dict[str, Any]] = []
    listener = mqtt.Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: said.append(json.loads(message.payload))
    listener.on_connect = lambda client, *_: client.subscribe("spBv1.0/STATE/site", 1)
    listener.connect("127.0.0.1", mosquitto.port)
    listener.loop_start()
    adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG, sparkplug={"role": "primary", "host_id": "site"})
    try:
        await adapter.connect()
        await eventually(lambda: said and said[-1]["online"])
        foreign = {"online": False, "timestamp": said[-1]["timestamp"] + 3_600_000}
        listener.publish("spBv1.0/STATE/site", json.dumps(foreign), 1, True)
        with pytest.raises(NotConnected, match="another client says that we are offline"):
            await asyncio.wait_for(adapter.read(), 60)
        await adapter.connect()
        await eventually(lambda: said[-1]["online"])
        assert said[1:] == [foreign, {"online": True, "timestamp": foreign["timestamp"]}]
        assert adapter.counters["state_contradicted"] == 1

        reading = asyncio.create_task(adapter.read())
        assert adapter._session is not None
        adapter._session._client._sock.shutdown(2)  # type: ignore[union-attr]
        await eventually(lambda: not said[-1]["online"])
        assert said[-1]["timestamp"] == foreign["timestamp"]  # the will is the pair of the last online
        with pytest.raises(NotConnected):
            await reading
        await adapter.connect()
        await eventually(lambda: said[-1]["online"])
        await adapter.close()
        await eventually(lambda: not said[-1]["online"])
        assert said[-1]["timestamp"] >= said[-2]["timestamp"]
    finally:
        listener.disconnect()
        listener.loop_stop()
        await adapter.close()


@pytest.mark.parametrize("payload", [b'{"online": false}', b'{"online": false, "timestamp": "now"}'])
async def test_a_word_without_a_time_that_the_primary_host_is_gone_is_put_right_at_once(
    mosquitto: Mosquitto, make: Make, eventually: Callable[..., Any], payload: bytes
) -> None:
    """It is older than nothing: the online message of this connection stands against it."""
    said: list[bytes] = []
    listener = mqtt.Client(CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: said.append(message.payload)
    listener.on_connect = lambda client, *_: client.subscribe("spBv1.0/STATE/site", 1)
    listener.connect("127.0.0.1", mosquitto.port)
    listener.loop_start()
    adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG, sparkplug={"role": "primary", "host_id": "site"})
    try:
        await adapter.connect()
        await eventually(lambda: said)
        reading = asyncio.create_task(adapter.read())
        listener.publish("spBv1.0/STATE/site", payload, 1, True)
        await eventually(lambda: len(said) == 3)
        assert said == [said[0], payload, said[0]]
        reading.cancel()
    finally:
        listener.disconnect()
        listener.loop_stop()
        await adapter.close()


async def test_births_are_kept_only_behind_what_is_settled(
    mosquitto: Mosquitto, make: Make, node: Callable[..., EdgeNode], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    """A birth without rows of ours moves nothing while the delivery before it may still come again."""
    other = "spBv1.0/Plant/other/press#Temperature"
    adapter = make(mosquitto.url, {"spBv1.0/Plant/edge#Uptime": "int32", other: "float64"}, **SPARKPLUG)
    await adapter.connect()
    await asyncio.to_thread(node(qos=1).connect)
    first = await asyncio.wait_for(adapter.read(), 60)
    assert isinstance(first, Delivery)
    reading = asyncio.create_task(adapter.read())
    before = adapter.covered_ns
    second = node(qos=1, node="other")
    second.devices = {"": {}}
    await asyncio.to_thread(second.connect)
    await eventually(lambda: adapter.facts["edge node Plant/other"].startswith("online"))
    births = tmp_path / "state" / "births.bin"

    assert not births.exists()
    assert adapter.covered_ns == before
    await first.settle()
    assert births.exists()
    assert adapter.covered_ns is not None
    assert before is not None
    assert adapter.covered_ns > before
    reading.cancel()
    await adapter.close()


async def test_a_delivery_that_is_refused_forgets_what_it_taught(
    mosquitto: Mosquitto, make: Make, node: Callable[..., EdgeNode]
) -> None:
    """Births of a delivery that the journal did not take come again with it, in their order."""
    adapter = make(mosquitto.url, ADDRESSES, **SPARKPLUG)
    await adapter.connect()
    edge = node(qos=1)
    await asyncio.to_thread(edge.connect)
    item = await asyncio.wait_for(adapter.read(), 60)
    assert isinstance(item, Delivery)
    await item.settle(OSError("disk full"))
    with pytest.raises(NotConnected):
        await adapter.read()
    await adapter.connect()
    reader = Reader(adapter)
    await asyncio.to_thread(edge.data, "press", {"Count": 3})
    await reader.until(lambda r: 3.0 in r.of(2))

    assert reader.of(2) == [0.0, 3.0]
    assert reader.reasons == []
    await adapter.close()


async def test_a_refused_birth_that_does_not_come_again_is_not_replaced_by_the_one_before(reading: Reading) -> None:
    """With QoS 0 it is lost with its delivery; the numbers fit the earlier birth, and yet its aliases are not used."""
    adapter, reader, edge = await reading()
    rows = len(reader.rows)
    edge.first_alias += 1  # the alias of Temperature is that of Count now
    await asyncio.to_thread(edge.birth)
    item = await asyncio.wait_for(adapter.read(), 60)
    while adapter.counters["births"] < 4:  # the two may come one by one
        assert isinstance(item, Delivery)
        await item.settle()
        item = await asyncio.wait_for(adapter.read(), 60)
    assert isinstance(item, Delivery)
    await item.settle(OSError("disk full"))
    with pytest.raises(NotConnected):
        await adapter.read()
    await adapter.connect()
    await asyncio.to_thread(edge.data, "press", {"Temperature": 99.0})
    await reader.until(lambda r: r.reasons)

    assert reader.reasons == ["Plant/edge/press: no birth known"]
    assert len(reader.rows) == rows
    assert reader.gaps[0].tags == (0, 1, 2)
    await adapter.close()
