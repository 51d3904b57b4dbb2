"""The whole broker against servers of other people: what stands in SQL equals the formulas of their README."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas import status
from tests.e2e.processes import Broker
from tests.fault_table import LONG
from tests.libmodbus import formula
from tests.node_opcua import NODES, START_MS, URI, NodeOpcUa, expected, tick_of

Eventually = Callable[..., Awaitable[None]]
pytestmark = pytest.mark.slow


class Row(NamedTuple):
    """One row of ``v_records``."""

    name: str
    source_ns: int
    value: float | None
    value_int: int | None
    value_text: str | None
    status: int
    flags: int
    received_ns: int

    @property
    def reading(self) -> object:
        """The exact integer, else the text, else the number."""
        if self.value_int is not None:
            return self.value_int
        return self.value if self.value_text is None else self.value_text


def records(broker: Broker) -> dict[str, list[Row]]:
    """All rows by the last part of the path, in order of storing."""
    columns = "path, source_ns, value, value_int, value_text, status, flags, received_ns"
    found: dict[str, list[Row]] = {}
    for path, *rest in broker.rows(f"SELECT {columns} FROM v_records ORDER BY seq"):
        name = path.rpartition("/")[2]
        found.setdefault(name, []).append(Row(name, *rest))
    return found


def table(title: str, matched: Counter[str], wrong: list[str]) -> None:
    """Print what matched, a line a kind of value (``pytest -s``), and fail where something did not."""
    print(f"\n{title}")
    for name, count in sorted(matched.items()):
        print(f"  {name:<28} {count:>6} values match")
    assert not wrong, f"{len(wrong)} wrong values, first: {wrong[:5]}"


@pytest.fixture
def make_broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Broker]]:
    """Start a broker on one source: ``make_broker(source, tags)``; acquire and core are ended behind the test."""
    made: list[Broker] = []

    def make(source: dict[str, Any], tags: list[dict[str, Any]]) -> Broker:
        broker = Broker(tmp_path, {"peer": source}, tags, port=free_port())
        made.append(broker)
        broker.start("acquire", "core")
        return broker

    yield make
    for broker in made:
        broker.stop()


# OPC UA


def node_tags() -> list[dict[str, Any]]:
    """All nodes of the server, with the types it says."""
    return [
        {"path": f"Acme/Lyon/Line1/{name}", "source": "peer", "address": f"nsu={URI};s=Line1.{name}", "unit": "1"}
        for name in NODES
    ]


def stored_form(value: object) -> object:
    """How SQL shows a value: bytes in base64, arrays as JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value


def status_at(name: str, k: int) -> int:
    """Status of a node at tick *k*."""
    codes = {8: status.UNCERTAIN_LAST_USABLE, 9: status.BAD_SENSOR_FAILURE}
    return codes.get(k % 10, status.GOOD) if name == "Sensor" else status.GOOD


def is_right(row: Row, k: int) -> bool:
    """Whether a row says what its node had at tick *k*; a bad value is no value."""
    if row.status != status_at(row.name, k):
        return False
    if row.status == status.BAD_SENSOR_FAILURE:
        return row.reading is None
    want = stored_form(expected(row.name, k))
    if isinstance(row.value_text, str) and isinstance(want, str) and want.startswith("["):
        return bool(json.loads(row.value_text) == json.loads(want))
    if isinstance(want, float):
        return row.reading == pytest.approx(want, rel=1e-12, abs=1e-12)
    return row.reading == want


def changes(name: str, sampled: Sequence[int]) -> set[int]:
    """Of the ticks a server sampled, those at which one that reports changes must speak of a node; it may say more."""
    said = [(status_at(name, k), repr(expected(name, k))) for k in sampled]
    return {k for k, now, before in zip(sampled, said, [None, *said], strict=False) if now != before}


