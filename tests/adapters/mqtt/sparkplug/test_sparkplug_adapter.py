"""Sparkplug through a real broker: another implementation's node, and a node that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import status
from schemas.samples import GapCause
from simulators.sparkplug_node import EdgeNode, Metric
from tests import npm_sparkplug
from tests.adapters.mqtt.sparkplug.reader import (
    ACTIVE,
    ADDRESSES,
    SPARKPLUG,
    Make,
    Reader,
    Reading,
)
from tests.contract.mosquitto import Mosquitto


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
    await reader.until(lambda r: len(r.gaps) > 1 and 1.0 in r.of(2))
    await reader.until(lambda _: edge.rebirths > before and adapter.counters["births"] >= 4)

    assert (reader.gaps[0].cause, reader.gaps[0].tags) == (GapCause.SEQUENCE_GAP, (0, 1, 2))
    assert (reader.gaps[1].tags, reader.gaps[1].to_ns) == ((1, 2), None)  # unnamed until the birth
    assert "3 messages before seq " in reader.gaps[0].detail
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
