"""What goes wrong in a plant: each thing has a clear message, or a row with its cause, and costs nothing else."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from schemas import status
from simulators import SignalValue
from simulators.modbus_server import ModbusServer, RegisterPoint
from simulators.opcua_server import NodeSpec, OpcUaServer
from tests.e2e.processes import Broker
from tests.node_opcua import NodeOpcUa

Eventually = Callable[..., Awaitable[None]]
NAMESPACE = "urn:example:cell"
#: A counter that float64 cannot tell from its neighbours, and one beyond int64.
EXACT = 2**53 + 1
BEYOND = 2**64 - 1


@pytest.fixture
def make_broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Broker]]:
    """Configure a broker: ``make_broker(sources, tags, **sections)``; what runs is ended behind the test."""
    made: list[Broker] = []

    def make(sources: Mapping[str, Any], tags: list[dict[str, Any]], **sections: Any) -> Broker:
        made.append(Broker(tmp_path, sources, tags, port=free_port(), **sections))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


def tag(name: str, source: str, address: str, type_: str | None = "float64", **more: Any) -> dict[str, Any]:
    """One entry of a tag map."""
    given = {} if type_ is None else {"type": type_}
    return {"path": f"Acme/Lyon/Line1/{name}", "source": source, "address": address, "unit": "1", **given, **more}


def command(broker: Broker, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``fairlead`` with the broker's configuration."""
    line = [sys.executable, "-m", "broker", *words, "--config", str(broker.config)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


def publish(port: int, messages: list[tuple[str, str]]) -> None:
    """Publish with QoS 1; returns when the MQTT broker has taken all."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        for sent in [client.publish(topic, payload, 1) for topic, payload in messages]:
            sent.wait_for_publish(60)
    finally:
        client.disconnect()
        client.loop_stop()


def subscribed(broker: Broker, source: str) -> bool:
    """Whether the MQTT broker has granted a subscription."""
    return any("granted" in fact for fact in broker.source(source).get("facts", {}).values())


async def test_an_unreachable_device_is_an_open_gap_with_its_reason(
    make_broker: Callable[..., Broker], free_port: Callable[[], int], eventually: Eventually
) -> None:
    """The device that does not answer is a gap, told by `check --connect` and the API; the other one is read."""
    dead = free_port()
    started = time.monotonic()

    def signals() -> dict[str, SignalValue]:
        return {"n": int((time.monotonic() - started) * 10)}

    async with ModbusServer(signals, [RegisterPoint("n", "holding", 0, "uint16")]) as plc:
        place = {"kind": "modbus", "host": "127.0.0.1", "scan": "100ms"}
        sources = {"plc": {**place, "port": plc.port}, "gone": {**place, "port": dead}}
        tags = [tag("N", "plc", "40001", "uint16"), tag("M", "gone", "40001", "uint16")]
        broker = make_broker(sources, tags)
        broker.start("acquire", "core")
        await eventually(lambda: broker.count() > 10 and broker.rows("SELECT * FROM v_gaps"), 240)
        known = {row["name"]: row for row in broker.get("/api/v1/sources")["sources"]}
        broker.end("acquire")
        broker.end("core")
        # the simulator lives on this loop: the command has to run beside it
        checked = await asyncio.to_thread(command, broker, "check", "--connect", "--timeout", "30", "--output", "json")

    told = broker.rows("SELECT source, cause, to_ns, detail FROM v_gaps")
    # polls of the other one that a busy machine missed are told, too
    [(source, cause, to_ns, detail)] = [row for row in told if row[1] != "poll_missed"]
    assert (source, cause, to_ns) == ("gone", "link_down", None)
    assert f"127.0.0.1:{dead}" in detail
    assert {row[0] for row in broker.rows("SELECT path FROM v_records")} == {"Acme/Lyon/Line1/N"}
    assert known["plc"]["state"] == "active"
    assert (known["gone"]["state"], known["gone"]["error"]) == ("failing", detail)
    assert checked.returncode == 69
    results = {row["source"]: row["result"] for row in json.loads(checked.stdout)["connections"]}
    assert results == {"plc": "ok", "gone": "failed: connect"}


async def test_a_refused_node_a_nan_and_a_64_bit_counter(
    make_broker: Callable[..., Broker], eventually: Eventually
) -> None:
    """The refused node is one bad row, NaN is no number and flagged, the counter is exact in SQL and in the API."""
    start = {"ticks": 0}

    def signals() -> dict[str, SignalValue]:
        start["ticks"] += 1
        k = start["ticks"]
        return {"Count": EXACT + k, "Big": BEYOND - k, "Level": math.nan if k % 2 else k / 8}

    nodes = {"Count": NodeSpec("UInt64"), "Big": NodeSpec("UInt64"), "Level": NodeSpec("Double")}
    async with OpcUaServer(signals, nodes, namespace=NAMESPACE, period_s=0.1) as server:
        source = {
            "kind": "opcua",
            "endpoint": server.endpoint,
            "security": "None",
            "subscription": {"sampling": "50ms", "publishing": "100ms"},
        }
        names = ("Count", "Big", "Level", "Nothing")
        broker = make_broker({"cell": source}, [tag(n, "cell", f"nsu={NAMESPACE};s={n}", None) for n in names])
        broker.start("acquire", "core")
        await eventually(lambda: broker.count("SELECT count(*) FROM v_records WHERE path LIKE '%/Count'") >= 20, 240)
        answer = await asyncio.to_thread(broker.get, "/api/v1/records?limit=10000")
        refused = broker.source("cell")["facts"]["refused"]
        broker.end("acquire")
        broker.end("core")

    def stored(columns: str, name: str) -> list[tuple[Any, ...]]:
        return broker.rows(f"SELECT {columns} FROM v_records WHERE path = ? ORDER BY seq", f"Acme/Lyon/Line1/{name}")

    assert stored("value, status", "Nothing") == [(None, status.BAD_NODE_ID_UNKNOWN)]
    assert "BadNodeIdUnknown" in refused
    counted = [number for (number,) in stored("value_int", "Count")]
    assert counted == list(range(counted[0], counted[0] + len(counted)))
    assert counted[0] > EXACT
    texts = [int(text) for (text,) in stored("value_text", "Big")]
    assert texts == list(range(texts[0], texts[0] - len(texts), -1))
    assert texts[0] > 2**63
    levels = stored("value, flags, quality", "Level")
    assert {(value is None, bool(flags & status.Flag.NAN)) for value, flags, _ in levels} == {
        (True, True),
        (False, False),
    }
    shown = [row for row in answer["records"] if row["path"].endswith(("Count", "Big"))]
    assert [row["value"] for row in shown if row["path"].endswith("Count")] == [
        str(n) for n in counted[: sum(row["path"].endswith("Count") for row in shown)]
    ]
    assert all(isinstance(row["value"], str) for row in shown)


async def test_undecodable_payloads_are_quarantined_one_by_one(
    mosquitto: int, make_broker: Callable[..., Broker], eventually: Eventually
) -> None:
    """Each refused message is a quarantine row with topic, reason and payload; every good one between is stored."""
    subscriptions = [{"filter": "line/json", "decode": "json"}, {"filter": "line/plain", "decode": "plain"}]
    source = {"kind": "mqtt", "broker": f"mqtt://127.0.0.1:{mosquitto}", "subscriptions": subscriptions}
    tags = [tag("N", "line", "line/json#n", "uint64"), tag("P", "line", "line/plain")]
    broker = make_broker({"line": source}, tags)
    broker.start("acquire", "core")
    await eventually(lambda: subscribed(broker, "line"), 240)
    bad = [
        ("line/json", '{"n": '),
        ("line/json", '{"n": NaN}'),
        ("line/json", '{"n": "twelve"}'),
        ("line/json", '{"n": -1}'),
        ("line/json", '{"m": 1}'),
        ("line/json", "[" * 50 + "]" * 50),
        ("line/plain", "twelve"),
        ("line/plain", ""),
    ]
    messages = []
    for n, message in enumerate(bad):
        messages += [("line/json", json.dumps({"n": EXACT + n})), message, ("line/plain", f"{n}.5")]
    publish(mosquitto, messages)
    await eventually(lambda: broker.count() == 2 * len(bad), 240)
    shown = broker.get("/api/v1/quarantine")["quarantine"]
    metrics = broker.answer("/metrics")
    broker.end("acquire")
    broker.end("core")

    rows = broker.rows("SELECT place, CAST(raw AS TEXT), reason FROM v_quarantine ORDER BY quarantine_id")
    assert [(place, raw) for place, raw, _ in rows] == bad
    assert all(reason for _, _, reason in rows)
    assert len(shown) == len(bad)
    numbers = broker.rows("SELECT value_int FROM v_records WHERE path LIKE '%/N' ORDER BY seq")
    assert [number for (number,) in numbers] == [EXACT + n for n in range(len(bad))]
    plain = broker.rows("SELECT value FROM v_records WHERE path LIKE '%/P' ORDER BY seq")
    assert [number for (number,) in plain] == [n + 0.5 for n in range(len(bad))]
    assert metrics is not None
    assert f"fairlead_quarantine_rows {len(bad)}.0" in metrics.text


@pytest.mark.slow
async def test_a_corrupt_model_leaves_the_rules_in_charge(
    make_broker: Callable[..., Broker], tmp_path: Path, eventually: Eventually
) -> None:
    """The core serves, the anomaly is explained by rules, and the reason is shown."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(range(256)) * 64)

    def signals() -> dict[str, SignalValue]:
        return {"t": 120}

    async with ModbusServer(signals, [RegisterPoint("t", "holding", 0, "uint16")]) as plc:
        source = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "scan": "100ms"}
        tags = [tag("Temperature", "plc", "40001", "uint16", range=[0, 80])]
        broker = make_broker({"plc": source}, tags, llm={"backend": "local", "model": "bad.gguf"})
        broker.start("acquire", "core")
        await eventually(lambda: broker.rows("SELECT * FROM v_annotations"), 240)
        # core answers by itself, so the question may block this loop
        await eventually(lambda: "quarantined" in getattr(broker.answer("/readyz"), "text", ""), 240)
        ready = await asyncio.to_thread(broker.answer, "/readyz")
        [listed] = (await asyncio.to_thread(broker.get, "/api/v1/anomalies"))["anomalies"]
        before = broker.count()
        await eventually(lambda: broker.count() > before, 240)
        broker.end("acquire")
        assert broker.end("core") == 0
    assert ready is not None
    assert ready.status_code == 200
    [note] = [note for note in ready.json()["notes"] if note.startswith("reasoning is quarantined")]
    assert "failures in a row to load it" in note
    assert (listed["kind"], listed["origin"]) == ("out_of_range", "rules")
    assert {row[0] for row in broker.rows("SELECT origin FROM v_annotations")} == {"rules"}


