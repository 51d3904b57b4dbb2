"""The clock of the tests' event loop: a standstill of the process is no time, a blocked or waiting loop is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.patient_loop import PatientLoop

ROOT = Path(__file__).resolve().parent.parent
STOOD_S = 2.0

#: Says when its limit of a second has passed, and when it is called.
_CHILD = """
import asyncio, functools, sys
from tests.patient_loop import PatientLoop

async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    limit = loop.call_later(1.0, functools.partial(print, "limit"))
    print("ready", flush=True)
    await reader.readline()
    print("called, stood", getattr(loop, "stood_s", 0.0) > 1.0)
    limit.cancel()

with asyncio.Runner(loop_factory=PatientLoop if sys.argv[1] == "patient" else None) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize(
    ("kind", "said"), [("patient", "called, stood True\n"), ("plain", "limit\ncalled, stood False\n")]
)
def test_a_standstill_is_no_time(eventually_sync: Callable[..., None], kind: str, said: str) -> None:
    """A limit of 1 s outlives a process that stood for 2 s, and does not with the standard clock (negative control)."""
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGSTOP)
        until_s = time.monotonic() + STOOD_S
        eventually_sync(lambda: time.monotonic() > until_s)
        os.kill(child.pid, signal.SIGCONT)
        child.stdin.write("\n")
        child.stdin.close()
        assert child.stdout.read() == said


def test_waiting_and_blocking_are_time() -> None:
    """A wait lasts at least as long as asked for, and a blocked loop has lost its time."""

    async def main() -> tuple[float, float]:
        loop, begun, real = asyncio.get_running_loop(), asyncio.get_running_loop().time(), time.monotonic()
        await asyncio.sleep(0.2)
        assert time.monotonic() - real >= 0.199
        blocked = loop.time()
        time.sleep(0.5)  # what a blocked loop is
        return blocked - begun, loop.time() - blocked

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        waited, blocked = runner.run(main())
    assert waited >= 0.199
    assert blocked > 0.1  # of 0.5 s, on a machine that gives us a fifth of its time


def test_a_block_that_computes_is_time() -> None:
    """Also where no other thread runs meanwhile, the one that keeps the clock included."""

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        begun, busy = loop.time(), time.process_time()
        sum(range(2 * 10**7))
        return loop.time() - begun, time.process_time() - busy

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        counted, worked = runner.run(main())
    assert counted > 0.9 * worked
