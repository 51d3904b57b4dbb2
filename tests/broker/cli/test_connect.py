"""``fairlead check --connect`` against a real Modbus server, and against nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulators.modbus_server import ModbusServer, RegisterPoint

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
POINTS = [RegisterPoint("speed", "holding", 0, "int16"), RegisterPoint("flow", "holding", 1, "float32", "CDAB")]


async def test_one_batch_is_read_and_shown(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A source that answers is ok, with the raw values; nothing is left in the data folder."""
    async with ModbusServer(lambda: {"speed": -2, "flow": 1.5}, POINTS) as server:
        path = make_site(port=server.port)
        said = await asyncio.to_thread(fairlead, "check", "--connect", "-c", str(path), "-o", "json")
    assert said.code == 0
    (row,) = json.loads(said.out)["connections"]
    assert (row["source"], row["kind"], row["result"]) == ("plc1", "modbus", "ok")
    assert {item["path"]: (item["raw"], item["status"]) for item in row["values"]} == {
        "Acme/Lyon/A/Speed": (-2.0, "Good"),
        "Acme/Lyon/A/Flow": (1.5, "Good"),
    }
    assert not (path.parent / "var").exists()


def test_nobody_there_is_exit_69(fairlead: Fairlead, make_site: MakeSite, free_port: Callable[[], int]) -> None:
    """The row names the step that failed."""
    path = make_site(port=free_port())
    said = fairlead("check", "--connect", "--timeout", "5", "-c", str(path))
    assert said.code == 69
    assert "failed: connect" in said.out


async def test_a_peer_that_never_answers_ends_in_time(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A port that accepts and stays silent costs the time limit, not more."""
    connections: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    async with silent:
        path = make_site(port=silent.sockets[0].getsockname()[1])
        said = await asyncio.to_thread(
            fairlead, "check", "--connect", "--timeout", "0.5", "-c", str(path), "-o", "json"
        )
        for writer in connections:
            writer.close()
            await writer.wait_closed()
    report = json.loads(said.out)["connections"][0]
    assert said.code in {0, 69}
    assert report["values"] == [] or all(item["status"].startswith("Bad") for item in report["values"])