def compare_nodes(broker: Broker, server: NodeOpcUa, least: int) -> None:
    """Every row equals the formula, and no tick at which a node changed is missing in its span or there twice."""
    period_ms = server.period_ms
    found = records(broker)
    assert set(found) == set(NODES)
    ticks = {name: [tick_of(row.source_ns, period_ms) for row in rows] for name, rows in found.items()}
    wrong = [
        f"{name} at tick {k}: {row.reading!r} {row.status:#x}, want {expected(name, k)!r}"
        for name, rows in found.items()
        for row, k in zip(rows, ticks[name], strict=True)
        if not is_right(row, k)
    ]
    # the last publications before the end may hold some nodes of a tick and not others
    last = min(max(ticks[name]) for name in ("UInt32", "Int32", "Text", "Odd")) - 1
    skipped = server.unsampled(range(min(seen[0] for seen in ticks.values()), last + 1))
    assert len(skipped) <= least, f"the server stood still too often: {sorted(skipped)}"
    holes = {}
    for name, seen in ticks.items():
        sampled = [k for k in range(seen[0], last + 1) if k not in skipped or k in seen]
        holes[name] = changes(name, sampled) - set(seen)
    assert not any(holes.values()), {name: sorted(hole) for name, hole in holes.items() if hole}
    assert all(seen == sorted(set(seen)) for seen in ticks.values()), "a tick is there twice, or out of order"
    assert len(ticks["UInt32"]) >= least
    table("node-opcua", Counter({name: len(rows) for name, rows in found.items()}), wrong)


async def test_a_server_that_stood_still_is_seen_and_one_that_ran_is_not(
    node_server: NodeOpcUa, eventually: Eventually
) -> None:
    """What excuses a missing tick is a stall that the witness saw, and nothing else."""
    began = int(time.time() * 1000)
    node_server.process.send_signal(signal.SIGSTOP)
    await eventually(lambda: time.time() * 1000 > began + 3 * node_server.period_ms)
    node_server.process.send_signal(signal.SIGCONT)
    first = (began - START_MS) // node_server.period_ms + 1  # the first tick that lies wholly in the stop
    await eventually(lambda: first in node_server.unsampled([first]))
    assert not node_server.unsampled(range(first - 100, first - 50))


FAST = {"sampling": "50ms", "publishing": "200ms"}
TICKS = "SELECT count(*) FROM v_records WHERE path LIKE '%/UInt32'"


async def killed(broker: Broker, kills: int, eventually: Eventually) -> float:
    """Kill acquire so often, ten ticks apart, and end both processes. The longest time until the next row, seconds."""
    slowest = 0.0
    await eventually(lambda: broker.count(TICKS) >= 10, 240)
    for _ in range(kills):
        broker.kill("acquire")
        before, begun = broker.count(TICKS), time.monotonic()
        broker.start("acquire")
        await eventually(lambda before=before: broker.count(TICKS) > before, 240)
        slowest = max(slowest, time.monotonic() - begun)
        await eventually(lambda before=before: broker.count(TICKS) >= before + 20, 240)
    assert broker.end("acquire") == 0
    assert broker.end("core") == 0
    return slowest


