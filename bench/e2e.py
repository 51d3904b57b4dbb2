"""
End to end: a simulated server, acquire and core as real processes, SQLite with journal, detectors and roll-ups on.

Printed for each protocol: values a second that are durable in SQL, CPU µs a value of acquire and core together
(user + system), p50 and p99 from source time to the moment a reader sees the committed row (the poll adds up to
5 ms), summed PSS, and how many of the checked rows carry a wrong value. Source, broker and database share the machine.
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from bench.load import EPOCH_S, WRAP

PROTOCOLS = ("modbus", "opcua", "mqtt")
WARM_UP_S = 6.0


@dataclass
class Figures:
    """One row of the table."""

    protocol: str
    offered: float
    stored: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    pss_mb: float
    wrong: int
    checked: int


def main(argv: Sequence[str]) -> int:
    """``python -m bench e2e``."""
    parser = argparse.ArgumentParser(prog="python -m bench e2e", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time of each protocol (default 10)")
    parser.add_argument("--tags", type=int, default=1000, help="tags of each protocol (default 1000)")
    parser.add_argument("--period", type=float, default=0.2, help="seconds between two values of a tag (default 0.2)")
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="only this one (may be repeated)")
    arguments = parser.parse_args(argv)
    run(arguments.protocol or list(PROTOCOLS), arguments.tags, arguments.period, arguments.seconds)
    return 0


def run(protocols: list[str], tags: int, period_s: float, seconds: float) -> None:
    print(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {tags} tags each {period_s:g} s, {seconds:g} s"
    )
    print(
        "| protocol | offered values/s | stored values/s | CPU µs/value | p50 ms | p99 ms | PSS MB | wrong of checked |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for protocol in protocols:
        f = measure(protocol, tags, period_s, seconds)
        print(
            f"| {f.protocol} | {f.offered:.0f} | {f.stored:.0f} | {f.cpu_us:.1f} | {f.p50_ms:.0f} | {f.p99_ms:.0f} "
            f"| {f.pss_mb:.0f} | {f.wrong} of {f.checked} |",
            flush=True,
        )


def measure(protocol: str, tags: int, period_s: float, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        home = Path(folder)
        load = subprocess.Popen(
            [sys.executable, "-m", "bench.load", protocol, str(tags), str(period_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert load.stdout is not None
        assert load.stdin is not None
        address = load.stdout.readline().removeprefix("READY ").strip()
        _write_site(home, protocol, address, tags, period_s)
        broker = subprocess.Popen(
            [sys.executable, "-m", "broker", "run", "--config", str(home / "fairlead.yaml")],
            stderr=(home / "log").open("w"),
        )
        try:
            return _watch(home, broker, protocol, tags, period_s, seconds)
        finally:
            broker.terminate()
            broker.wait(30)
            load.stdin.close()
            load.wait(10)


def _write_site(home: Path, protocol: str, address: str, tags: int, period_s: float) -> None:
    scan = f"{period_s * 1000:g}ms"
    if protocol == "modbus":
        host, port = address.rsplit(":", 1)
        source = {"kind": "modbus", "host": host, "port": int(port), "byte_order": "ABCD", "scan": scan}
    elif protocol == "opcua":
        source = {"kind": "opcua", "endpoint": address, "security": "None", "scan": scan}
        source["subscription"] = {"publishing": scan}
    else:
        source = {"kind": "mqtt", "broker": address, "protocol": "3.1.1"}
        source["subscriptions"] = [{"filter": "bench/#", "decode": "json", "time": "ts", "time_format": "epoch_ms"}]
    share = -(-tags // 10)
    rows = [
        {
            "path": f"Bench/Site/Area/Line{i % 20}/v{i}",
            "source": "load",
            "address": {
                "modbus": f"4{2 * i + 1:05d}",
                "opcua": f"nsu=urn:fairlead:bench;s=v{i}",
                "mqtt": f"bench/{i // share}#v{i}",
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


def _watch(
    home: Path, broker: subprocess.Popen[bytes], protocol: str, tags: int, period_s: float, seconds: float
) -> Figures:
    database = home / "var" / "store.db"
    end = time.monotonic() + 30
    while not _max_seq(database):
        if time.monotonic() > end or broker.poll() is not None:
            raise SystemExit(f"{protocol}: no row came\n{(home / 'log').read_text()[-3000:]}")
        time.sleep(0.1)
    time.sleep(WARM_UP_S)
    family = _family(broker.pid)
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    seen: list[tuple[int, int]] = [(_seq(connection), time.time_ns())]
    cpu, began = _cpu(family), time.monotonic()
    while time.monotonic() - began < seconds:
        seq = _seq(connection)
        if seq != seen[-1][0]:
            seen.append((seq, time.time_ns()))
        time.sleep(0.005)
    took, used = time.monotonic() - began, _cpu(family) - cpu
    pss = sum(process.memory_full_info().pss for process in family) / 1e6
    rows = connection.execute(
        "SELECT seq, source_ts, value, path FROM records JOIN tags USING (tag_id) WHERE seq > ? AND seq <= ?",
        (seen[0][0], seen[-1][0]),
    ).fetchall()
    connection.close()
    seqs = np.array([row[0] for row in rows])
    source = np.array([row[1] for row in rows])
    places, times = np.array([s for s, _ in seen]), np.array([t for _, t in seen])
    late = (times[np.searchsorted(places, seqs)] - source) / 1e6
    wrong = _wrong(rows, tags, period_s)
    stored = len(rows) / took
    cpu_us = used / max(len(rows), 1) * 1e6
    p50, p99 = np.percentile(late, [50, 99])
    return Figures(protocol, tags / period_s, stored, cpu_us, float(p50), float(p99), pss, wrong, len(rows))


def _wrong(rows: list[tuple[int, int, float, str]], tags: int, period_s: float) -> int:
    """Rows whose value is not that of their time, one period to either side allowed for the way to the source."""
    wrong = 0
    for _, source_ns, found, path in rows:
        tag = int(path.rsplit("/v", 1)[1])
        k = int((source_ns / 1e9 - EPOCH_S) / period_s)
        fraction_right = abs(found % 1 - tag / tags) < 2e-3 or abs(abs(found % 1 - tag / tags) - 1) < 2e-3
        near = {(k + step) % WRAP for step in (-2, -1, 0, 1)}
        wrong += not (fraction_right and (int(found) in near or round(found) in near))
    return wrong


def _max_seq(database: Path) -> int:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return _seq(connection)
    except sqlite3.Error:
        return 0


def _seq(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM records").fetchone()[0])


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu(family: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in family)
