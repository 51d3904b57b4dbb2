"""
The OPC UA path against the library's: ``python -m bench opcua [--seconds N] [--runs N]``.

Decode: the same bytes of a PublishResponse with 1,000 values, ns of CPU a value, our decoder to a finished batch, the
library's to its objects; one type, and four types in turn. Loop: a flooding replay server in a process of its own, CPU
µs a value of the client process, our adapter (read and settle, no journal) and the library's handler. Baseline and
candidate alternate; printed are medians, and the ratio with its range. A gate is printed beside what was measured, and
asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvloop
from asyncua import Client, ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

from adapters.base import AdapterContext
from adapters.opcua import OpcUaAdapter, OpcUaOptions, responses
from adapters.opcua.columns import Columns, Times
from adapters.opcua.rows import Rows
from bench.opcua_messages import Load, Template
from bench.opcua_replay import URI
from schemas.samples import Delivery
from schemas.tagmap import Tag

VALUES: Final = 1000
FOUR: Final = "float64,float32,int32,bool"


def run(seconds: float, runs: int) -> None:
    """Measure and print."""
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {runs} runs")
    print("| part | library | ours | ratio [range] | gate |")
    print("|---|---|---|---|---|", flush=True)
    for title, types, gate in (("decode, one type", "float64", 100), ("decode, four types", FOUR, 5)):
        body = bytes(Template(Load(VALUES, 0.1, True, types.split(","), VALUES, 1), 77, _items()).fill(5, 10**17))
        pairs = [(_cost(_library, body, 3), _cost(_ours, body, 100)) for _ in range(runs)]
        _row(f"{title}, ns/value", pairs, gate)
    for title, types, gate in (("publish loop, one type", "float64", 15), ("publish loop, four types", FOUR, 5)):
        with _Replay(types) as endpoint:
            pairs = [
                (_in_process("handler", endpoint, types, seconds), _in_process("adapter", endpoint, types, seconds))
                for _ in range(runs)
            ]
        _row(f"{title}, µs/value", pairs, gate)


def _row(title: str, pairs: list[tuple[float, float]], gate: int) -> None:
    ratios = [theirs / ours for theirs, ours in pairs]
    theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"| {title} | {theirs:.4g} | {ours:.3g} | {statistics.median(ratios):.0f} "
        f"[{min(ratios):.0f}..{max(ratios):.0f}] | {gate} |",
        flush=True,
    )


def _items() -> list[tuple[int, int]]:
    return [(tag, tag) for tag in range(VALUES)]


def _library(body: bytes) -> Any:
    return struct_from_binary(ua.PublishResponse, Buffer(body))


_TIMES = Times()


def _ours(body: bytes) -> Any:
    columns = Columns(10**18, _TIMES)
    for part in responses.published(Buffer(body)).message.parts:
        assert isinstance(part, Rows)
        columns.add(part)
    return columns.batch("bench", bytes(16))


def _cost(work: Callable[[bytes], Any], body: bytes, repeats: int) -> float:
    """CPU ns a value, median of 5."""
    found = []
    for _ in range(5):
        began = time.process_time_ns()
        for _ in range(repeats):
            work(body)
        found.append((time.process_time_ns() - began) / repeats / VALUES)
    return statistics.median(found)


class _Replay:
    """The flooding server."""

    def __init__(self, types: str) -> None:
        arguments = ["--tags", str(VALUES), "--message", str(VALUES), "--types", types, "--flood"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.opcua_replay", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()[1]

    def __exit__(self, *exc: object) -> None:
        self._process.communicate(timeout=10)


def _in_process(way: str, endpoint: str, types: str, seconds: float) -> float:
    """CPU µs a value of one client in a fresh process."""
    command = [sys.executable, "-m", "bench.opcua_decode", way, endpoint, types, str(seconds)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


async def _handler(endpoint: str, types: str, seconds: float) -> float:  # noqa: ARG001 - as `_adapter`
    count = 0

    class Handler:
        def datachange_notification(self, *change: Any) -> None:  # noqa: ARG002 - the library's name
            nonlocal count
            count += 1

    async with Client(endpoint, timeout=20, watchdog_intervall=60) as client:  # A6
        subscription = await client.create_subscription(100, Handler())
        await subscription.subscribe_data_change([client.get_node(ua.NodeId(f"v{n}", 2)) for n in range(VALUES)])
        await asyncio.sleep(1)
        before, began = count, time.process_time()
        await asyncio.sleep(seconds)
        return (time.process_time() - began) / (count - before) * 1e6


async def _adapter(endpoint: str, types: str, seconds: float) -> float:
    kinds = types.split(",")
    tags = [
        Tag(number=n, id=f"t{n}", path=f"A/v{n}", source="s", address=f"nsu={URI};s=v{n}", type=kinds[n % len(kinds)])
        for n in range(VALUES)
    ]
    options = {"endpoint": endpoint, "security": "None", "subscription": {"publishing": "100ms", "in_flight": 4}}
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        context = AdapterContext("s", tuple(tags), bytes(16), time.time_ns, state, state)
        adapter = OpcUaAdapter(OpcUaOptions.model_validate(options), context)
        await adapter.connect()

        async def read(for_s: float) -> int:
            count, end = 0, time.monotonic() + for_s
            while time.monotonic() < end:
                item = await adapter.read()
                if isinstance(item, Delivery):
                    count += len(item.batch)
                    await item.settle()
            return count

        await read(1)
        began = time.process_time()
        count = await read(seconds)
        cost = (time.process_time() - began) / count * 1e6
        await adapter.close()
        return cost


def main(arguments: list[str]) -> None:
    """The command line of ``python -m bench opcua``."""
    parser = argparse.ArgumentParser(prog="python -m bench opcua", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of each client (default 3)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each pair (default 3)")
    asked = parser.parse_args(arguments)
    run(asked.seconds, asked.runs)


if __name__ == "__main__":
    _way, _endpoint, _types, _seconds = sys.argv[1:]
    print(uvloop.run({"handler": _handler, "adapter": _adapter}[_way](_endpoint, _types, float(_seconds))))
