"""F10: a disk to 100 %, and space back. F11: a sync that fails, at every one of a run. F20: a burst on a slow disk."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import IO

import psutil
import pytest

from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.journal import writer as journal_writer
from broker.journal.disk import DiskFile, RealDisk, RealFile
from broker.journal.log import Item, JournalLog
from broker.journal.writer import WAITING_BYTES
from schemas.entries import START, Notice, Position
from schemas.errors import JournalError, JournalFull
from schemas.samples import Gap, GapCause, SampleBatch
from tests.broker.journal.simulated_disk import SimulatedDisk
from tests.waiting import until

FOLDER = Path("/journal")
REVISION = b"0123456789abcdef"
FigureNote = Callable[..., None]


def batch(number: int, rows: int = 20) -> SampleBatch:
    return SampleBatch.build(
        "plc",
        REVISION,
        number,
        tag=range(rows),
        source_ns=[number] * rows,
        value=[float(number)] * rows,
    )


def kept(reader: JournalFiles) -> list[int]:
    """Numbers of the batches in the journal."""
    found, after = [], START
    while entries := reader.read(after, 1000):
        after = entries[-1].position
        found += [entry.body.received_ns for entry in entries if isinstance(entry.body, SampleBatch)]
    return found


@pytest.fixture
def small_disk(tmp_path: Path, need: Callable[[str], str]) -> Iterator[Path]:
    """A file system of 12 MiB; skipped where this user may not mount one."""
    mount, umount = need("mount"), need("umount")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=12m", "none", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run([umount, str(folder)], check=True)


class Source(threading.Thread):
    """Appends a batch each 5 ms and remembers what was acknowledged, and when."""

    def __init__(self, writer: JournalWriter) -> None:
        super().__init__(daemon=True)
        self._writer = writer
        self._end = threading.Event()
        self.acked: dict[int, float] = {}
        self.refused: dict[int, float] = {}

    def run(self) -> None:
        number = 0
        while not self._end.wait(0.005):
            number += 1
            self._writer.append(batch(number)).add_done_callback(lambda f, n=number: self._note(n, f))

    def _note(self, number: int, future: Future[Position]) -> None:
        (self.acked if future.exception() is None else self.refused)[number] = time.monotonic()

    def end(self) -> None:
        self._end.set()
        self.join(120)


def fill(folder: Path) -> Path:
    """Another program takes all the space there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while _has_room(file):
            pass
    return ballast


def _has_room(file: IO[bytes]) -> bool:
    try:
        file.write(bytes(1 << 16))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def run_full_disk(
    folder: Path, reserve: str, hold: Callable[[JournalWriter, Source], None]
) -> tuple[Source, list[int], list[str], list[Gap], float, float]:
    """
    Fill the disk under load, do *hold*, give the space back; last: seconds until acks stop, until they resume.

    Nothing that was appended after the first refusal is acknowledged before the space is back.
    """
    options = JournalOptions.model_validate(
        {"commit": {"every": "5ms"}, "segment": "256KiB", "max_size": "10MiB", "disk": {"reserve": reserve}}
    )
    writer = JournalWriter(folder / "journal", options)
    writer.open()
    source = Source(writer)
    source.start()
    try:
        until(lambda: len(source.acked) > 50)
        ballast = fill(folder)
        full_at = time.monotonic()
        until(lambda: bool(source.refused))
        hold(writer, source)
        last_ack = max(source.acked.values())
        first_refused = min(list(source.refused))
        assert max(list(source.acked)) < first_refused, "acknowledged behind a refusal"
        given_at = time.monotonic()
        ballast.unlink()
        until(lambda: max(source.acked.values()) > given_at, 240)
        resumed = min(at for at in source.acked.values() if at > given_at) - given_at
        until(lambda: "reserve" not in writer.status().steps, 240)
    finally:
        source.end()
        writer.close()
    reader = JournalFiles(folder / "journal")
    numbers, notices, gaps, after = [], [], [], START
    while entries := reader.read(after, 1000):
        after = entries[-1].position
        for entry in entries:
            if isinstance(entry.body, SampleBatch):
                numbers.append(entry.body.received_ns)
            elif isinstance(entry.body, Notice):
                notices.append(entry.body.action)
            elif isinstance(entry.body, Gap):
                gaps.append(entry.body)
    reader.close()
    return source, numbers, notices, gaps, last_ack - full_at, resumed