@pytest.mark.slow
async def test_a_full_journal_acknowledges_nothing_and_loses_nothing(
    mosquitto: int, make_broker: Callable[..., Broker], eventually: Eventually
) -> None:
    """Without core a small journal fills; the MQTT broker keeps the rest, and everything arrives once core is back."""
    subscription = {"filter": "line/n", "decode": "json", "time": "ts", "time_format": "epoch_ms"}
    source = {"kind": "mqtt", "broker": f"mqtt://127.0.0.1:{mosquitto}", "subscriptions": [subscription]}
    journal = {"max_size": "4MiB", "segment": "256KiB"}
    broker = make_broker({"line": source}, [tag("N", "line", "line/n#n", "string[400]")], journal=journal)
    broker.start("acquire")
    await eventually(lambda: subscribed(broker, "line"), 240)
    base_ms = time.time_ns() // 1_000_000
    sent = [f"{n:0>400}" for n in range(12_000)]
    publish(mosquitto, [("line/n", json.dumps({"ts": base_ms + n, "n": text})) for n, text in enumerate(sent)])
    await eventually(lambda: "journal holds" in broker.source("line").get("error", ""), 240)
    broker.start("core")
    await eventually(lambda: broker.count() == len(sent), 240)
    # what had been refused last may be on its way again
    await eventually(lambda: broker.count("SELECT count(*) FROM v_gaps WHERE to_ns IS NULL") == 0, 240)
    broker.end("acquire")
    broker.end("core")

    stored = broker.rows("SELECT value_text FROM v_records ORDER BY source_ns")
    assert [text for (text,) in stored] == sent
    gaps = broker.rows("SELECT source, detail, to_ns FROM v_gaps")
    assert gaps
    assert all(source == "line" and "journal holds" in detail and to_ns for source, detail, to_ns in gaps), gaps


