"""Against the C server on libmodbus: every type, table and order equals the formula of its tick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import status
from schemas.samples import SampleBatch
from schemas.tagmap import Tag
from tests.libmodbus import compile_server, formula

MakeTag = Callable[..., Tag]
TICK = 123_456_789


@pytest.fixture(scope="module")
def program(shared: Path, need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The peer, compiled; skipped by name without libmodbus, which CI has to have."""
    source = shared / "peers" / "modbus" / "server.c"
    out = tmp_path_factory.mktemp("libmodbus") / "modbus-line1"
    return compile_server(source, need("cc"), need("pkg-config"), out)


@pytest.fixture
async def port(program: Path, free_port: Callable[[], int]) -> AsyncIterator[int]:
    """Port of a running peer whose tick stands still."""
    chosen = free_port()
    process = await asyncio.create_subprocess_exec(
        str(program), str(chosen), "60", str(TICK), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 60) == f"READY port={chosen}\n".encode()
        yield chosen
    finally:
        process.terminate()
        await process.wait()


async def test_values_equal_the_formula(
    port: int,
    make_tag: MakeTag,
    make_adapter: Callable[..., Any],
    take: Callable[[Any], Awaitable[SampleBatch]],
) -> None:
    """All types of all four tables equal the formula; addresses from 60 up are bad for themselves alone."""
    tags: list[Tag] = []
    want: dict[int, float | None] = {}

    def add(address: str, type_name: str, order: str, value: float | None) -> None:
        want[len(tags)] = value
        tags.append(make_tag(len(tags), address, type_name, byte_order=order))

    for prefix, k in (("HR", TICK), ("IR", TICK + 1)):
        for offset, type_name, order, value in formula(k):
            add(f"{prefix}{offset}", type_name, order, value)
        add(f"{prefix}0.0", "bool", "ABCD", k & 1)
        for offset in (59, 60, 61, 65):
            add(f"{prefix}{offset}", "uint16", "ABCD", 0 if offset < 60 else None)
        add(f"{prefix}59", "int32", "ABCD", None)
    for prefix in ("C", "DI"):
        for i in (0, 1, 2, 7, 8, 15, 16):
            add(f"{prefix}{i}", "bool", "ABCD", TICK >> i & 1 if i < 16 else None)

    adapter = make_adapter(port, tags, address_style="zero_based")
    await adapter.connect()
    for _ in range(3):
        batch = await take(adapter)
        rows = {row.tag: row for row in batch.rows()}
        assert set(rows) == set(want)
        for tag, value in want.items():
            if value is None:
                assert rows[tag].status == status.BAD_CONFIGURATION_ERROR
                assert np.isnan(rows[tag].value)
            else:
                assert (rows[tag].status, rows[tag].value) == (status.GOOD, value), tags[tag].address
    assert adapter.counters["refused_items"] == sum(value is None for value in want.values())
    assert adapter.counters["doubtful_replies"] == 0


async def test_the_wrong_order_is_noticed(
    port: int,
    make_tag: MakeTag,
    make_adapter: Callable[..., Any],
    take: Callable[[Any], Awaitable[SampleBatch]],
) -> None:
    """The same registers in another order give other values, so the comparison above can fail (negative control)."""
    adapter = make_adapter(port, [make_tag(0, "HR20", "float32", byte_order="CDAB")], address_style="zero_based")
    await adapter.connect()
    assert (await take(adapter)).value[0] != (TICK % 10000) / 8
