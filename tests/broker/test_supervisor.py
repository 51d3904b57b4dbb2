"""The supervisor, with children that are a few lines of Python."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from broker.supervisor import Limits, supervise

Eventually = Callable[..., Awaitable[None]]
QUICK = Limits(first=0.01, longest=0.05, healthy=60, grace=60)

#: Writes its name and number to a file, ends in order at SIGTERM or at the end of its standard input.
GOOD = """
import asyncio, os, signal, sys
from pathlib import Path
from broker.stopping import stop_at_eof
async def main():
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.argv[3] == "signal":
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    stop_at_eof(loop, stop)
    with open(sys.argv[1], "a") as log:
        print(f"{sys.argv[2]} started {os.getpid()}", file=log, flush=True)
        await stop.wait()
        print(f"{sys.argv[2]} stopped", file=log, flush=True)
asyncio.run(main())
"""
CRASHING = "import sys; open(sys.argv[1], 'a').write('crashed\\n'); sys.exit(3)"
HOPELESS = "import sys; sys.exit(78)"
DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], 'a').write('deaf started\\n')
while True: signal.pause()
"""


def child(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


async def test_children_stop_in_order(tmp_path: Path, eventually: Eventually) -> None:
    """At the stop acquire ends first, then core, so that core reads what acquire wrote last."""
    log, stop = tmp_path / "log", asyncio.Event()
    commands = {name: child(GOOD, log, name, "signal") for name in ("acquire", "core")}
    task = asyncio.create_task(supervise(commands, stop, limits=QUICK))
    await eventually(lambda: len(lines(log)) == 2)

    stop.set()

    assert await task == 0
    assert [line for line in lines(log) if "stopped" in line] == ["acquire stopped", "core stopped"]


async def test_a_child_that_ends_is_started_again(tmp_path: Path, eventually: Eventually) -> None:
    """A crash is followed by a new start, again and again, and the other child is left alone."""
    log, other, stop = tmp_path / "log", tmp_path / "other", asyncio.Event()
    commands = {"acquire": child(CRASHING, log), "core": child(GOOD, other, "core", "signal")}
    task = asyncio.create_task(supervise(commands, stop, limits=QUICK))

    await eventually(lambda: len(lines(log)) >= 4 and lines(other))
    stop.set()
    await task

    assert len([line for line in lines(other) if "started" in line]) == 1


async def test_a_killed_child_comes_back(tmp_path: Path, eventually: Eventually) -> None:
    """A child that is killed is started again."""
    log, stop = tmp_path / "log", asyncio.Event()
    task = asyncio.create_task(supervise({"core": child(GOOD, log, "core", "signal")}, stop, limits=QUICK))
    await eventually(lambda: len(lines(log)) == 1)

    os.kill(int(lines(log)[0].split()[-1]), 9)

    await eventually(lambda: len(lines(log)) == 2)
    stop.set()
    assert await task == 0


async def test_a_hopeless_configuration_ends_everything(tmp_path: Path) -> None:
    """Exit code 78 is never retried: the others are stopped and the code is passed on."""
    log = tmp_path / "log"
    commands = {"acquire": child(GOOD, log, "acquire", "signal"), "core": child(HOPELESS)}

    assert await supervise(commands, asyncio.Event(), limits=QUICK) == 78


async def test_a_deaf_child_is_killed(tmp_path: Path, eventually: Eventually) -> None:
    """A child that does not end within the grace time is killed."""
    log, stop = tmp_path / "log", asyncio.Event()
    limits = Limits(first=0.01, longest=0.05, healthy=60, grace=0.1)
    task = asyncio.create_task(supervise({"core": child(DEAF, log)}, stop, limits=limits))
    await eventually(lambda: lines(log))

    stop.set()

    assert await task == 0


async def test_end_of_input_means_stop(tmp_path: Path, eventually: Eventually) -> None:
    """A child ends in order when its supervisor is killed, because the pipe ends; no signal is needed."""
    log = tmp_path / "log"
    program = f"""
import asyncio
from broker.supervisor import supervise
asyncio.run(supervise({{"core": {child(GOOD, log, "core", "deaf")!r}}}, asyncio.Event()))
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    await eventually(lambda: lines(log))
    pid = int(lines(log)[0].split()[-1])

    supervisor.kill()
    supervisor.wait(60)

    await eventually(lambda: lines(log)[-1] == "core stopped" and not psutil.pid_exists(pid))


async def test_systemd_hears(tmp_path: Path, eventually: Eventually) -> None:
    """READY when the children run, WATCHDOG in between, STOPPING at the end; the children do not inherit the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address = str(tmp_path / "notify")
        systemd.bind(address)
        systemd.setblocking(False)
        heard: list[str] = []

        def hear() -> list[str]:
            while True:
                try:
                    heard.append(systemd.recv(100).decode())
                except BlockingIOError:
                    return heard

        environ = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"}
        log, stop = tmp_path / "log", asyncio.Event()
        code = "import os, sys; open(sys.argv[1], 'a').write(os.environ.get('NOTIFY_SOCKET', 'none')); sys.stdin.read()"
        task = asyncio.create_task(supervise({"core": child(code, log)}, stop, limits=QUICK, environ=environ))
        await eventually(lambda: hear().count("WATCHDOG=1") > 2 and lines(log))
        stop.set()
        await task
        hear()

    assert heard.count("READY=1") == 1
    assert heard[-1] in {"STOPPING=1", "WATCHDOG=1"}
    assert "STOPPING=1" in heard
    assert lines(log) == ["none"]


async def test_a_fork_that_fails_is_tried_again(tmp_path: Path, eventually: Callable[..., Awaitable[None]]) -> None:
    """Where the system makes no process, the supervisor goes on trying, and a stop ends it at once."""
    program = tmp_path / "late"
    stop = asyncio.Event()
    task = asyncio.create_task(supervise({"core": [str(program)]}, stop, limits=QUICK))
    program.write_text(f"#!{sys.executable}\nimport pathlib, sys\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    program.chmod(0o700)
    await eventually(lambda: (tmp_path / "ran").exists())
    stop.set()

    assert await task == 0


async def test_stop_while_nothing_could_be_started(tmp_path: Path) -> None:
    """A stop does not wait for a child that never came to be."""
    stop = asyncio.Event()
    stop.set()

    assert await supervise({"core": [str(tmp_path / "missing")]}, stop, limits=QUICK) == 0
