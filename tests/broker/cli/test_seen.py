"""``fairlead check --connect`` judges every tag: bad, missing, still waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.cli.seen import Seen
from schemas.samples import SampleBatch
from schemas.status import BAD_NODE_ID_UNKNOWN, BAD_WAITING_FOR_INITIAL_DATA
from schemas.tagmap import Tag
from simulators.modbus_server import ModbusServer, RegisterPoint

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
POINTS = [RegisterPoint("speed", "holding", 0, "int16"), RegisterPoint("flow", "holding", 1, "float32", "CDAB")]


async def probe(fairlead: Fairlead, path: Path, *more: str) -> tuple[Any, dict[str, Any]]:
    """What ``check --connect`` ended with, and its one row."""
    said = await asyncio.to_thread(fairlead, "check", "--connect", *more, "-c", str(path), "-o", "json")
    (row,) = json.loads(said.out)["connections"]
    return said, row


async def test_only_bad_values_are_a_failure(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A device that answers every request with an error is reached, and not ok: exit 69, each tag with its status."""
    async with ModbusServer(lambda: {"speed": None, "flow": None}, POINTS) as server:
        said, row = await probe(fairlead, make_site(port=server.port))
    assert (said.code, row["result"]) == (69, "failed: read")
    assert row["detail"] == (
        "every value is bad: Acme/Lyon/A/Flow (BadDeviceFailure), Acme/Lyon/A/Speed (BadDeviceFailure)"
    )


async def test_bad_values_among_good_ones_are_named(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A register that the device does not have is told with path and status; what can be read is shown."""
    async with ModbusServer(lambda: {"speed": -2}, POINTS[:1]) as server:
        said, row = await probe(fairlead, make_site(port=server.port))
    assert (said.code, row["result"], row["missing"]) == (0, "partial", [])
    assert row["detail"].startswith("2 of 2 tags, raw: Speed = -2.0; 1 bad: Acme/Lyon/A/Flow (Bad")


async def test_tags_that_did_not_come_are_named(fairlead: Fairlead, make_site: MakeSite) -> None:
    """Of a source that speaks when it likes, a tag that is not seen is no failure; every batch is looked at for it."""
    path = make_site()
    modbus = path.read_text().split("plc1: ")[1].split("\n")[0]
    path.write_text(path.read_text().replace(modbus, "{kind: replay, file: played.csv, speed: max}"))
    (path.parent / "maps" / "a.yaml").write_text(
        "version: 1\ndefaults: {source: plc1, unit: '1'}\ntags:\n"
        + "".join(f"  - {{path: Acme/Lyon/A/{name}, address: {name}}}\n" for name in ("Speed", "Flow", "Level"))
    )
    # Flow comes in the third batch of a thousand lines, Level never
    lines = [f"{1_767_225_600 + second},{second},{second if second == 2400 else ''}," for second in range(2500)]
    (path.parent / "played.csv").write_text("\n".join(["time,Speed,Flow,Level", *lines, ""]))
    said, row = await probe(fairlead, path)
    assert (said.code, row["result"], row["missing"]) == (0, "ok", ["Acme/Lyon/A/Level"])
    assert {item["path"]: item["raw"] for item in row["values"]}["Acme/Lyon/A/Flow"] == 2400.0
    assert row["detail"].startswith("2 of 3 tags, raw: ")
    assert row["detail"].endswith(
        "1 not seen before the input ended (the peer speaks when it has something to say): Acme/Lyon/A/Level"
    )


def tag(number: int) -> Tag:
    """A tag of the number."""
    return Tag(number=number, id=f"t{number}", path=f"Acme/T{number}", source="s", address=str(number))


def batch(numbers: range, status: int) -> SampleBatch:
    """A row of each number."""
    n = len(numbers)
    return SampleBatch.build("s", b"0" * 16, 1, tag=[*numbers], source_ns=[1] * n, value=[1.0] * n, status=[status] * n)


def test_of_many_bad_tags_twenty_are_named() -> None:
    """The rest is a count; a poll that did not bring a tag is not ok."""
    seen = Seen([tag(number) for number in range(50)], "modbus")
    seen.take(batch(range(1), 0))
    seen.take(batch(range(1, 40), BAD_NODE_ID_UNKNOWN))
    text = seen.text("in 10 s")
    assert "39 bad: Acme/T1 (BadNodeIdUnknown)" in text
    assert "Acme/T20 (BadNodeIdUnknown) and 19 more; 10 not seen in 10 s: Acme/T40" in text
    assert (seen.result, seen.complete) == ("partial", False)


def test_a_value_that_the_server_still_waits_for_is_waited_for() -> None:
    """BadWaitingForInitialData is no answer yet; the value after it counts."""
    seen = Seen([tag(1)], "opcua")
    seen.take(batch(range(1, 2), BAD_WAITING_FOR_INITIAL_DATA))
    assert (seen.complete, seen.result) == (False, "failed: read")
    seen.take(batch(range(1, 2), 0))
    assert (seen.complete, seen.result) == (True, "ok")


@pytest.mark.parametrize(("kind", "result"), [("modbus", "failed: read"), ("mqtt", "ok")])
def test_nothing_at_all_fails_where_there_is_a_poll(kind: str, result: str) -> None:
    """A broker may have nothing to say for the moment; a device that is asked has to answer."""
    seen = Seen([tag(1)], kind)
    assert (seen.result, seen.text("in 1 s")) == (result, "connected; no value in 1 s")