@pytest.mark.slow
async def test_a_full_queue_of_the_server_is_a_gap(
    node_server: NodeOpcUa, make_broker: Callable[..., Broker], eventually: Eventually
) -> None:
    """Where the server's queue was too short, the value after the loss is flagged and a gap says what is missing."""
    slow = {"sampling": "100ms", "publishing": "3s", "keep_alive": "10s", "queue": 2}
    source = {"kind": "opcua", "endpoint": node_server.endpoint, "security": "None", "subscription": slow}
    names = ("UInt32", "Constant")
    tags = [tag(n, "peer", f"nsu=urn:example:line1;s=Line1.{n}", None) for n in names]
    broker = make_broker({"peer": source}, tags)
    broker.start("acquire", "core")
    await eventually(lambda: broker.rows("SELECT * FROM v_gaps WHERE cause = 'queue_overflow'"), 240)
    marked = "SELECT count(*) FROM v_records WHERE (flags & ?) <> 0"
    await eventually(lambda: broker.count(marked, int(status.Flag.OVERFLOW)) > 0, 240)
    broker.end("acquire")
    broker.end("core")
    gaps = broker.rows("SELECT path, from_ns, to_ns FROM v_gaps WHERE cause = 'queue_overflow'")
    assert {path for path, _, _ in gaps} == {"Acme/Lyon/Line1/UInt32"}
    rows = broker.rows("SELECT source_ns, value, flags FROM v_records WHERE path LIKE '%/UInt32' ORDER BY source_ns")
    assert [flags for _, _, flags in rows if flags & status.Flag.OVERFLOW]
    jumps = [(a[0], b[0]) for a, b in pairwise(rows) if b[1] != a[1] + 1]
    assert jumps, "nothing was lost"
    for lost_from, lost_to in jumps:
        assert any(from_ns <= lost_from and lost_to <= to_ns for _, from_ns, to_ns in gaps), "a loss without a gap"


