"""``fairlead replay`` with real processes: a wrong factor put right while the plant runs, and again without a core."""

from __future__ import annotations

import asyncio
import calendar
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.account import account
from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]
pytestmark = pytest.mark.slow
TAG = {"path": "Acme/Lyon/Line1/Flow", "source": "plc", "address": "40001", "type": "uint16", "unit": "m3/h"}


def map_file(folder: Path, name: str, factor: float) -> Path:
    path = folder / name
    path.write_text(json.dumps({"version": 1, "tags": [{**TAG, "scale": {"factor": factor}}]}), "utf-8")
    return path


def fairlead(broker: Broker, *arguments: str) -> tuple[int, Any, str]:
    """Exit code, JSON and stderr of a command of its own process."""
    command = [sys.executable, "-m", "broker", *arguments, "-c", str(broker.config), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def factors(broker: Broker) -> set[float]:
    """Factor of each valid record: the registers count in steps of one, from 1000 on, told by the raw export."""
    _, rows, _ = raw_values(broker)
    shown = broker.rows("SELECT source_ns, value FROM v_records WHERE path = ?", TAG["path"])
    return {round(value / rows[source_ns], 6) for source_ns, value in shown if value is not None}


def raw_values(broker: Broker) -> tuple[int, dict[int, float], str]:
    command = [sys.executable, "-m", "broker", "journal", "export", "-c", str(broker.config), "--kind", "samples"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {ns(row["source_time"]): row["value"] for row in rows}, done.stderr


def ns(text: str) -> int:
    whole, _, fraction = text.rstrip("Z").partition(".")
    moment = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return calendar.timegm(moment) * 1_000_000_000 + int(fraction)


async def test_a_wrong_factor_is_put_right(
    tmp_path: Path, free_port: Callable[[], int], eventually: Eventually
) -> None:
    """Through the running core, then with the lock alone; progress and refusals are said, the audit names both."""
    started = time.monotonic()

    def signals() -> dict[str, float]:
        return {"n": 1000 + round((time.monotonic() - started) * 20)}

    async with ModbusServer(signals, [RegisterPoint("n", "holding", 0, "uint16")]) as plc:
        source = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "scan": "50ms"}
        broker = Broker(tmp_path, {"plc": source}, [{**TAG, "scale": {"factor": 10.0}}], port=free_port())
        try:
            broker.start("acquire", "core")
            await eventually(lambda: broker.count() > 30 and broker.answer("/healthz") is not None, 240)
            right = map_file(tmp_path, "right.yaml", 0.1)

            code, said, err = await asyncio.to_thread(
                fairlead, broker, "replay", "--from", "1h", "--map", str(right), "--reason", "factor"
            )
            # the journal is younger than an hour: it says what there is
            assert (code, said) == (1, None)
            assert "no longer in the journal; the journal holds" in err
            begin = err.split("the journal holds ")[1].split(" to ")[0]
            code, said, err = await asyncio.to_thread(
                fairlead, broker, "replay", "--from", begin, "--map", str(right), "--reason", "factor"
            )
            assert (code, said["state"], said["revision"]) == (0, "done", 1), err
            corrected = broker.count("SELECT count(*) FROM v_records WHERE revision = 1")
            assert corrected == said["records"] >= 30
            before = broker.count()
            await eventually(lambda: broker.count() > before, 240)  # live data goes on, under the wrong map
            assert factors(broker) == {10.0, 0.1}
            assert broker.end("acquire") == 0
            assert broker.end("core") == 0

            code, said, err = fairlead(broker, "replay", "--from", begin, "--map", str(right))
        finally:
            broker.stop()

    assert (code, said["state"], said["revision"]) == (0, "done", 2), err
    assert factors(broker) == {0.1}
    assert broker.count("SELECT count(*) FROM v_record_history WHERE revision = 0") == broker.count(
        "SELECT count(*) FROM v_records"
    )
    audit = broker.rows("SELECT actor, action FROM audit WHERE action LIKE 'replay%' ORDER BY audit_id")
    assert audit == [
        ("local", "replay_started"),
        ("local", "replay_ended"),
        ("command line", "replay_started"),
        ("command line", "replay_ended"),
    ]
    begun = broker.rows("SELECT actor, action FROM audit WHERE action LIKE '%_in_force' ORDER BY action")
    assert begun == [(account(), "configuration_in_force"), (account(), "map_in_force")]
    minute = broker.rows("SELECT sum(n), max(max) FROM v_rollup_1m")[0]
    assert minute[0] == broker.count("SELECT count(*) FROM v_records")
    assert minute[1] < 1000.0
