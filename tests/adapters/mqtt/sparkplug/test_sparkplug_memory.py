"""Births over restarts, absences and refused deliveries, through a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.mqtt import MqttAdapter
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import Delivery
from simulators.sparkplug_node import EdgeNode
from tests.adapters.mqtt.sparkplug.reader import (
    ACTIVE,
    ADDRESSES,
    SPARKPLUG,
    Make,
    Reader,
    Reading,
)
from tests.contract.mosquitto import Mosquitto


async def _meet(adapter: MqttAdapter, edge: EdgeNode, tag: int) -> None:
    """Let the adapter read the births of *edge*, until it has values of *tag*, and end it."""
    await adapter.connect()
    await asyncio.to_thread(edge.connect)
    await Reader(adapter).until(lambda r: r.of(tag))
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
    await asyncio.to_thread(edge.passed_on)

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
    await asyncio.to_thread(edge.passed_on)

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
