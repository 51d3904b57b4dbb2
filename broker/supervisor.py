"""
Keeps acquire and core running: restart with back-off, one word to systemd, a stop in the right order.

The reasoning worker is core's own child, because the other end of its pipe is core's. Each child's standard input is a
pipe that the supervisor holds: its end means stop, on every platform, also when the supervisor was killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker import events
from broker.version import VERSION

if TYPE_CHECKING:
    from broker.config.model import Config

SUPERVISED: Final = "FAIRLEAD_SUPERVISED"
EXIT_CONFIG: Final = 78


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Times in seconds.

    Waiting before a restart doubles from ``first`` to ``longest`` and starts again after ``healthy`` of life. A child
    that was asked to stop is killed after ``grace``.
    """

    first: float = 1.0
    longest: float = 30.0
    healthy: float = 60.0
    grace: float = 30.0


def run_supervisor(config: Config) -> int:
    """Run acquire and core until SIGTERM or SIGINT; the exit code (78: the configuration cannot work)."""
    events.set_up(config.log.level)
    events.process_started("supervisor", VERSION)
    program = [sys.executable, "-m", "broker"]
    commands = {part: [*program, part, "--config", str(config.path)] for part in ("acquire", "core")}
    code = asyncio.run(_until_signal(commands))
    events.process_stopped("supervisor", "asked to stop" if code == 0 else "a child cannot run")
    return code


async def _until_signal(commands: Mapping[str, Sequence[str]]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return await supervise(commands, stop)


async def supervise(
    commands: Mapping[str, Sequence[str]],
    stop: asyncio.Event,
    *,
    limits: Limits = Limits(),
    environ: Mapping[str, str] | None = None,
) -> int:
    """
    Keep one child for each command alive until *stop* is set, or one says that its configuration cannot work.

    At the stop the children end one after the other in the order of *commands*, so that core still reads what acquire
    wrote last. Returns 0, or 78.
    """
    environ = os.environ if environ is None else environ
    failed: list[int] = []

    def hopeless(code: int) -> None:
        failed.append(code)
        stop.set()

    children = {name: _Child(name, command, environ, limits, hopeless) for name, command in commands.items()}
    tasks = [asyncio.create_task(child.keep(), name=name) for name, child in children.items()]
    beating = asyncio.create_task(_beat(environ))
    try:
        await asyncio.gather(*(child.started.wait() for child in children.values()))
        notify("READY=1", environ)
        await stop.wait()
    finally:
        notify("STOPPING=1", environ)
        for child, task in zip(children.values(), tasks, strict=True):
            await child.stop()
            await asyncio.wait([task])
        beating.cancel()
        await asyncio.wait([beating])
    return failed[0] if failed else 0


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
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self.started = asyncio.Event()

    async def keep(self) -> None:
        """Start, wait, start again, until told to stop."""
        loop = asyncio.get_running_loop()
        wait = self._limits.first
        while not self._stopping.is_set():
            begun = loop.time()
            # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which stops them in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, env=self._environ, start_new_session=True
            )
            events.child_started(self._name, self._process.pid)
            self.started.set()
            if self._stopping.is_set():
                self._ask()
            code = await self._process.wait()
            if self._stopping.is_set():
                return
            if code == EXIT_CONFIG:
                events.child_ended(self._name, code, None)
                self._hopeless(code)
                return
            if loop.time() - begun >= self._limits.healthy:
                wait = self._limits.first
            events.child_ended(self._name, code, wait)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
            wait = min(wait * 2, self._limits.longest)

    async def stop(self) -> None:
        """Ask, wait for the grace time, kill."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._ask()
        try:
            await asyncio.wait_for(process.wait(), self._limits.grace)
        except TimeoutError:
            events.child_killed(self._name)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _ask(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        if os.name != "nt":
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)


def notify(message: str, environ: Mapping[str, str]) -> None:
    """Tell systemd, where it listens (sd_notify(3)); a name beginning with @ is an abstract socket."""
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender, suppress(OSError):
        sender.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)


async def _beat(environ: Mapping[str, str]) -> None:
    """WATCHDOG=1 twice in each period that systemd asks for; a loop that hangs sends none."""
    period = environ.get("WATCHDOG_USEC", "")
    if not period.isdigit() or int(period) == 0:
        return
    while True:
        notify("WATCHDOG=1", environ)
        await asyncio.sleep(int(period) / 2e6)


def stop_at_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """In a child of the supervisor: set *stop* when the supervisor closes our standard input, or dies."""
    if os.environ.get(SUPERVISED) != "1":
        return

    def wait() -> None:
        # The file number, not sys.stdin: a lock held by this thread would abort the interpreter's end.
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, name="supervisor's end", daemon=True).start()