def test_a_full_disk(small_disk: Path, scale: Callable[[float, float], float], figures: FigureNote) -> None:
    """Acknowledgements stop, gaps and the audit go on from the reserve, and everything resumes by itself."""
    held = scale(2.0, 300.0)
    written: list[Position] = []

    def hold(writer: JournalWriter, source: Source) -> None:
        end = time.monotonic() + held
        for number in range(60):
            gap = Gap("plc", (number,), number, number + 1, GapCause.DISK_BUDGET, detail="x" * 2_000)
            written.append(writer.append(gap).result(120))
            if number >= 40:  # the rest over the time that the disk stays full
                until(lambda until_s=end - held * (59 - number) / 20: time.monotonic() >= until_s, held + 30)

    source, numbers, notices, gaps, stopped, resumed = run_full_disk(small_disk, "1MiB", hold)

    lost = set(source.acked) - set(numbers)
    assert lost == set()
    assert sorted(numbers) == sorted(set(numbers))
    assert {gap.tags for gap in gaps} >= {(number,) for number in range(len(written))}
    assert resumed <= 10.0
    assert {"journal_stop_ack_entered", "journal_reserve_entered"} <= set(notices)
    assert {"journal_stop_ack_left", "journal_reserve_left"} <= set(notices)
    figures(
        "F10 disk to 100 %, then space back",
        f"tmpfs of 12 MiB, full for {held:g} s, {len(source.acked)} batches acknowledged, the last one "
        f"{max(stopped, 0.0):.2f} s after it was full",
        lost=len(lost),
        doubled=len(numbers) - len(set(numbers)),
        recovery_s=round(resumed, 2),
        control="without the reserve the first gap is refused",
    )


def test_control_without_a_reserve_gaps_are_refused(small_disk: Path) -> None:
    """The negative control: on the same full disk, nothing is kept for what must not be lost."""
    outcome: list[BaseException | None] = []

    def hold(writer: JournalWriter, source: Source) -> None:
        for number in range(40):
            gap = Gap("plc", (number,), number, number + 1, GapCause.DISK_BUDGET, detail="x" * 20_000)
            outcome.append(writer.append(gap).exception(120))

    run_full_disk(small_disk, "0B", hold)

    assert any(isinstance(error, JournalFull) for error in outcome)


def commit(log: JournalLog, body: SampleBatch) -> Position | JournalError:
    (outcome,) = log.commit([Item.of(body, 1, 1)])
    return outcome


def test_every_failing_sync(scale: Callable[[int, int], int], figures: FigureNote) -> None:
    """EIO at the N-th fdatasync, one to three in a row, for every N: settled entries are there after a power loss."""
    options = JournalOptions.model_validate({"segment": "2KiB", "max_size": "64KiB"})
    commits = scale(10, 60)

    def run(failing: set[int], seed: int) -> tuple[int, int, int]:
        clock = iter(range(10**18, 10**19, 10**6))
        disk = SimulatedDisk()
        log = JournalLog(FOLDER, options, disk=disk, now_ns=lambda: next(clock), mono_ns=lambda: next(clock))
        log.open()
        first = disk.syncs
        disk.fail_syncs = {first + number for number in failing}
        settled = [n for n in range(commits) if isinstance(commit(log, batch(n, 8)), Position)]
        after = disk.after_power_loss(random.Random(seed))
        again = JournalLog(FOLDER, options, disk=after, now_ns=lambda: next(clock), mono_ns=lambda: next(clock))
        again.open()
        found = kept(JournalFiles(FOLDER, disk=after))
        return disk.syncs - first, len(set(settled) - set(found)), len(found) - len(set(found))

    total, _, _ = run(set(), 0)
    lost = doubled = runs = 0
    for number in range(1, total + 1):
        for width in (1, 2, 3):
            _, gone, twice = run(set(range(number, number + width)), runs)
            lost, doubled, runs = lost + gone, doubled + twice, runs + 1
    assert (lost, doubled) == (0, 0)
    figures(
        "F11 EIO on fsync",
        f"the N-th of {total} syncs, for every N, 1-3 in a row: {runs} runs, power loss after each",
        lost=lost,
        doubled=doubled,
        control="the same file synced again: settled entries are lost (tests/broker/journal)",
    )


