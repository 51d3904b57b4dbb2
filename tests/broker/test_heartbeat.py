"""Signs of life: who gives them, and what the supervisor and systemd make of their absence."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
import structlog

from broker.acquire.ticks import tick
from broker.heartbeat import EVERY_S, HEARTBEAT, Heart, Pulse
from broker.journal import JournalOptions, JournalWriter
from broker.journal.disk import DiskFile, RealDisk, RealFile
from broker.supervisor import Limits, supervise

Eventually = Callable[..., Awaitable[None]]
#: A child is heard each second; what a busy machine keeps from it for so long is no hanging.
LIMITS = Limits(first=0.01, longest=0.05, healthy=60, grace=60, hung=5.0, starting=60.0)

#: Beats as core and acquire do, from a thread of its own, until its standard input ends; its number, once it has.
BEATING = """
import os, sys, threading
from broker.heartbeat import Heart
heart, stop = Heart.of_environment(), threading.Event()
heart.beat()
def work():
    while not stop.wait(0.05):
        heart.beat()
threading.Thread(target=work, daemon=True).start()
with open(sys.argv[1], "a") as log:
    print(os.getpid(), file=log)
sys.stdin.read()
"""
#: Starts, and never gives a sign.
MUTE = "import sys; open(sys.argv[1], 'a').write('started\\n'); sys.stdin.read()"
ENDS = "import sys; open(sys.argv[1], 'a').write('ended\\n')"


def child(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


class Systemd:
    """The other end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._count = 0
        self.environ = {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "40000"}

    def heard(self) -> int:
        """How many WATCHDOG=1 have come in all."""
        while True:
            try:
                self._count += self._socket.recv(100) == b"WATCHDOG=1"
            except BlockingIOError:
                return self._count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Callable[[str], Systemd]]:
    made: list[Systemd] = []

    def make(name: str) -> Systemd:
        made.append(Systemd(tmp_path / name))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def told() -> Iterator[list[dict[str, object]]]:
    """Events as they are told."""
    with structlog.testing.capture_logs() as logs:
        yield logs  # type: ignore[misc]


def of(told: list[dict[str, object]], event: str) -> list[object]:
    return [one["process"] for one in told if one["event"] == event]


async def test_a_child_that_is_stopped_for_long_is_killed_alone(
    tmp_path: Path, systemd: Callable[[str], Systemd], told: list[dict[str, object]], eventually: Eventually
) -> None:
    """SIGSTOP of core, as a frozen database stops it: another core comes, and acquire and systemd see nothing."""
    stop, one = asyncio.Event(), systemd("one")
    limits = Limits(first=0.01, longest=0.05, healthy=60, grace=60, hung=5.0, starting=60.0, patience=0.5)
    commands = {part: child(BEATING, tmp_path / part) for part in ("acquire", "core")}
    task = asyncio.create_task(supervise(commands, stop, limits=limits, environ=one.environ))
    await eventually(lambda: one.heard() and lines(tmp_path / "core") and lines(tmp_path / "acquire"))
    os.kill(int(lines(tmp_path / "core")[0]), signal.SIGSTOP)
    await eventually(lambda: len(lines(tmp_path / "core")) == 2)
    assert (of(told, "child_hangs"), of(told, "child_killed"), of(told, "child_ended")) == (["core"],) * 3
    before = one.heard()
    await eventually(lambda: one.heard() > before + 3)
    stop.set()
    assert await task == 0
    assert len(lines(tmp_path / "acquire")) == 1


async def test_a_child_that_is_stopped_is_told(
    tmp_path: Path, systemd: Callable[[str], Systemd], told: list[dict[str, object]], eventually: Eventually
) -> None:
    """
    SIGSTOP of one child: it is told once by name, that of a healthy pair never (the control); SIGCONT: it is told, and
    was not killed. systemd goes on hearing: the supervisor sees to it.
    """
    stop = asyncio.Event()
    sick, well = systemd("sick"), systemd("well")
    tasks = []
    for name, one in (("sick", sick), ("well", well)):
        commands = {part: child(BEATING, tmp_path / f"{name}-{part}") for part in ("acquire", "core")}
        tasks.append(asyncio.create_task(supervise(commands, stop, limits=LIMITS, environ=one.environ)))
    await eventually(lambda: sick.heard() and lines(tmp_path / "sick-core"))
    pid = int(lines(tmp_path / "sick-core")[0])

    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(lambda: of(told, "child_hangs") == ["core"])
        before, control = sick.heard(), well.heard()
        await eventually(lambda: well.heard() > control + 20)
        assert sick.heard() > before
        assert (of(told, "child_hangs"), of(told, "child_killed")) == (["core"], [])
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: of(told, "child_goes_on") == ["core"])
    stop.set()
    assert await asyncio.gather(*tasks) == [0, 0]


