"""
End to end: a load server, acquire and core as real processes, SQLite with journal, detectors and roll-ups on.

Printed for each protocol: values a second that are durable in SQL; CPU µs a value (user + system) of the whole process
tree and of acquire and core; p50, p99 and p99.9 from source time to the moment a reader sees the committed row (the
poll adds up to 5 ms); summed PSS; the longest WAL; and how many of the checked rows carry a wrong value. Source, broker
and database share the machine. The detectors' part of core's CPU is what ``python -m bench pipeline`` says.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from bench.load import EPOCH_S, WRAP

PROTOCOLS = ("modbus", "opcua", "mqtt")
#: Servers that are made for load; where one is missing the simulators' own serves.
FAST = {"modbus": "bench.modbus_load", "opcua": "bench.opcua_replay", "mqtt": "bench.mqtt_replay"}
WARM_UP_S = 6.0
#: Rows that are looked at, in blocks spread over the run.
CHECKED = 1_000_000
BLOCK = 5_000


@dataclass
class Figures:
    """One row of the table; CPU in µs a stored value, latency in ms, memory and WAL in MB."""

    stored: float
    cpu: float
    acquire: float
    core: float
    p50: float
    p99: float
    p999: float
    pss: float
    wal: float
    wrong: int
    checked: int


@dataclass(frozen=True)
class Load:
    """What is offered, and how it is served."""

    protocol: str
    tags: int
    period_s: float
    fast: bool

    @property
    def command(self) -> list[str]:
        """The load server."""
        python = [sys.executable, "-m"]
        if not self.fast:
            return [*python, "bench.load", self.protocol, str(self.tags), str(self.period_s)]
        named = [str(self.tags), str(self.period_s)]
        if self.protocol != "modbus":
            named = ["--tags", str(self.tags), "--period", str(self.period_s)]
        return [*python, FAST[self.protocol], *named]


def main(argv: Sequence[str]) -> int:
    """``python -m bench e2e``."""
    parser = argparse.ArgumentParser(prog="python -m bench e2e", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of each run (default 10)")
    parser.add_argument("--minutes", type=float, help="the same in minutes, for a sustained run")
    parser.add_argument("--tags", type=int, default=1000, help="tags of each protocol (default 1000)")
    parser.add_argument("--period", type=float, default=0.2, help="seconds between two values of a tag (default 0.2)")
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="only this one (may be repeated)")
    parser.add_argument("--runs", type=int, default=1, help="runs of which the medians are printed (default 1)")
    parser.add_argument("--simulator", action="store_true", help="serve by the simulators, not by the load servers")
    arguments = parser.parse_args(argv)
    seconds = arguments.seconds if arguments.minutes is None else arguments.minutes * 60
    run(
        arguments.protocol or list(PROTOCOLS),
        arguments.tags,
        arguments.period,
        seconds,
        runs=arguments.runs,
        fast=not arguments.simulator,
    )
    return 0


def run(protocols: list[str], tags: int, period_s: float, seconds: float, *, runs: int = 1, fast: bool = True) -> None:
    """Measure and print the table."""
    print(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {tags} tags each {period_s:g} s, "
        f"{seconds:g} s, median of {runs}"
    )
    print(
        "| protocol | offered values/s | stored values/s | CPU µs/value | acquire | core | p50 ms | p99 | p99.9 "
        "| PSS MB | WAL MB | wrong of checked |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for protocol in protocols:
        load = Load(protocol, tags, period_s, fast and find_spec(FAST[protocol]) is not None)
        found = [measure(load, seconds) for _ in range(runs)]
        f = Figures(**{field.name: median(getattr(one, field.name) for one in found) for field in fields(Figures)})
        wrong = max(one.wrong for one in found)
        print(
            f"| {protocol} | {tags / period_s:.0f} | {f.stored:.0f} | {f.cpu:.2f} | {f.acquire:.2f} | {f.core:.2f} "
            f"| {f.p50:.0f} | {f.p99:.0f} | {f.p999:.0f} | {f.pss:.0f} | {f.wal:.0f} | {wrong} of {f.checked:.0f} |",
            flush=True,
        )


def measure(load: Load, seconds: float) -> Figures:
    """One run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        home = Path(folder)
        server = subprocess.Popen(load.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdin is not None
        address = server.stdout.readline().removeprefix("READY ").strip()
        _write_site(home, load, address)
        with (home / "log").open("w") as log:
            broker = subprocess.Popen(
                [sys.executable, "-m", "broker", "run", "--config", str(home / "fairlead.yaml")], stderr=log
            )
        try:
            return _watch(home, broker, load, seconds)
        finally:
            broker.terminate()
            broker.wait(60)
            server.stdin.close()
            server.wait(10)


def _write_site(home: Path, load: Load, address: str) -> None:
    protocol, tags = load.protocol, load.tags
    scan = f"{load.period_s * 1000:g}ms"
    source: dict[str, Any]
    if protocol == "modbus":
        host, port = address.rsplit(":", 1)
        source = {"kind": "modbus", "host": host, "port": int(port), "byte_order": "ABCD", "scan": scan}
    elif protocol == "opcua":
        source = {"kind": "opcua", "endpoint": address, "security": "None", "scan": scan}
        source["subscription"] = {"publishing": scan}
    else:
        form = "epoch_us" if load.fast else "epoch_ms"
        source = {"kind": "mqtt", "broker": address, "protocol": "3.1.1"}
        source["subscriptions"] = [{"filter": "bench/#", "decode": "json", "time": "ts", "time_format": form}]
    share = -(-tags // 10)
    rows = [
        {
            "path": f"Bench/Site/Area/Line{i % 20}/v{i}",
            "source": "load",
            "address": {
                "modbus": f"4{2 * i + 1:05d}",
                "opcua": f"nsu=urn:fairlead:bench;s=v{i}",
                "mqtt": f"bench/v{i:05d}#v" if load.fast else f"bench/{i // share}#v{i}",
            }[protocol],
            "type": "float32" if protocol == "modbus" else "float64",
            "unit": "1",
        }
        for i in range(tags)
    ]
    # JSON is YAML, and its writer needs no dependency
    site = {"version": 1, "site": {"path": "Bench/Site"}, "sources": {"load": source}, "llm": {"backend": "none"}}
    site["api"] = {"listen": f"127.0.0.1:{_free_port()}"}
    (home / "fairlead.yaml").write_text(json.dumps(site), "utf-8")
    (home / "maps").mkdir()
    (home / "maps" / "load.yaml").write_text(json.dumps({"version": 1, "tags": rows}), "utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _watch(home: Path, broker: subprocess.Popen[bytes], load: Load, seconds: float) -> Figures:
    database, wal = home / "var" / "store.db", home / "var" / "store.db-wal"
    end = time.monotonic() + 60
    while not _max_seq(database):
        if time.monotonic() > end or broker.poll() is not None:
            raise SystemExit(f"{load.protocol}: no row came\n{(home / 'log').read_text()[-3000:]}")
        time.sleep(0.1)
    time.sleep(WARM_UP_S)
    family = _family(broker.pid)
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    seen: list[tuple[int, int]] = [(_seq(connection), time.time_ns())]
    longest = 0
    cpu, began = _cpu(family), time.monotonic()
    while time.monotonic() - began < seconds:
        seq = _seq(connection)
        if seq != seen[-1][0]:
            seen.append((seq, time.time_ns()))
            longest = max(longest, wal.stat().st_size if wal.exists() else 0)
        time.sleep(0.005)
    took = time.monotonic() - began
    used = {name: seconds_used - cpu[name] for name, seconds_used in _cpu(family).items()}
    pss = sum(process.memory_full_info().pss for _, process in family) / 1e6
    places, times = np.array([place for place, _ in seen]), np.array([t for _, t in seen])
    rows = _rows(connection, int(places[0]), int(places[-1]))
    connection.close()
    numbers, source_ns, found, tag = rows
    late = (times[np.searchsorted(places, numbers)] - source_ns) / 1e6
    stored = int(places[-1] - places[0])
    p50, p99, p999 = np.percentile(late, [50, 99, 99.9])
    us = {name: value / max(stored, 1) * 1e6 for name, value in used.items()}
    return Figures(
        stored / took,
        sum(us.values()),
        us.get("acquire", 0.0),
        us.get("core", 0.0),
        float(p50),
        float(p99),
        float(p999),
        pss,
        longest / 1e6,
        _wrong(source_ns, found, tag, load),
        len(numbers),
    )


def _rows(connection: sqlite3.Connection, after: int, upto: int) -> tuple[NDArray[Any], ...]:
    """Columns seq, time, value and tag of rows in evenly spread blocks, all rows where they are few."""
    blocks = max(1, min(CHECKED, upto - after) // BLOCK)
    edges = np.linspace(after, upto, blocks + 1).astype(np.int64).tolist()
    length = BLOCK if upto - after > CHECKED else upto - after
    query = (
        "SELECT seq, source_ts, value, path FROM records JOIN tags USING (tag_id) WHERE seq > ? AND seq <= ?"
        " ORDER BY seq"
    )
    found: list[tuple[int, int, float, str]] = []
    for low, high in pairwise(edges):
        found += connection.execute(query, (low, min(high, low + length))).fetchall()
    seq, source, value, path = zip(*found, strict=True)
    tag = np.array([int(text.rsplit("/v", 1)[1]) for text in path])
    return np.array(seq), np.array(source), np.array(value, np.float64), tag


def _wrong(source_ns: NDArray[Any], found: NDArray[Any], tag: NDArray[Any], load: Load) -> int:
    """Rows whose value is not that of their time, one period to either side allowed for the way to the source."""
    k = ((source_ns / 1e9 - EPOCH_S) / load.period_s).astype(np.int64)
    # float32 holds five digits behind the point at best while the whole part is below 10,000
    whole = np.round(found - tag / load.tags)
    right = np.abs(found - tag / load.tags - whole) < 2e-3
    near = np.zeros(len(found), np.bool_)
    for step in (-2, -1, 0, 1):
        near |= whole.astype(np.int64) % WRAP == (k + step) % WRAP
    return int(np.count_nonzero(~(right & near)))


def _max_seq(database: Path) -> int:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return _seq(connection)
    except sqlite3.Error:
        return 0


def _seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM records").fetchone()[0])


def _family(pid: int) -> list[tuple[str, psutil.Process]]:
    """The broker's processes by what they are: run, acquire, core."""
    parent = psutil.Process(pid)
    found = [("run", parent)]
    for child in parent.children(recursive=True):
        words = child.cmdline()
        found.append((next((name for name in ("acquire", "core") if name in words), "other"), child))
    return found


def _cpu(family: list[tuple[str, psutil.Process]]) -> dict[str, float]:
    used: dict[str, float] = {}
    for name, process in family:
        used[name] = used.get(name, 0.0) + sum(process.cpu_times()[:2])
    return used