class SlowDisk(RealDisk):
    """Every sync takes 50 ms longer: an SD card on a bad day. While ``gate`` is clear none returns at all."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def create(self, path: Path) -> DiskFile:
        return SlowFile(open(path, "x+b", buffering=0), self.gate)


class SlowFile(RealFile):
    def __init__(self, handle: IO[bytes], gate: threading.Event) -> None:
        super().__init__(handle)
        self._gate = gate

    def sync(self) -> None:
        self._gate.wait(120)
        time.sleep(0.05)  # the fault: a disk that takes its time
        super().sync()


def burst(folder: Path, batches: int, rows: int) -> tuple[JournalWriter, list[Future[Position]], int, int]:
    """Append as fast as it goes. The writer, still at work; the outcomes; the most bytes that waited, and memory."""
    writer = JournalWriter(folder, JournalOptions.model_validate({"max_size": "1GiB"}), disk=SlowDisk())
    writer.open()
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    grown, waiting = 0, 0
    body = batch(0, rows)
    futures = []
    for number in range(batches):
        body = SampleBatch.build("plc", REVISION, number, tag=body.tag, source_ns=body.source_ns, value=body.value)
        futures.append(writer.append(body))
        waiting = max(waiting, writer.status().waiting)
        if number % 50 == 0:
            grown = max(grown, process.memory_info().rss - before)
    return writer, futures, waiting, grown


def without_a_bound(folder: Path, batches: int, rows: int) -> int:
    """Negative control, with the bound taken away: the bytes that wait while the disk does not answer."""
    disk = SlowDisk()
    writer = JournalWriter(folder, JournalOptions.model_validate({"max_size": "1GiB"}), disk=disk)
    writer.open()
    disk.gate.clear()
    futures = [writer.append(batch(number, rows)) for number in range(batches)]
    waiting = writer.status().waiting
    disk.gate.set()
    for future in futures:
        future.result(120)
    writer.close()
    return waiting


def test_a_burst_on_a_slow_disk(
    tmp_path: Path, scale: Callable[[int, int], int], figures: FigureNote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for the disk is bounded; the burst is journalled whole, in order; without the bound more waits."""
    batches, rows = scale(1500, 6000), 1000
    writer, futures, waiting, grown = burst(tmp_path / "bounded", batches, rows)
    places = [future.result(120) for future in futures]
    writer.close()
    found = kept(JournalFiles(tmp_path / "bounded"))
    monkeypatch.setattr(journal_writer, "WAITING_BYTES", 1 << 40)
    unbounded = without_a_bound(tmp_path / "unbounded", batches, rows)

    lost, doubled = batches - len(set(found)), len(found) - len(set(found))
    wrong = sum(number != place for place, number in enumerate(found))
    assert places == sorted(places)
    assert (lost, doubled, wrong) == (0, 0, 0)
    size = len(Item.of(batch(0, rows), 0, 0).payload)
    assert waiting < WAITING_BYTES + size
    assert batches * size > WAITING_BYTES, "the burst must be larger than what may wait"
    assert grown < 3 * WAITING_BYTES
    assert unbounded > WAITING_BYTES + size
    figures(
        "F20 burst on a slow disk",
        f"{batches * rows} values at once, each sync 50 ms longer; memory +{grown >> 20} MiB, "
        f"at most {waiting >> 20} MiB waited",
        lost=lost,
        doubled=doubled,
        wrong=wrong,
        control=f"without the bound {unbounded >> 20} MiB waited in memory",
    )