async def test_a_child_that_never_begins_hangs(
    tmp_path: Path, systemd: Callable[[str], Systemd], told: list[dict[str, object]], eventually: Eventually
) -> None:
    """Before its first sign a child has time to start, and no more; the stop of it is not held up."""
    stop, one = asyncio.Event(), systemd("one")
    limits = Limits(first=0.01, longest=0.05, healthy=60, grace=60, hung=5.0, starting=0.5)
    commands = {"core": child(MUTE, tmp_path / "log")}
    task = asyncio.create_task(supervise(commands, stop, limits=limits, environ=one.environ))
    await eventually(lambda: one.heard())
    await eventually(lambda: of(told, "child_hangs") == ["core"])
    stop.set()
    assert await task == 0


async def test_a_child_that_waits_for_its_restart_is_no_reason(
    tmp_path: Path, systemd: Callable[[str], Systemd], told: list[dict[str, object]], eventually: Eventually
) -> None:
    """What ended is the supervisor's to start again: the watchdog of systemd would only do the same."""
    stop, one = asyncio.Event(), systemd("one")
    limits = Limits(first=60, longest=60, healthy=60, grace=60, hung=0.01, starting=60.0)
    commands = {"core": child(ENDS, tmp_path / "log")}
    task = asyncio.create_task(supervise(commands, stop, limits=limits, environ=one.environ))
    await eventually(lambda: of(told, "child_ended") == ["core"])
    before = one.heard()
    await eventually(lambda: one.heard() > before + 3)
    assert of(told, "child_hangs") == []
    stop.set()
    assert await task == 0


async def test_a_pulse_is_of_the_child_that_runs(eventually: Eventually) -> None:
    """A new child has its own time to start, and is not judged by what the one before said last."""
    pulse = Pulse(hung_s=0.05, starting_s=60.0)
    assert not pulse.hangs()
    end = pulse.connect()
    assert end is not None
    Heart(end, mono_s=lambda: 0.0).beat()
    await eventually(pulse.hangs)
    os.close(end)
    again = pulse.connect()
    assert again is not None
    assert not pulse.hangs()
    os.close(again)
    pulse.close()
    assert (pulse.silent_s(), pulse.hangs()) == (0.0, False)


def test_a_heart_beats_once_a_second_and_never_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that reads nothing, or is gone, costs nothing; the process's own children do not get the pipe."""
    read, write = os.pipe()
    monkeypatch.setenv(HEARTBEAT, str(write))
    now = [0.0]
    heart = Heart.of_environment()
    assert HEARTBEAT not in os.environ
    heart = Heart(write, mono_s=lambda: now[0])
    for _ in range(100):
        now[0] += EVERY_S / 10
        heart.beat()
    assert len(os.read(read, 1000)) == 10
    for _ in range(100_000):  # more than a pipe holds
        now[0] += EVERY_S
        heart.beat()
    os.close(read)
    now[0] += EVERY_S
    heart.beat()
    os.close(write)
    Heart().beat()


@pytest.mark.parametrize("named", ["", "x", "999999"])
def test_without_a_pipe_nothing_is_given(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """Started alone, a process has nobody to tell."""
    monkeypatch.setenv(HEARTBEAT, named)
    heart = Heart.of_environment()
    assert heart._fd is None
    heart.beat()


class HangingDisk(RealDisk):
    """A disk whose syncs wait until they may go on."""

    def __init__(self) -> None:
        self.goes, self.asked = threading.Event(), threading.Event()
        self.goes.set()

    def create(self, path: Path) -> DiskFile:
        return HangingFile(open(path, "x+b", buffering=0), self)


class HangingFile(RealFile):
    def __init__(self, handle: IO[bytes], disk: HangingDisk) -> None:
        super().__init__(handle)
        self._disk = disk

    def sync(self) -> None:
        self._disk.asked.set()
        assert self._disk.goes.wait(120)
        super().sync()


async def test_acquire_beats_behind_a_durable_tick(tmp_path: Path, eventually: Eventually) -> None:
    """No sign of life before the journal has made the tick durable, and none while its thread hangs."""
    disk = HangingDisk()
    beats: list[int] = []
    journal = JournalWriter(tmp_path, JournalOptions.model_validate({"commit": {"every": "1ms"}}), disk=disk)
    journal.open()
    disk.goes.clear()
    disk.asked.clear()

    async def pause(_: float) -> None:
        await asyncio.sleep(0)

    ticking = asyncio.create_task(
        tick(
            journal,
            each_second=lambda: None,
            beat=lambda: beats.append(1),
            now_ns=lambda: 10**18,
            mono_ns=lambda: 0,
            sleep=pause,
        )
    )
    await eventually(disk.asked.is_set)
    assert beats == []
    disk.goes.set()
    await eventually(lambda: len(beats) > 2)
    ticking.cancel()
    await asyncio.wait([ticking])
    await asyncio.to_thread(journal.close)
