"""Full disks and failing syncs: nothing is acknowledged that is not there, and it goes on by itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.journal.log import Item, JournalLog
from schemas.entries import START, Position, Tick
from schemas.errors import JournalError, JournalFull
from schemas.samples import SampleBatch
from tests.broker.journal.simulated_disk import SimulatedDisk

FOLDER = Path("/journal")
MakeBatch = Callable[[int, int], SampleBatch]
Clock = Callable[[], int]


def names(disk: SimulatedDisk) -> list[str]:
    found = JournalFiles(FOLDER, disk=disk).read(START, 100_000)
    return [str(entry.body.exact[0]) for entry in found if isinstance(entry.body, SampleBatch)]


def new_log(disk: SimulatedDisk, options: JournalOptions, clock: Clock) -> JournalLog:
    log = JournalLog(FOLDER, options, disk=disk, now_ns=clock, mono_ns=clock)
    log.open()
    return log


def commit(log: JournalLog, batch: SampleBatch) -> Position | JournalError:
    (outcome,) = log.commit([Item.of(batch, 1, 1)])
    return outcome


def run_with_failing_sync(options: JournalOptions, clock: Clock, batch: MakeBatch, failing: set[int]) -> int:
    """Twelve commits over a few segments; the number of syncs it took."""
    disk = SimulatedDisk()
    log = new_log(disk, options, clock)
    first = disk.syncs
    disk.fail_syncs = {first + number for number in failing}
    settled = []
    for number in range(12):
        outcome = commit(log, batch(number, 8))
        if isinstance(outcome, Position):
            settled.append(f"n{number}")
    assert names(disk) == settled
    after = disk.after_power_loss(random.Random(3))
    new_log(after, options, clock)
    assert names(after)[: len(settled)] == settled
    return disk.syncs - first


def test_every_failing_sync(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """EIO at the N-th fdatasync, for every N: settled entries are there, also after a power loss."""
    total = run_with_failing_sync(small, clock, batch, set())
    for number in range(1, total + 1):
        run_with_failing_sync(small, clock, batch, {number})
        run_with_failing_sync(small, clock, batch, {number, number + 1, number + 2})


def test_retry_of_the_same_file_would_lose(
    small: JournalOptions, clock: Clock, batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: a log that syncs the same file again believes a kernel that has dropped the pages."""
    monkeypatch.setattr(JournalLog, "_give_up_segment", lambda _: None)

    def once_more(self: JournalLog, items: list[Item], size: int) -> list[Position]:
        try:
            return real(self, items, size)
        except OSError:
            assert self._file is not None
            self._file.sync()
            self._seq += len(items)
            return [Position(self._epoch, self._seq)] * len(items)

    real = JournalLog._write_once
    monkeypatch.setattr(JournalLog, "_write_once", once_more)

    with pytest.raises(AssertionError):
        run_with_failing_sync(small, clock, batch, {3})


