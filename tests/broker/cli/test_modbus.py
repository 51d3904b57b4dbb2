"""``fairlead modbus`` against a real Modbus server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from simulators import SignalValue
from simulators.modbus_server import ModbusServer, RegisterPoint

Fairlead = Callable[..., Any]

VALUES: dict[str, SignalValue] = {"flow": 12.5, "big": 2**60 + 1, "name": "Pump 7", "on": True, "low": 259}
POINTS = [
    RegisterPoint("flow", "holding", 0, "float32", "CDAB"),
    RegisterPoint("big", "holding", 10, "int64", "GHEFCDAB"),
    RegisterPoint("name", "holding", 20, "string[6]"),
    RegisterPoint("low", "input", 0, "uint16"),
    *(RegisterPoint("on", "coil", i, "bool") for i in (0, 1, 2)),
]
IDENTITY = {0: "Acme", 1: "X1", 2: "2.0", 4: "Mixer"}


@pytest.fixture
async def server() -> AsyncIterator[ModbusServer]:
    async with ModbusServer(lambda: VALUES, POINTS, identity=IDENTITY) as running:
        yield running


@pytest.fixture
def ask(fairlead: Fairlead, server: ModbusServer, tmp_path: Path) -> Callable[..., Any]:
    """Run ``fairlead modbus ...`` at a site whose map names no byte order, as at commissioning."""
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.yaml").write_text(
        "version: 1\ntags:\n  - {path: Acme/Lyon/A/Flow, source: plc1, address: '40001', type: float32, unit: m3/h, "
        "range: [0, 100]}\n",
        encoding="utf-8",
    )
    path = tmp_path / "fairlead.yaml"
    path.write_text(
        "version: 1\nsite: {path: Acme/Lyon}\nllm: {backend: none}\n"
        f"sources:\n  plc1: {{kind: modbus, host: 127.0.0.1, port: {server.port}, timeout: 5s}}\n"
        "  file1: {kind: replay, file: x.csv}\n",
        encoding="utf-8",
    )

    async def call(*arguments: str) -> Any:
        return await asyncio.to_thread(fairlead, "modbus", *arguments, "-c", str(path))

    return call


async def test_all_orders_stand_beside_each_other(ask: Callable[..., Any], server: ModbusServer) -> None:
    """Without a byte order in the map, the reading shows which order gives a value inside the tag's range."""
    said = await ask("read", "plc1", "40001", "-o", "json")
    assert said.code == 0, said.text
    report = json.loads(said.out)
    assert report["raw"] == [0x0000, 0x4148]
    (real,) = [item for item in report["readings"] if item["type"] == "float32"]
    assert real["values"]["CDAB"] == 12.5
    assert set(real["values"]) == {"ABCD", "CDAB", "BADC", "DCBA"}
    assert (real["tag"], real["fits"]) == ("Acme/Lyon/A/Flow", ["CDAB"])
    assert {item["type"] for item in report["readings"]} == {"uint16", "int16", "uint32", "int32", "float32"}
    assert set(server.requests) == {3}


async def test_the_table_is_for_people(ask: Callable[..., Any]) -> None:
    """The table has one column for each order, and the raw words above."""
    said = await ask("read", "plc1", "40001", "--type", "float32")
    assert said.code == 0, said.text
    assert "plc1 1!HR0: 0000 4148" in said.out
    for word in ("ABCD", "CDAB", "BADC", "DCBA", "12.5", "fits", "Acme/Lyon/A/Flow"):
        assert word in said.out


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (("40011", "--type", "int64"), {"CDAB": 2**60 + 1}),
        (("HRI_6411",), {"CDAB": 2**60 + 1}),
        (("HR21", "--type", "string[6]"), {"ABCD": "Pump 7", "BADC": "uPpm7 "}),
        (("HRS21:6",), {"ABCD": "Pump 7"}),
        (("30001.0-3",), {"ABCD": 3, "BADC": 1}),
        (("30001.L", "--type", "uint8"), {"ABCD": 3, "BADC": 1}),
        (("30001.0-1", "--type", "int16"), {"ABCD": -1, "BADC": 1}),
        (("30001.8",), {"": True}),
        (("30001", "--type", "bool"), {"": True}),
        (("C1", "--count", "3"), {"": True}),
        (("30001", "--type", "bcd16"), {"ABCD": 103}),
    ],
)
async def test_reads_any_address_and_type(
    ask: Callable[..., Any], arguments: tuple[str, ...], want: dict[str, object]
) -> None:
    """Every way to write an address works here as in the tag map."""
    said = await ask("read", "plc1", *arguments, "-o", "json")
    assert said.code == 0, said.text
    readings = json.loads(said.out)["readings"]
    assert {order: readings[0]["values"][order] for order in want} == want


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("plc1", "401"), 2, "write 400401"),
        (("plc1", "40001", "--type", "datetime"), 2, "write one of"),
        (
            ("plc1", "40001", "--type", "int8"),
            2,
            "write 40001.L for its low byte, 40001.H for its high",
        ),
        (("plc1", "HR1", "--type", "uint8"), 2, "write HR1.L for its low byte"),
        (("plc1", "HR1.0-9", "--type", "uint8"), 2, "is 10 bits of a register and cannot be uint8"),
        (("plc1", "40001", "--count", "90", "--type", "float32"), 2, "more than one request can read"),
        (("plc1", "HR900"), 69, "exception 2"),
        (("file1", "40001"), 2, "there is: plc1"),
        (("plc9", "40001"), 2, "there is: plc1"),
    ],
)
async def test_says_what_is_wrong(ask: Callable[..., Any], arguments: tuple[str, ...], code: int, hint: str) -> None:
    """A wrong source, address, type or count is a usage error; a device that refuses is told as such."""
    said = await ask("read", *arguments)
    assert said.code == code, said.text
    assert hint in " ".join(said.text.replace("│", " ").split())


async def test_identifies_and_accepts(ask: Callable[..., Any], server: ModbusServer, tmp_path: Path) -> None:
    """The identification is shown, and kept where the source will look for it."""
    said = await ask("identify", "plc1", "-o", "json")
    assert json.loads(said.out)["identity"] == {
        "vendor": "Acme",
        "product code": "X1",
        "revision": "2.0",
        "product name": "Mixer",
    }
    assert not list(tmp_path.rglob("device.json"))
    said = await ask("identify", "plc1", "--accept")
    assert said.code == 0, said.text
    assert "accepted as Acme X1 2.0" in said.out
    (kept,) = tmp_path.rglob("device.json")
    assert json.loads(kept.read_text())["identity"] == {"1": {"0": "Acme", "1": "X1", "2": "2.0"}}
    server.identity = None
    said = await ask("identify", "plc1")
    assert said.code == 1
    assert "offers no identification" in said.err
