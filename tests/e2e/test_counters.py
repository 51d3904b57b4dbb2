"""Counters of a PLC through real processes: registers on the wire, kill -9 in the middle, SQL, API and commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from schemas.status import Flag
from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]
pytestmark = pytest.mark.slow

PIECES, VOLUME = "Acme/Lyon/Line1/Pieces", "Acme/Lyon/Line1/Volume"
COUNTER = {"source": "plc", "scan": "100ms"}
TAGS = [
    {
        **COUNTER,
        "path": PIECES,
        "address": "40001",
        "type": "uint16",
        "unit": "pcs",
        "counter": {"modulus": "2^16", "max_rate": 50},
    },
    {
        **COUNTER,
        "path": VOLUME,
        "address": "40002",
        "type": "bcd16",
        "unit": "m3",
        "scale": {"factor": 0.1},
        "counter": {"modulus": "10^4", "max_rate": 1},
    },
]


async def test_counters_of_a_plc(tmp_path: Path, free_port: Callable[[], int], eventually: Eventually) -> None:
    """
    Roll-over, reset and a killed core: what is summed is what was counted, once, in records, hours and answers.

    Also from before a value was seen first, nothing is counted.
    """
    shown = {"pieces": 65500.0, "volume": float(0x9985)}
    points = [RegisterPoint(name, "holding", place, "uint16") for place, name in enumerate(shown)]
    async with ModbusServer(lambda: dict(shown), points) as plc:
        broker = Broker(
            tmp_path, {"plc": {"kind": "modbus", "host": "127.0.0.1", "port": plc.port}}, TAGS, port=free_port()
        )

        async def show(pieces: int, volume: str) -> None:
            """Let the registers be these, until records say so."""
            shown["pieces"], shown["volume"] = float(pieces), float(int(volume, 16))
            last = "SELECT value FROM v_records WHERE path = ? ORDER BY seq DESC LIMIT 1"
            wanted = [(PIECES, float(pieces)), (VOLUME, round(int(volume) * 0.1, 6))]

            def stored() -> bool:
                found = [(path, round(value, 6)) for path, _ in wanted for (value,) in broker.rows(last, path)]
                return found == wanted

            await eventually(stored, 240)

        broker.start("acquire", "core")
        try:
            await show(65500, "9985")
            await show(65530, "9990")
            await show(5, "0001")
            broker.kill("core")
            shown["pieces"] = 25.0
            await eventually(lambda: plc.requests[3] > 0, 240)
            broker.start("core")
            await show(45, "0005")
            await show(0, "0005")
            await show(20, "0006")
            sums = "SELECT path, sum(increase) FROM v_records WHERE increase IS NOT NULL GROUP BY path ORDER BY path"
            found = [(path, round(total, 6)) for path, total in broker.rows(sums)]
            assert found == [(PIECES, 30.0 + 11.0 + 40.0 + 0.0 + 20.0), (VOLUME, 2.1)]
            marks = "SELECT path, value, increase FROM v_records WHERE flags & ? <> 0 ORDER BY seq"
            rolled = broker.rows(marks, int(Flag.COUNTER_ROLLOVER))
            assert [(path, round(value, 6), round(went, 6)) for path, value, went in rolled] == [
                (PIECES, 5.0, 11.0),
                (VOLUME, 0.1, 1.1),
            ]
            assert broker.rows(marks, int(Flag.COUNTER_RESET)) == [(PIECES, 0.0, 0.0)]
            assert broker.rows(marks, int(Flag.COUNTER_UNCERTAIN)) == []

            hours = "SELECT sum(increase), sum(counter_resets) FROM v_rollup_1h WHERE path = ?"
            await eventually(lambda: broker.rows(hours, PIECES) == [(101.0, 1)], 240)
            records = broker.get(f"/api/v1/records?limit=10000&path={PIECES}")["records"]
            assert [row["increase"] for row in records if "counter_rollover" in row["flags"]] == [11.0]
            assert records[0]["increase"] is None
            csv = broker.answer(f"/api/v1/records?limit=3&path={PIECES}&format=csv")
            assert csv is not None
            assert ",increase," in csv.text.splitlines()[0]
            asked = [sys.executable, "-m", "broker", "records", "-c", str(broker.config), "--path", PIECES]
            table = subprocess.run([*asked, "--limit", "5"], capture_output=True, text=True, check=True).stdout
            assert "increase" in table.splitlines()[0].split()
            listed = subprocess.run([*asked, "-o", "json"], capture_output=True, text=True, check=True).stdout
            assert {"increase", "flags"} <= json.loads(listed)[0].keys()
        finally:
            broker.stop()