def test_lasting_failure_is_reported_and_ends(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """While every sync fails, every append fails, no file is left behind, and it goes on when the disk is back."""
    disk = SimulatedDisk()
    log = new_log(disk, small, clock)
    files = len(disk.nodes)
    disk.fail_syncs = set(range(disk.syncs + 1, disk.syncs + 50))
    outcomes = [commit(log, batch(number, 3)) for number in range(5)]
    left = len(disk.nodes)
    disk.fail_syncs = set()

    assert [type(outcome) for outcome in outcomes] == [JournalError] * 5
    assert left == files
    assert isinstance(commit(log, batch(9, 3)), Position)
    assert names(disk) == ["n9"]


def test_full_disk_stops_and_resumes(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """Without space nothing is settled; with space again it goes on, and what was settled is all there."""
    disk = SimulatedDisk(capacity=6_000)
    log = new_log(disk, small, clock)
    settled = []
    refused = 0
    for number in range(60):
        outcome = commit(log, batch(number, 3))
        if isinstance(outcome, Position):
            settled.append(f"n{number}")
        else:
            assert isinstance(outcome, JournalFull)
            refused += 1
        if number == 40:
            disk.capacity = 1 << 20

    assert refused > 0
    assert settled[-1] == "n59"
    assert names(disk) == settled


def test_a_torn_write_on_a_full_disk_is_undone(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """A disk that fills in the middle of a write (others use it, too) leaves no half entry behind."""
    disk = SimulatedDisk(capacity=1 << 20)
    log = new_log(disk, small, clock)
    assert isinstance(commit(log, batch(0, 3)), Position)
    disk.free = lambda folder: 1 << 20  # type: ignore[method-assign]
    disk.capacity = disk.used + 50

    assert isinstance(commit(log, batch(1, 3)), JournalFull)
    disk.capacity = 1 << 20
    assert isinstance(commit(log, batch(2, 3)), Position)
    assert names(disk) == ["n0", "n2"]


def test_ticks_and_gaps_use_the_reserve(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """Samples stop at stop_ack; ticks, links, gaps and maps go on up to the whole budget."""
    disk = SimulatedDisk()
    log = new_log(disk, small, clock)
    while isinstance(commit(log, batch(1, 3)), Position):
        pass

    outcomes = log.commit([Item.of(batch(2, 3), 1, 1), Item.of(Tick(), 1, 1)])

    assert isinstance(outcomes[0], JournalFull)
    assert isinstance(outcomes[1], Position)
    assert 0.9 * small.max_size < log.used <= small.max_size


def test_retention_keeps_what_core_has_not_read(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """Segments go when core has read them and the budget needs them; unread ones stay, and samples are refused."""
    disk = SimulatedDisk()
    log = new_log(disk, small, clock)
    reader = JournalFiles(FOLDER, disk=disk)
    settled = 0
    while isinstance(commit(log, batch(settled, 3)), Position):
        settled += 1
    assert log.trim() == []
    assert len(names(disk)) == settled

    middle = reader.read(START, settled // 2)[-1].position
    reader.done(middle)
    removed = log.trim()

    assert removed
    assert isinstance(commit(log, batch(settled, 3)), Position)
    following = reader.read(middle, 10_000)
    assert following[0].seq == middle.seq + 1
    assert [entry.seq for entry in following] == list(range(middle.seq + 1, following[-1].seq + 1))


def test_keep_removes_by_age(clock: Clock, batch: MakeBatch) -> None:
    """What core has read goes when it is older than keep; a clock that jumps removes nothing."""
    options = JournalOptions.model_validate({"segment": "2KiB", "max_size": "1MiB", "keep": "10s"})
    now, mono = [10**18], [0]
    disk = SimulatedDisk()
    log = JournalLog(FOLDER, options, disk=disk, now_ns=lambda: now[0], mono_ns=lambda: mono[0])
    log.open()
    for number in range(30):
        commit(log, batch(number, 3))
    reader = JournalFiles(FOLDER, disk=disk)
    reader.done(reader.read(START, 10_000)[-1].position)

    now[0] += 3600 * 10**9
    assert log.trim() == []
    mono[0] += 11 * 10**9
    assert log.trim() != []


def test_reader_with_an_old_position_is_told(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """A store put back from an older backup gets a gap for what retention has removed, and then the rest."""
    disk = SimulatedDisk()
    log = new_log(disk, small, clock)
    reader = JournalFiles(FOLDER, disk=disk)
    for number in range(700):
        commit(log, batch(number, 3))
        if number % 10 == 0:
            reader.done(log.position)
            log.trim()

    found = JournalFiles(FOLDER, disk=disk).read(Position(log.position.epoch, 3), 10_000)

    assert found[0].body.cause == "disk_budget"
    assert found[0].body.detail == f"entries 4 to {found[1].seq - 1} are missing"
    assert found[1].seq == found[0].seq + 1


def test_writer_says_that_it_refuses(small: JournalOptions, batch: MakeBatch) -> None:
    """`refusing` has the reason while samples are refused, and is empty again when there is room."""
    disk = SimulatedDisk(capacity=4_000)
    writer = JournalWriter(FOLDER, small, disk=disk)
    writer.open()
    error: BaseException | None = None
    for number in range(50):
        error = writer.append(batch(number, 3)).exception(120)
        if error is not None:
            break
    writer.append(Tick()).result(120)
    assert isinstance(error, JournalFull)
    refusing = writer.refusing
    disk.capacity = 1 << 20
    writer.append(Tick()).result(120)
    writer.append(batch(99, 3)).result(120)
    writer.close()

    assert "bytes" in refusing
    assert writer.refusing == ""