async def test_every_tick_of_every_node_is_in_sql_over_a_kill(
    start_node: Callable[..., NodeOpcUa],
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """29 nodes of all types: no value is wrong, no tick missing or doubled, although acquire was killed midway."""
    kills, server = scale(1, 50), start_node()
    source = {"kind": "opcua", "endpoint": server.endpoint, "security": "None", "subscription": FAST}
    broker = make_broker(source, node_tags())
    slowest = await killed(broker, kills, eventually)
    compare_nodes(broker, server, 10 + 20 * kills)
    assert broker.rows("SELECT DISTINCT cause FROM v_gaps") == [("not_running",)]
    assert broker.rows("SELECT * FROM v_quarantine") == []
    rows = broker.count("SELECT count(*) FROM v_records")
    figures(
        "F2 kill -9 of acquire, node-opcua",
        f"{kills} kills, {rows} values of 29 nodes",
        lost=0,
        doubled=0,
        wrong=0,
        recovery_s=round(slowest, 1),
        control="see next row",
    )


@pytest.mark.skipif(not LONG, reason="the control of the test above: make faults")
async def test_control_without_a_transfer_ticks_are_lost(
    start_node: Callable[..., NodeOpcUa],
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    figures: Callable[..., None],
) -> None:
    """The negative control: what a subscription made anew does not have any more is lost, and a gap says so."""
    server = start_node()
    source = {"kind": "opcua", "endpoint": server.endpoint, "security": "None", "subscription": FAST}
    broker = make_broker({**source, "recover": "recreate"}, node_tags())
    await killed(broker, 5, eventually)
    ticks = sorted({tick_of(row.source_ns, server.period_ms) for row in records(broker)["UInt32"]})
    lost = len(server.missing(ticks))
    told = broker.count("SELECT count(*) FROM v_gaps WHERE cause = 'session_lost'")
    figures(
        "F2 control: made anew after each kill", "5 kills", lost=lost, control=f"{lost} ticks lost, {told} gap rows"
    )
    assert lost > 0
    assert told > 0


async def test_every_tick_is_in_sql_although_the_server_cuts_all_channels_again_and_again(
    start_node: Callable[..., NodeOpcUa],
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """The server's fault switch: the session outlives its channel, and each cut is made good by republishing."""
    server = start_node(drop_every_s=scale(6, 20))
    source = {"kind": "opcua", "endpoint": server.endpoint, "security": "None", "subscription": FAST}
    broker = make_broker(source, node_tags())
    least = scale(30, 1200)
    await eventually(lambda: broker.count(TICKS) >= least, 2 * least + 60)
    cuts = broker.source("peer")["reconnects"]
    assert broker.end("acquire") == 0
    assert broker.end("core") == 0
    assert cuts >= scale(1, 25)
    compare_nodes(broker, server, least)
    rows = broker.count("SELECT count(*) FROM v_records")
    figures("F13 node-opcua cuts its channels", f"{cuts} cuts, {rows} values of 29 nodes", lost=0, doubled=0, wrong=0)


async def test_encrypted_with_a_user_once_the_certificate_is_trusted(
    node_server: NodeOpcUa, make_broker: Callable[..., Broker], eventually: Eventually, tmp_path: Path
) -> None:
    """SignAndEncrypt: the source says which command accepts the certificate, and all values are right once it ran."""
    (tmp_path / "password").write_text("dev-secret\n")
    os.chmod(tmp_path / "password", 0o600)
    source = {
        "kind": "opcua",
        "endpoint": node_server.endpoint,
        "security": "Basic256Sha256/SignAndEncrypt",
        "user": {"name": "dev", "password": "file:password"},
        "subscription": FAST,
    }
    broker = make_broker(source, node_tags())
    await eventually(lambda: broker.source("peer").get("state") == "failing", 240)
    said = re.search(
        r"is not trusted; .* then run fairlead (trust accept peer [0-9a-f]+)", broker.source("peer")["error"]
    )
    assert said is not None, broker.source("peer")["error"]
    command = [sys.executable, "-m", "broker", *said[1].split(), "--config", str(broker.config)]
    accepted = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert accepted.returncode == 0, accepted.stderr
    assert broker.count("SELECT count(*) FROM audit") >= 1
    await eventually(lambda: broker.count(TICKS) >= 10, 240)
    assert broker.end("acquire") == 0
    assert broker.end("core") == 0
    compare_nodes(broker, node_server, 10)
    [(cause, detail, to_ns)] = broker.rows("SELECT cause, detail, to_ns FROM v_gaps")
    assert cause == "link_down"
    assert "is not trusted" in detail
    assert to_ns is not None


# Modbus


def register_tags() -> tuple[list[dict[str, Any]], dict[str, Callable[[int], float | None]]]:
    """Every value that the server has, three addresses that it has not, and the formula of each by name."""
    tags: list[dict[str, Any]] = []
    want: dict[str, Callable[[int], float | None]] = {}

    def add(address: str, type_: str, value: Callable[[int], float | None], order: str = "ABCD") -> None:
        name = address.replace(".", "_")
        want[name] = value
        path = f"Acme/Lyon/Line1/{name}"
        tag = {"path": path, "source": "peer", "address": address, "type": type_, "unit": "1", "byte_order": order}
        tags.append(tag)

    for prefix, ahead in (("HR", 0), ("IR", 1)):
        for place, (offset, type_, order, _) in enumerate(formula(0)):
            add(f"{prefix}{offset}", type_, lambda k, p=place, a=ahead: formula(k + a)[p][3], order)
        add(f"{prefix}0.0", "bool", lambda k, a=ahead: (k + a) & 1)
        add(f"{prefix}59", "uint16", lambda k: 0)
        add(f"{prefix}60", "uint16", lambda k: None)
        add(f"{prefix}200", "float32", lambda k: None)
    for prefix in ("C", "DI"):
        for bit in range(16):
            add(f"{prefix}{bit}", "bool", lambda k, b=bit: k >> b & 1)
    return tags, want


def tick(at_ns: int) -> int:
    """The tick of the libmodbus server, a second, that a time lies in."""
    return at_ns // 1_000_000_000 - START_MS // 1000


async def test_every_register_equals_the_formula(
    modbus_port: int,
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """Four tables, both word orders: no value is wrong, no second is missing, address 60 is bad and it alone."""
    tags, want = register_tags()
    source = {
        "kind": "modbus",
        "host": "127.0.0.1",
        "port": modbus_port,
        "scan": "200ms",
        "address_style": "zero_based",
    }
    broker = make_broker(source, tags)
    polls = scale(40, 3000)
    await eventually(
        lambda: broker.count("SELECT count(*) FROM v_records WHERE path LIKE '%/HR22'") >= polls, 2 * polls + 60
    )
    assert broker.end("acquire") == 0
    assert broker.end("core") == 0

    found = records(broker)
    assert set(found) == set(want)
    matched: Counter[str] = Counter()
    wrong = []
    for name, rows in found.items():
        polled = rows[0].source_ns - 200_000_000
        for row in rows:
            # asked after the poll before it: a tick of the time between
            values = {want[name](k) for k in range(tick(polled), tick(row.source_ns) + 1)}
            polled = row.source_ns
            bad = status.quality(row.status) is status.Quality.BAD
            if row.value not in values or bad != (values == {None}):
                wrong.append(f"{name}: {row.value!r} {row.status:#x}, want one of {values}")
            matched[f"{name.rstrip('0123456789_')} {'bad' if bad else 'good'}"] += 1
    table("libmodbus", matched, wrong)
    assert {name for name, rows in found.items() if rows[0].value is None} == {"HR60", "HR200", "IR60", "IR200"}
    counted = sorted({-int(row.value) for row in found["HR22"] if row.value is not None})
    # polls that a busy machine missed are gap rows
    missed = broker.rows("SELECT from_ns, to_ns FROM v_gaps WHERE cause = 'poll_missed'")
    told = {k for begin, end in missed for k in range(tick(begin), tick(end) + 1)}
    assert set(range(counted[0], counted[-1] + 1)) - set(counted) <= told, "a second is missing"
    assert len(counted) >= 7
    # one poll reads HR22 and HR24 in one block: both are of one tick, whatever the clock says
    pairs = zip(found["HR22"], found["HR24"], strict=True)
    assert all(a.value is not None and b.value == -3 * a.value % 2**32 for a, b in pairs)
    rows_in_all = sum(len(rows) for rows in found.values())
    figures("W3 libmodbus, every register", f"{polls} polls, {rows_in_all} values", lost=0, wrong=0)


# MQTT


async def _publish(shared: Path, port: int, ticks: int) -> None:
    script = shared / "peers" / "mqtt" / "publish.sh"
    publisher = await asyncio.create_subprocess_exec("sh", str(script), str(port), str(ticks))
    assert await publisher.wait() == 0


async def test_every_message_of_mosquitto_pub_is_in_sql(
    shared: Path,
    mosquitto: int,
    need: Callable[[str], str],
    make_broker: Callable[..., Broker],
    eventually: Eventually,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """JSON, plain, array and retained topics equal the script; the broken payload is quarantined and costs no other."""
    need("mosquitto_pub")
    n = scale(12, 600)
    await _publish(shared, mosquitto, 1)  # leaves the retained recipe R0 behind
    subscriptions = [
        {"filter": f"line1/press/{topic}", "decode": "plain" if topic == "temperature" else "json"}
        for topic in ("json", "temperature", "array", "config")
    ]
    source = {"kind": "mqtt", "broker": f"mqtt://127.0.0.1:{mosquitto}", "subscriptions": subscriptions}
    addresses = {
        "Seq": ("json#seq", "uint32"),
        "Temperature": ("json#temperature", "float64"),
        "Running": ("json#running", "bool"),
        "Plain": ("temperature", "float64"),
        "First": ("array#[0]", "int32"),
        "Second": ("array#[1]", "int32"),
        "Recipe": ("config#recipe", "string[8]"),
    }
    tags = [
        {
            "path": f"Acme/Lyon/Line1/{name}",
            "source": "peer",
            "address": f"line1/press/{at}",
            "type": type_,
            "unit": "1",
        }
        for name, (at, type_) in addresses.items()
    ]
    broker = make_broker(source, tags)
    await eventually(lambda: broker.count() == 1, 240)
    await _publish(shared, mosquitto, n)
    recipes = -(-n // 10)
    await eventually(lambda: broker.count() == 1 + 6 * n + recipes, 240)
    assert broker.end("acquire") == 0
    assert broker.end("core") == 0

    found = records(broker)
    ticks = range(n)
    assert [row.value for row in found["Seq"]] == list(ticks)
    want: dict[str, list[object]] = {
        "Seq": list(ticks),
        "Temperature": [60 + k % 10 + 0.5 for k in ticks],
        "Running": [1.0] * n,
        "Plain": [60 + k % 10 + 0.5 for k in ticks],
        "First": list(ticks),
        "Second": [k + 1 for k in ticks],
        "Recipe": ["R0", *(f"R{i}" for i in range(recipes))],
    }
    matched = Counter({name: len(rows) for name, rows in found.items()})
    wrong = [name for name, rows in found.items() if [row.reading for row in rows] != want[name]]
    table("mosquitto_pub", matched, wrong)
    assert all(row.flags & status.Flag.ARRIVAL_TIME for rows in found.values() for row in rows)
    retained = [bool(row.flags & status.Flag.RETAINED) for row in found["Recipe"]]
    assert retained == [True] + [False] * recipes
    first, *later = (row.status for row in found["Recipe"])
    assert first == status.UNCERTAIN_LAST_USABLE
    assert set(later) == {status.GOOD}
    refused = broker.rows("SELECT place, raw, received_ns FROM v_quarantine WHERE reason <> '' ORDER BY received_ns")
    assert [(place, raw) for place, raw, _ in refused] == [("line1/press/json", b'{"seq": ')] * ((n + 4) // 10)
    # each came between the messages of tick 5 and 6 of its ten
    for ten, (_, _, refused_ns) in enumerate(refused):
        assert found["Seq"][10 * ten + 5].received_ns <= refused_ns <= found["Seq"][10 * ten + 6].received_ns
    rows_in_all = sum(len(rows) for rows in found.values())
    figures("F22 mosquitto_pub, every tenth message broken", f"{n} rounds, {rows_in_all} values", lost=0, wrong=0)
