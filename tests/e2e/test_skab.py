"""A labelled recording of a real test bed through MQTT: the closed valve becomes one episode, and only it."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]
S = 1_000_000_000
BENCH = "Acme/Lyon/TestBed/Loop1"
TOPIC = "testbed/loop1"
#: Seconds of the recording in one second. What detection counts in ticks (grouping, closing) passes in real time, so
#: it is configured shorter by the same factor; what it learns it counts in the recording's own time.
SPEED = 80
SENSORS = {
    "Accelerometer1RMS": "[g]",
    "Accelerometer2RMS": "[g]",
    "Current": "A",
    "Pressure": "bar",
    "Temperature": "Cel",
    "Thermocouple": "Cel",
    "Voltage": "V",
    "Volume Flow RateRMS": "L/min",
}


class Row(NamedTuple):
    """One line of the recording."""

    time_ns: int
    payload: str
    anomalous: bool


def recording(path: Path) -> list[Row]:
    """The lines with their own times, as JSON messages."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file, delimiter=";"))
    rows = []
    for line in lines:
        at = datetime.fromisoformat(line["datetime"]).replace(tzinfo=UTC)
        values = {name: float(line[name]) for name in SENSORS}
        payload = json.dumps({"time": at.isoformat(), **values})
        rows.append(Row(int(at.timestamp()) * S, payload, float(line["anomaly"]) > 0))
    return rows


def play(rows: list[Row], port: int) -> None:
    """Publish at :data:`SPEED` with QoS 1; returns when the MQTT broker has taken the last message."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    begin_s, first_ns = time.monotonic(), rows[0].time_ns
    try:
        for row in rows:
            due_s = begin_s + (row.time_ns - first_ns) / 1e9 / SPEED
            pause_s = due_s - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)  # the pace of the recording, not a wait for something
            last = client.publish(TOPIC, row.payload, 1)
        last.wait_for_publish(60)
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def bench(mosquitto: int, free_port: Callable[[], int], tmp_path: Path) -> Iterator[Broker]:
    """A broker that listens to the test bed; the page's API is on."""
    subscription = {"filter": TOPIC, "decode": "json", "time": "time"}
    source = {"kind": "mqtt", "broker": f"mqtt://127.0.0.1:{mosquitto}", "subscriptions": [subscription]}
    tags: list[dict[str, Any]] = [
        {
            "path": f"{BENCH}/{name.replace(' ', '')}",
            "source": "testbed",
            "address": f'{TOPIC}#"{name}"',
            "type": "float64",
            "unit": unit,
        }
        for name, unit in SENSORS.items()
    ]
    detection = {
        "clean_window": "400s",
        "group_window": f"{60 / SPEED}s",
        "close_after": f"{300 / SPEED}s",
    }
    equipment = [{"path": BENCH, "level": "Unit", "class": "centrifugal_pump"}]
    broker = Broker(tmp_path, {"testbed": source}, tags, port=free_port(), equipment=equipment, detection=detection)
    broker.start("acquire", "core")
    yield broker
    broker.stop()


@pytest.mark.slow
async def test_the_labelled_anomaly_becomes_an_episode(
    shared: Path, bench: Broker, mosquitto: int, eventually: Eventually
) -> None:
    """Every row is stored as it stands in the file; the episode lies in the label, nothing is found before it."""
    rows = recording(shared / "data" / "skab" / "valve1" / "3.csv")
    labelled = [row.time_ns for row in rows if row.anomalous]
    await eventually(lambda: bench.source("testbed").get("facts", {}).get("session"), 240)
    await asyncio.to_thread(play, rows, mosquitto)
    await eventually(lambda: bench.count() == len(rows) * len(SENSORS), 240)
    await eventually(lambda: bench.count("SELECT count(*) FROM v_anomalies WHERE state = 'closed'") >= 1, 240)

    columns = "SELECT source_ns, value FROM v_records WHERE path = ? ORDER BY seq"
    for name in SENSORS:
        want = [(row.time_ns, json.loads(row.payload)[name]) for row in rows]
        assert bench.rows(columns, f"{BENCH}/{name.replace(' ', '')}") == want

    listed = bench.get("/api/v1/anomalies")["anomalies"]
    details = [bench.get(f"/api/v1/anomalies/{item['anomaly_id']}") for item in listed]
    for item, detail in zip(listed, details, strict=True):
        members = ", ".join(member["path"].rpartition("/")[2] for member in detail["anomaly"]["members"])
        print(f"\n{item['onset']} to {item['closed']}: {item['title']} ({members}); {item['cause']}")
    # the chart dates an onset to the last subgroup that was quiet, a few samples before the valve moved
    assert all(detail["anomaly"]["onset_ns"] >= labelled[0] - 10 * S for detail in details), "found in the normal part"
    inside = [
        (item, detail)
        for item, detail in zip(listed, details, strict=True)
        if detail["anomaly"]["onset_ns"] <= labelled[-1]
    ]
    assert inside
    item, detail = inside[-1]  # the first that was found
    assert detail["anomaly"]["updated_ns"] > labelled[0]
    assert (item["equipment"], item["state"], item["origin"]) == (BENCH, "closed", "rules")
    assert [one["revision"] for one in detail["revisions"]] == list(range(item["revision"] + 1))
    assert {note["origin"] for note in detail["annotations"]} == {"rules"}
    newest = detail["annotations"][0]
    facts = {fact["id"] for one in detail["evidence"] for fact in one["facts"] if fact["kind"] == "deviation"}
    assert set(newest["causes"][0]["cites"]) & facts
    page = bench.answer(f"/ui/anomalies/{item['anomaly_id']}")
    assert page is not None
    assert page.status_code == 200
    assert item["cause"] in page.text
