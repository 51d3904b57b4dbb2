"""The node-opcua server of the shared folder: installed once, started on a port, and its formulas."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import signal
import struct
import subprocess
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from schemas.documents import rfc3339

URI: Final = "urn:example:line1"
#: Tick 0, 2020-01-01T00:00:00Z.
START_MS: Final = 1_577_836_800_000
NODES: Final = (
    "Temperature", "Pressure", "Flow", "Level", "Running", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32",
    "Int64", "UInt64", "Float", "Double", "Text", "Stamp", "Id", "Bytes", "Label", "Ints", "Doubles", "Strings",
    "State", "Sensor", "Counter", "Constant", "Odd", "Ramp",
)  # fmt: skip


@dataclass
class NodeOpcUa:
    """A running node-opcua server."""

    endpoint: str
    namespace_index: int
    period_ms: int
    process: subprocess.Popen[str]
    stalls: Path

    def unsampled(self, ticks: Iterable[int]) -> set[int]:
        """
        Those ticks that the server itself may never have sampled.

        Its event loop was seen standing still (``stall_witness.js``) so long that less than 200 ms of the tick were
        left for its samplers: a value that no sampler saw is in no queue, and nobody could deliver it.
        """
        lines = self.stalls.read_text("utf-8").split("\n")[:-1] if self.stalls.exists() else []
        stalls = [(int(since), int(until)) for since, until in (line.split() for line in lines)]
        found = set()
        for k in ticks:
            begins = START_MS + k * self.period_ms
            ends = begins + self.period_ms
            stood = sum(max(0, min(until, ends) - max(since, begins)) for since, until in stalls)
            if self.period_ms - stood < 200:
                found.add(k)
        return found

    def missing(self, ticks: Sequence[int]) -> set[int]:
        """Ticks between the first and the last of these that are not there, although the server sampled them."""
        between = set(range(ticks[0], ticks[-1] + 1)) - set(ticks)
        return between - self.unsampled(between)

    def stop(self) -> None:
        """Kill it without a farewell."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def install(source: Path, npm: str, cache: Path) -> Path:
    """A copy of *source* with its packages, kept in *cache* between runs; skips the test without an npm registry."""
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(source.glob("*.js*")))).hexdigest()[:12]
    folder = cache / f"opcua-{digest}"
    if (folder / "installed").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.js*"):
        shutil.copyfile(path, folder / path.name)
    command = [npm, "install", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"npm install of node-opcua failed: {done.stderr[-500:]}")
        pytest.skip("node-opcua cannot be installed here (no npm registry)")
    (folder / "installed").touch()
    return folder


def start(
    node: str,
    folder: Path,
    pki: Path,
    port: int,
    period_ms: int = 500,
    ns_shift: int = 0,
    *,
    drop_every_s: int = 0,
    seconds: int = 1800,
) -> NodeOpcUa:
    """Start the server; it cuts all channels each *drop_every_s* (0: never), and ends by itself after *seconds*."""
    arguments = ["--port", port, "--period-ms", period_ms, "--ns-shift", ns_shift, "--pki", pki]
    arguments += ["--seconds", seconds, "--drop-every", drop_every_s]
    stalls = pki.parent / f"stalls-{port}"
    witness = Path(__file__).with_name("stall_witness.js")
    process = subprocess.Popen(
        [node, "--require", str(witness), "server.js", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "STALLS": str(stalls)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("READY "):
            _, endpoint, index = line.split()
            return NodeOpcUa(endpoint, int(index.removeprefix("ns=")), period_ms, process, stalls)
    raise AssertionError("node-opcua ended before it was ready")


def _wave(mean: float, amplitude: float, n: int, k: int) -> float:
    return mean + amplitude * math.sin(2 * math.pi * (k % n) / n)


def _float32(value: float) -> float:
    number: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return number


def expected(name: str, k: int) -> object:
    """The value of a node at tick *k*, as its formula in the server's source gives it."""
    return {
        "Temperature": lambda: _wave(65, 5, 120, k),
        "Pressure": lambda: _wave(4, 0.5, 90, k),
        "Flow": lambda: _float32(_wave(30, 4, 75, k)),
        "Level": lambda: _wave(50, 20, 300, k),
        "Running": lambda: float(k % 20 < 15),
        "SByte": lambda: k % 256 - 128,
        "Byte": lambda: k % 256,
        "Int16": lambda: k % 65536 - 32768,
        "UInt16": lambda: k % 65536,
        "Int32": lambda: -k,
        "UInt32": lambda: k,
        "Int64": lambda: k,
        "UInt64": lambda: (k % 1000 << 32) + k,
        "Float": lambda: _float32(k % 100000 / 8),
        "Double": lambda: k / 3,
        "Text": lambda: f"tick {k} ä",
        "Stamp": lambda: rfc3339((START_MS + k * 1000) * 1_000_000),
        "Id": lambda: str(uuid.UUID(int=k)),
        "Bytes": lambda: bytes([k & 255, k >> 8 & 255]),
        "Label": lambda: f"step {k % 5}",
        "Ints": lambda: [k, k + 1, k + 2],
        "Doubles": lambda: [j / 2 for j in range(k % 4)],
        "Strings": lambda: [f"a{k}", f"b{k}"],
        "State": lambda: k // 10 % 4,
        "Sensor": lambda: k / 10,
        "Counter": lambda: k // 3 % 100,
        "Constant": lambda: 7,
        "Odd": lambda: float(k % 2 == 1),
        "Ramp": lambda: k % 60 / 60,
    }[name]()


def tick_of(source_ns: int, period_ms: int) -> int:
    """The tick that a source time is exactly the time of."""
    k, rest = divmod(source_ns - START_MS * 1_000_000, period_ms * 1_000_000)
    assert rest == 0, f"{source_ns} is no time of a tick"
    return k
