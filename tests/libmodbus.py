"""The libmodbus server of the shared folder: compiled, and the formulas of its registers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def compile_server(source: Path, cc: str, pkg_config: str, out: Path) -> Path:
    """The program at *out*; the test is skipped by name without libmodbus, which CI has to have."""
    asked = subprocess.run([pkg_config, "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=False)
    if asked.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("libmodbus is required in CI; .ci/run installs it")
        pytest.skip("libmodbus is not installed")
    subprocess.run([cc, "-O1", "-o", str(out), str(source), *asked.stdout.split()], check=True, timeout=300)
    return out


def formula(k: int) -> list[tuple[int, str, str, float]]:
    """Offset, type, order and value of every number in a register table at tick *k*."""
    rows: list[tuple[int, str, str, float]] = [(i, "uint16", "ABCD", (k + i) % 65536) for i in range(8)]
    rows += [(8 + i, "int16", "ABCD", -(k % 1000 + i)) for i in range(4)]
    for base, order in ((20, "ABCD"), (40, "CDAB")):
        rows += [
            (base, "float32", order, (k % 10000) / 8),
            (base + 2, "int32", order, -k),
            (base + 4, "uint32", order, 3 * k % 2**32),
        ]
    return rows
