"""``fairlead run``: starts both processes, ends them in order, brings back what dies, and leaves no orphan."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.e2e.processes import Broker

Eventually = Callable[..., Awaitable[None]]
pytestmark = pytest.mark.slow


def children(pid: int) -> dict[str, psutil.Process]:
    """The supervisor's processes by name: acquire, core."""
    found = {}
    for process in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie has no command line any more
            line = process.cmdline()
            found.update({name: process for name in ("acquire", "core") if name in line})
    return found


def gone(processes: list[psutil.Process]) -> bool:
    """Whether none of these runs."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@pytest.fixture
async def supervised(
    tmp_path: Path, free_port: Callable[[], int], eventually: Eventually
) -> AsyncIterator[tuple[Broker, dict[str, psutil.Process]]]:
    """A supervised broker that stores records of a PLC, and its two processes; whatever happens, they end."""
    started = time.monotonic()

    def signals() -> dict[str, float]:
        return {"n": round((time.monotonic() - started) * 20)}

    async with ModbusServer(signals, [RegisterPoint("n", "holding", 0, "uint16")]) as plc:
        source = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "scan": "100ms"}
        tag = {"path": "Acme/Lyon/Line1/N", "source": "plc", "address": "40001", "type": "uint16", "unit": "1"}
        broker = Broker(tmp_path, {"plc": source}, [tag], port=free_port())
        broker.start("run")
        seen: dict[int, psutil.Process] = {}
        try:
            await eventually(lambda: broker.count() > 5 and broker.answer("/healthz") is not None, 240)
            parts = children(broker.pid("run"))
            seen = {part.pid: part for part in parts.values()}
            yield broker, parts
        finally:
            if broker.alive("run"):
                seen |= {part.pid: part for part in children(broker.pid("run")).values()}
            broker.stop()
            for part in seen.values():
                if part.is_running():
                    part.kill()


Supervised = tuple[Broker, dict[str, psutil.Process]]


def stopped(broker: Broker) -> list[str]:
    """Names of the processes in the order in which they said that they have stopped."""
    lines = [json.loads(line) for line in broker.log().splitlines() if line.startswith("{")]
    ended = [line for line in lines if line["event"] == "process_stopped"]
    return [line["process"] for line in sorted(ended, key=lambda line: line["timestamp"])]


async def test_sigterm_ends_both_in_order(supervised: Supervised, eventually: Eventually) -> None:
    """Acquire ends first, then core with everything that acquire wrote, then the supervisor with 0; nothing is left."""
    broker, parts = supervised
    assert set(parts) == {"acquire", "core"}
    below = [process for part in parts.values() for process in part.children(recursive=True)]
    assert broker.end("run") == 0
    assert stopped(broker) == ["acquire", "core", "supervisor"]
    assert gone([*parts.values(), *below])
    assert not (broker.home / "var" / "core.json").exists()
    sent = json.loads((broker.home / "var" / "acquire.json").read_bytes())["sources"]["plc"]["samples"]
    assert broker.count() == sent


async def test_processes_that_hang_are_told(supervised: Supervised, eventually: Eventually) -> None:
    """SIGSTOP of both: each is named in the log; they go on at SIGCONT, are told again, and end in order."""
    broker, parts = supervised

    def named(event: str) -> set[str]:
        lines = [json.loads(line) for line in broker.log().splitlines() if line.startswith("{")]
        return {line["process"] for line in lines if line["event"] == event}

    for part in parts.values():
        part.suspend()
    try:
        await eventually(lambda: named("child_hangs") == {"acquire", "core"}, 240)
    finally:
        for part in parts.values():
            part.resume()
    await eventually(lambda: named("child_goes_on") == {"acquire", "core"}, 240)
    assert broker.end("run") == 0
    assert stopped(broker) == ["acquire", "core", "supervisor"]


async def test_a_killed_core_comes_back(supervised: Supervised, eventually: Eventually) -> None:
    """Kill -9 of core: acquire goes on, a new core takes up where the old one stood, no value is lost or doubled."""
    broker, parts = supervised
    parts["core"].kill()
    await eventually(lambda: "core" in children(broker.pid("run")) and gone([parts["core"]]), 240)
    before = broker.count()
    await eventually(lambda: broker.count() > before + 20, 240)
    assert children(broker.pid("run"))["acquire"].pid == parts["acquire"].pid
    await eventually(lambda: broker.answer("/healthz") is not None, 240)
    assert broker.end("run") == 0
    times = [ns for (ns,) in broker.rows("SELECT source_ns FROM v_records ORDER BY seq")]
    assert times == sorted(set(times))
    sent = json.loads((broker.home / "var" / "acquire.json").read_bytes())["sources"]["plc"]["samples"]
    assert len(times) == sent
    # what a busy machine did not poll is no matter of core
    assert broker.rows("SELECT * FROM v_gaps WHERE cause <> 'poll_missed'") == []


async def test_a_killed_supervisor_takes_its_children_with_it(supervised: Supervised, eventually: Eventually) -> None:
    """Kill -9 of the supervisor: both processes see the end of their input and stop cleanly."""
    broker, parts = supervised
    below = [process for part in parts.values() for process in part.children(recursive=True)]
    os.kill(broker.pid("run"), signal.SIGKILL)
    await eventually(lambda: gone([*parts.values(), *below]), 240)
    assert set(stopped(broker)) == {"acquire", "core"}
    broker.kill("run")
