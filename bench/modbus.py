"""
The Modbus client: CPU time a request and a value, against pymodbus on the same server.

Work of both: every tag (float32) of one server read again and again, 62 values a request. Ours is the whole adapter,
from the plan to a SampleBatch with status and time; pymodbus' is its asyncio client and its own conversion.
The server answers from bytes that were encoded before (``bench.modbus_load``) and runs in a process of its own; every
value of ours is checked against the period of its time. Only ratios within one run count: the sides take turns, and the
ratio is the median of the turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pymodbus.client import AsyncModbusTcpClient

from adapters.base import AdapterContext
from adapters.modbus import ModbusAdapter, ModbusOptions
from bench.modbus_load import expected, modicon, period_at
from schemas.samples import Delivery, SampleBatch
from schemas.tagmap import Tag

PERIOD_S = 0.1
REGISTERS = 124
WARM_UP_S = 0.5


@dataclass(frozen=True)
class Turn:
    """What one side did in one turn."""

    values: int
    requests: int
    cpu_s: float
    wall_s: float
    wrong: int = 0

    @property
    def us_a_value(self) -> float:
        """CPU µs a value."""
        return 1e6 * self.cpu_s / self.values

    @property
    def us_a_request(self) -> float:
        """CPU µs a request."""
        return 1e6 * self.cpu_s / self.requests


def main(arguments: Sequence[str]) -> int:
    """Run the turns and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench modbus", description=__doc__)
    parser.add_argument("--tags", type=int, default=10_000, help="tags of the server (default 10000)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn (default 2)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--in-flight", type=int, action="append", help="depths to try (default 1, 8 and 32)")
    a = parser.parse_args(arguments)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    depths = a.in_flight or [1, 8, 32]
    with load_server(a.tags) as port:
        sides: dict[str, Callable[[], Coroutine[Any, Any, Turn]]] = {
            "pymodbus, read alone": lambda: _library(port, a.tags, a.seconds, convert=False),
            "pymodbus, read and converted": lambda: _library(port, a.tags, a.seconds, convert=True),
        }
        for depth in depths:
            sides[f"adapter, {depth} in flight"] = lambda depth=depth: _adapter(port, a.tags, a.seconds, depth)  # type: ignore[misc]
        turns: dict[str, list[Turn]] = {name: [] for name in sides}
        for _ in range(a.turns):
            for name, side in sides.items():
                turns[name].append(_run(side()))
    _print(turns, a.tags)
    return int(any(turn.wrong for side in turns.values() for turn in side))


@contextlib.contextmanager
def load_server(tags: int, period_s: float = PERIOD_S) -> Iterator[int]:
    """Port of a load server in a process of its own."""
    command = [sys.executable, "-m", "bench.modbus_load", str(tags), str(period_s)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rsplit(":", 1)[1])
    finally:
        process.communicate()


def _run(side: Coroutine[Any, Any, Turn]) -> Turn:
    with contextlib.suppress(ImportError):
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(side)
    return asyncio.run(side)


def tag_list(tags: int) -> tuple[Tag, ...]:
    """The tags of a load server, due without a pause."""
    return tuple(
        Tag(number=i, id=f"t{i}", path=f"B/v{i}", source="load", address=modicon(i), type="float32", scan_ms=1)
        for i in range(tags)
    )


async def _adapter(port: int, tags: int, seconds: float, depth: int) -> Turn:
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        context = AdapterContext("load", tag_list(tags), bytes(16), time.time_ns, Path(folder))
        options = ModbusOptions(host="127.0.0.1", port=port, byte_order="ABCD", in_flight=depth, timeout="5s")
        adapter = ModbusAdapter(options, context)
        await adapter.connect()
        warm = time.perf_counter() + WARM_UP_S
        while time.perf_counter() < warm:
            await _poll(adapter)
        requests, values, last = adapter.counters["requests"], 0, None
        begun, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() < begun + seconds:
            last = await _poll(adapter)
            values += len(last)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
        requests = adapter.counters["requests"] - requests
        await adapter.close()
    assert last is not None
    return Turn(values, requests, cpu, wall, _wrong(last, tags))


async def _poll(adapter: ModbusAdapter) -> SampleBatch:
    while True:
        item = await adapter.read()
        if isinstance(item, Delivery):
            await item.settle()
            return item.batch


def _wrong(batch: SampleBatch, tags: int) -> int:
    """Rows of a batch whose value is neither that of their period nor of a neighbour's."""
    k = period_at(int(batch.source_ns[0]) / 1e9, PERIOD_S)
    near = [expected(k + step, batch.tag, tags) for step in range(-3, 4)]
    right = np.any([batch.value == values for values in near], axis=0) & (batch.status == 0)
    return int((~right).sum())


async def _library(port: int, tags: int, seconds: float, *, convert: bool) -> Turn:
    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5, retries=0)
    await client.connect()
    blocks = [(a, min(REGISTERS, 2 * tags - a)) for a in range(0, min(2 * tags, 65_472), REGISTERS)]
    values = requests = at = 0
    warm = time.perf_counter() + WARM_UP_S
    begun = cpu = 0.0
    while True:
        now = time.perf_counter()
        if not begun and now >= warm:
            begun, cpu, values, requests = now, time.process_time(), 0, 0
        if begun and now >= begun + seconds:
            break
        address, count = blocks[at]
        at = (at + 1) % len(blocks)
        reply = await client.read_holding_registers(address, count=count)
        if convert:
            found = client.convert_from_registers(reply.registers, client.DATATYPE.FLOAT32)
            values += len(found) if isinstance(found, list) else 1
        else:
            values += len(reply.registers) // 2
        requests += 1
    cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
    client.close()
    return Turn(values, requests, cpu, wall)


def _print(turns: dict[str, list[Turn]], tags: int) -> None:
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {tags} float32 tags, uvloop, one connection")
    print("| client | values/s | CPU µs/request | CPU µs/value | ratio to pymodbus (read and converted) | wrong |")
    print("|---|---|---|---|---|---|")
    base = turns["pymodbus, read and converted"]
    for name, side in turns.items():
        ratios = [b.us_a_value / t.us_a_value for b, t in zip(base, side, strict=True)]
        print(
            f"| {name} | {median(t.values / t.wall_s for t in side):,.0f} | {median(t.us_a_request for t in side):.1f} "
            f"| {median(t.us_a_value for t in side):.3f} "
            f"| {median(ratios):.1f} [{min(ratios):.1f}..{max(ratios):.1f}] | {sum(t.wrong for t in side)} |"
        )
    print("Gate: 8 in flight at least 5 x pymodbus, a request.")
