"""
Keeps acquire and core running: restart with back-off, an end to what hangs, one word to systemd, a stop in order.

The reasoning worker is core's own child, because the other end of its pipe is core's. Each child's standard input is a
pipe that the supervisor holds: its end means stop, on every platform, also when the supervisor was killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker import events, footprint
from broker.heartbeat import HEARTBEAT, Pulse
from broker.stopping import SUPERVISED, stop_on_signal
from broker.store.lock import WriterLock
from broker.version import VERSION

EXIT_CONFIG: Final = 78
READY_POLL_S: Final = 0.2
#: How long a word to systemd may wait, at the most.
NOTIFY_S: Final = 1.0
#: How often the children's signs of life are looked at where systemd asks for none.
WATCH_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Times in seconds.

    Waiting before a restart doubles from ``first`` to ``longest`` and starts again after ``healthy`` of life. A child
    that was asked to stop is killed after ``grace``. One that gives no sign of life for ``hung``, or for ``starting``
    before its first one (it may have a store to migrate), hangs; after ``patience`` more of that it is killed
    and started again, by itself: core may wait for a database that is frozen, and acquire goes on meanwhile.
    """

    first: float = 1.0
    longest: float = 30.0
    healthy: float = 60.0
    grace: float = 30.0
    hung: float = 30.0
    starting: float = 600.0
    patience: float = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the supervisor needs of a configuration: ``path`` is its file; the children read it themselves."""

    path: Path
    data_dir: Path
    log_level: str = "info"


def run_supervisor(plan: Plan) -> int:
    """
    Run acquire and core until SIGTERM or SIGINT; the exit code (78: the configuration cannot work).

    Raises:
        StoreLocked: another supervisor runs on this data directory.
    """
    program = [sys.executable, "-m", "broker"]
    commands = {part: [*program, part, "--config", str(plan.path)] for part in ("acquire", "core")}
    plan.data_dir.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(plan.data_dir / "run.lock", "the data directory")
    lock.acquire()
    events.set_up(plan.log_level)
    events.process_started("supervisor", VERSION)
    try:
        return _run(plan, commands)
    finally:
        lock.release()


def _run(plan: Plan, commands: Mapping[str, Sequence[str]]) -> int:
    signs = [plan.data_dir / "core.json", plan.data_dir / "acquire.json"]
    since = time.time()

    def ready() -> bool:
        return all(sign.exists() and sign.stat().st_mtime >= since for sign in signs)

    footprint.settle()
    code = asyncio.run(_until_signal(commands, ready))
    events.process_stopped("supervisor", "asked to stop" if code == 0 else "a child cannot run")
    return code


async def _until_signal(commands: Mapping[str, Sequence[str]], ready: Callable[[], bool]) -> int:
    stop = asyncio.Event()
    stop_on_signal(asyncio.get_running_loop(), stop)
    return await supervise(commands, stop, ready=ready)


async def supervise(
    commands: Mapping[str, Sequence[str]],
    stop: asyncio.Event,
    *,
    limits: Limits = Limits(),
    environ: Mapping[str, str] | None = None,
    ready: Callable[[], bool] = lambda: True,
) -> int:
    """
    Keep one child for each command alive until *stop* is set, or one says that its configuration cannot work.

    At the stop the children end one after the other in the order of *commands*, so that core still reads what acquire
    wrote last. systemd is told READY when every child was started and *ready* says so, and that all is well
    (WATCHDOG) unless a child that hung could not be killed. Returns 0, or 78.
    """
    environ = os.environ if environ is None else environ
    failed: list[int] = []

    def hopeless(code: int) -> None:
        failed.append(code)
        stop.set()

    children = {name: _Child(name, command, environ, limits, hopeless) for name, command in commands.items()}
    tasks = [asyncio.create_task(child.keep(), name=name) for name, child in children.items()]
    watching = asyncio.create_task(_watch(list(children.values()), environ))
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(_until_ready(list(children.values()), ready))
    starting.add_done_callback(lambda done: None if done.cancelled() else notify("READY=1", environ))
    try:
        await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        notify("STOPPING=1", environ)
        for task in (starting, stopping):
            task.cancel()
        for child, task in zip(children.values(), tasks, strict=True):
            child.stop()
            await asyncio.wait([task])
        watching.cancel()
        await asyncio.wait([watching, starting, stopping])
    for task in tasks:
        # a keeper that ended by an error: the supervisor's own supervisor starts it again
        task.result()
    return failed[0] if failed else 0


async def _until_ready(children: Sequence[_Child], ready: Callable[[], bool]) -> None:
    for child in children:
        await child.started.wait()
    while not ready():  # noqa: ASYNC110 - the signs are files of other processes
        await asyncio.sleep(READY_POLL_S)


class _Child:
    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        limits: Limits,
        hopeless: Callable[[int], None],
    ) -> None:
        self._name = name
        self._command = command
        # Only the supervisor speaks to systemd.
        self._environ = {k: v for k, v in environ.items() if k not in {"NOTIFY_SOCKET", "WATCHDOG_USEC"}}
        self._environ[SUPERVISED] = "1"
        self._limits = limits
        self._hopeless = hopeless
        self._stopping = asyncio.Event()
        self.started = asyncio.Event()
        self._pulse = Pulse(limits.hung, limits.starting)
        self._told_hung = False
        self._process: asyncio.subprocess.Process | None = None
        self._killed_s: float | None = None

    async def keep(self) -> None:
        """Start, wait, start again, until told to stop; then ask, wait for the grace time, kill."""
        loop = asyncio.get_running_loop()
        wait = self._limits.first
        while not self._stopping.is_set():
            begun = loop.time()
            try:
                process = await self._start()
            except OSError as error:
                self._pulse.close()
                # no memory or no process to be had for the moment
                events.child_not_started(self._name, str(error), wait)
            else:
                events.child_started(self._name, process.pid)
                self.started.set()
                self._process = process
                code = await self._until_ended(process)
                self._pulse.close()
                self._process, self._told_hung, self._killed_s = None, False, None
                if self._stopping.is_set():
                    return
                if code == EXIT_CONFIG:
                    events.child_ended(self._name, code, None)
                    self._hopeless(code)
                    await self._stopping.wait()
                    return
                if loop.time() - begun >= self._limits.healthy:
                    wait = self._limits.first
                events.child_ended(self._name, code, wait)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            wait = min(wait * 2, self._limits.longest)

    async def _start(self) -> asyncio.subprocess.Process:
        end = self._pulse.connect()
        environ, inherited = self._environ, () if end is None else (end,)
        if end is not None:
            environ = {**environ, HEARTBEAT: str(end)}
        try:
            # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which stops them in order.
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                env=environ,
                start_new_session=True,
                pass_fds=inherited,
            )
        finally:
            if end is not None:
                os.close(end)

    def is_well(self) -> bool:
        """
        Look after it: that it hangs, and goes on again, is told once, and one that hangs for too long is killed.

        False where that does not help: it waits in the kernel, and so would whoever starts everything again.
        """
        # while it stops it has the grace time, and is killed after that
        hangs = not self._stopping.is_set() and self._pulse.hangs()
        if hangs and not self._told_hung:
            events.child_hangs(self._name, self._pulse.silent_s())
        elif self._told_hung and not hangs:
            events.child_goes_on(self._name)
        self._told_hung = hangs
        if not hangs or self._pulse.overdue_s() < self._limits.patience:
            return True
        now_s = asyncio.get_running_loop().time()
        if self._killed_s is None and self._process is not None:
            self._killed_s = now_s
            events.child_killed(self._name)
            with suppress(ProcessLookupError):
                self._process.kill()
        return self._killed_s is None or now_s - self._killed_s < self._limits.grace

    def stop(self) -> None:
        """End the child, whatever it is doing; :meth:`keep` returns when it is gone."""
        self._stopping.set()

    async def _until_ended(self, process: asyncio.subprocess.Process) -> int:
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            _ask(process)
            await asyncio.wait({ended}, timeout=self._limits.grace)
        if not ended.done():
            events.child_killed(self._name)
            with suppress(ProcessLookupError):
                process.kill()
        return await ended


def _ask(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    if os.name != "nt":
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)


def notify(message: str, environ: Mapping[str, str], *, wait: bool = True) -> None:
    """
    Tell systemd, where it listens (sd_notify(3)); a name beginning with @ is an abstract socket.

    Where its queue is full, wait for a moment, or leave it unsaid at once.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender, suppress(OSError):
        sender.settimeout(NOTIFY_S if wait else 0.0)
        sender.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)


async def _watch(children: Sequence[_Child], environ: Mapping[str, str]) -> None:
    """
    Look at the children's signs of life, and tell systemd WATCHDOG=1 twice in each period that it asks for.

    Not while this loop hangs, or a child that no signal ends: then systemd ends all of it and starts it again.
    """
    period = environ.get("WATCHDOG_USEC", "")
    asked = period.isdigit() and int(period) > 0
    while True:
        # every child is looked at, so that each one's state is told
        well = [child.is_well() for child in children]
        if asked and all(well):
            # one that reads late gets the next one; the children must not wait for it
            notify("WATCHDOG=1", environ, wait=False)
        await asyncio.sleep(int(period) / 2e6 if asked else WATCH_S)