@pytest.mark.parametrize("name", ["check", "acquire", "run"])
def test_a_wrong_tag_map_ends_with_78_and_every_error(make_broker: Callable[..., Broker], name: str) -> None:
    """All errors of all files at once, each with its place; nothing is started and nothing written."""
    place = {"kind": "modbus", "host": "127.0.0.1", "port": 15502}
    tags = [
        tag("A", "plc", "49999999", "uint16"),
        tag("B", "plc", "40001", "float32"),
        tag("C", "plc", "40003", "uint17"),
        tag("D", "nobody", "40004", "uint16"),
        {**tag("E", "plc", "40005", "uint16"), "unit": "parsecs per parrot"},
        {**tag("F", "plc", "40006", "uint16"), "rnage": [0, 1]},
    ]
    broker = make_broker({"plc": place}, tags)
    done = command(broker, name)
    said = done.stdout + done.stderr
    assert done.returncode == 78, said
    for code in ("bad_address", "missing_byte_order", "bad_type", "unknown_source", "unknown_unit", "unknown_key"):
        assert Counter(line.rsplit("[", 1)[-1] for line in said.splitlines())[f"{code}]"] == 1, f"{code} in {said}"
    assert "Traceback" not in said
    assert not (broker.home / "var" / "journal").exists()
