"""The steps of a filling disk in their order, once each way, and space that is kept for what must not be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.journal.log import Item, JournalLog
from broker.journal.options import DiskShares
from broker.journal.pressure import Pressure
from broker.journal.reserve import PIECE, RESERVE_FILE, Reserve
from schemas.entries import START, Notice, Position, Tick
from schemas.errors import JournalError, JournalFull
from schemas.samples import SampleBatch
from tests.broker.journal.simulated_disk import SimulatedDisk

FOLDER = Path("/journal")
MakeBatch = Callable[[int, int], SampleBatch]
Clock = Callable[[], int]


def seen(pressure: Pressure, unread: int, used: int, *, refusing: str = "", given: int = 0) -> list[str]:
    changes = pressure.update(used=used, unread=unread, budget=1000, refusing=refusing, reserve_given=given)
    return [f"{'+' if change.entered else '-'}{change.step}" for change in changes]


def test_steps_in_order_and_without_flapping() -> None:
    """Each is said once when it is entered and once when it is clearly left."""
    pressure = Pressure(DiskShares())
    assert seen(pressure, 690, 690) == []
    assert seen(pressure, 700, 700) == ["+derived"]
    assert seen(pressure, 680, 810) == ["+expire"]
    assert seen(pressure, 700, 790, refusing="full") == ["+stop_ack"]
    assert seen(pressure, 700, 790, refusing="full", given=5) == ["+reserve"]
    assert pressure.steps == ("derived", "expire", "stop_ack", "reserve")
    assert seen(pressure, 640, 740) == ["-derived", "-expire", "-stop_ack", "-reserve"]


def test_what_core_has_read_is_no_pressure() -> None:
    """A journal that is full of read segments keeps nobody from working."""
    assert seen(Pressure(DiskShares()), 100, 790) == []


@pytest.mark.parametrize("shares", [{"derived": "85%"}, {"expire": "96%"}, {"derived": "80%"}])
def test_shares_must_rise(shares: dict[str, str]) -> None:
    """The order of the steps is the contract."""
    with pytest.raises(ValidationError, match="must rise"):
        DiskShares.model_validate(shares)


def test_reserve_is_taken_given_up_and_taken_again() -> None:
    """In pieces; it never takes the last half of what is free, and survives a restart."""
    disk = SimulatedDisk(capacity=20 * PIECE)
    reserve = Reserve(disk, FOLDER, 3 * PIECE)
    reserve.open()
    assert (reserve.held, disk.used) == (3 * PIECE, 3 * PIECE)
    assert reserve.give(10) == PIECE
    assert reserve.give(2 * PIECE) == 2 * PIECE
    assert reserve.give(1) == 0
    assert (reserve.held, reserve.given, disk.used) == (0, 3 * PIECE, 0)
    disk.used = 15 * PIECE
    assert not reserve.fill()
    assert disk.used == 15 * PIECE
    disk.used = 0
    assert reserve.fill()
    assert (reserve.held, reserve.given) == (3 * PIECE, 0)
    reserve.close()
    again = Reserve(disk, FOLDER, 2 * PIECE)
    again.open()
    assert (again.held, disk.used) == (2 * PIECE, 2 * PIECE)


def test_a_disk_too_small_has_no_reserve(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """It is not taken from samples either."""
    disk = SimulatedDisk(capacity=8000)
    log = JournalLog(FOLDER, small, disk=disk, now_ns=clock, mono_ns=clock)
    log.open()
    assert log.reserve.held == 0
    assert isinstance(log.commit([Item.of(batch(1, 3), 1, 1)])[0], Position)


def other_program_fills(disk: SimulatedDisk) -> None:
    disk.capacity = disk.used


def test_others_fill_the_disk(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """Samples are refused and leave the reserve alone; ticks and notices use it; it comes back with the space."""
    disk = SimulatedDisk(capacity=1 << 20)
    log = JournalLog(FOLDER, small, disk=disk, now_ns=clock, mono_ns=clock)
    log.open()
    log.commit([Item.of(batch(0, 3), 1, 1)])
    assert log.reserve.held == small.max_size // 10
    other_program_fills(disk)

    outcomes: list[Position | JournalError] = []
    for number in range(40):
        outcomes += log.commit([Item.of(batch(number, 3), 1, 1), Item.of(Tick(), 1, 1)])

    assert all(isinstance(outcome, JournalFull) for outcome in outcomes[0::2])
    assert all(isinstance(outcome, Position) for outcome in outcomes[1::2])
    disk.capacity = 1 << 20
    assert log.reserve.fill()
    assert isinstance(log.commit([Item.of(batch(99, 3), 1, 1)])[0], Position)


def test_a_group_with_samples_on_a_disk_that_lies_about_room(
    small: JournalOptions, clock: Clock, batch: MakeBatch
) -> None:
    """ENOSPC in the middle of a write: samples are refused, the tick of the same group is written from the reserve."""
    disk = SimulatedDisk(capacity=1 << 20)
    log = JournalLog(FOLDER, small, disk=disk, now_ns=clock, mono_ns=clock)
    log.open()
    log.commit([Item.of(batch(0, 3), 1, 1)])
    other_program_fills(disk)
    disk.free = lambda folder: 1 << 20  # type: ignore[method-assign]

    sample, tick = log.commit([Item.of(batch(1, 3), 1, 1), Item.of(Tick(), 1, 1)])

    assert isinstance(sample, JournalFull)
    assert isinstance(tick, Position)
    assert [e.position for e in JournalFiles(FOLDER, disk=disk).read(START, 100)][-1] == tick


def test_control_without_a_reserve_the_tick_is_refused(clock: Clock, batch: MakeBatch) -> None:
    """The negative control."""
    options = JournalOptions.model_validate({"segment": "2KiB", "max_size": "64KiB", "disk": {"reserve": "0B"}})
    disk = SimulatedDisk(capacity=1 << 20)
    log = JournalLog(FOLDER, options, disk=disk, now_ns=clock, mono_ns=clock)
    log.open()
    log.commit([Item.of(batch(0, 3), 1, 1)])
    other_program_fills(disk)
    assert isinstance(log.commit([Item.of(Tick(), 1, 1)])[0], JournalFull)
    assert RESERVE_FILE not in disk.names(FOLDER)


def test_the_writer_says_each_step_once(small: JournalOptions, batch: MakeBatch) -> None:
    """As a notice in the journal, for the audit; the status has the steps in force."""
    disk = SimulatedDisk()
    writer = JournalWriter(FOLDER, small, disk=disk)
    writer.open()
    error: BaseException | None = None
    while error is None:
        error = writer.append(batch(1, 3)).exception(120)
    for _ in range(5):
        writer.append(batch(1, 3)).exception(120)
    writer.append(Tick()).result(120)
    status = writer.status()
    writer.close()
    found = JournalFiles(FOLDER, disk=disk).read(START, 100_000)
    notices = [entry.body.action for entry in found if isinstance(entry.body, Notice)]

    assert isinstance(error, JournalFull)
    assert {"derived", "expire", "stop_ack"} <= set(status.steps)
    assert status.unread == pytest.approx(status.used, rel=0.1)
    assert sorted(notices) == sorted(set(notices))
    assert {"journal_derived_entered", "journal_expire_entered", "journal_stop_ack_entered"} <= set(notices)


def actions(disk: SimulatedDisk) -> list[str]:
    """Notices of the step at which samples are refused, in their order."""
    found = JournalFiles(FOLDER, disk=disk).read(START, 100_000)
    notices = [entry.body.action for entry in found if isinstance(entry.body, Notice)]
    return [action for action in notices if "stop_ack" in action]


def test_refusing_ends_only_when_there_is_room(
    small: JournalOptions, batch: MakeBatch, eventually_sync: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two shares samples are refused whatever their size; one notice for each real change."""
    disk = SimulatedDisk()
    writer = JournalWriter(FOLDER, small, disk=disk)
    writer.open()
    while writer.append(batch(1, 70)).exception(120) is None:
        pass
    room = small.disk.stop_ack * small.max_size - writer.status().used
    assert room > 1000, "the control: a smaller one would fit"
    errors = [writer.append(batch(2, 1)).exception(120) for _ in range(5)]
    assert all(isinstance(error, JournalFull) for error in errors)
    writer.append(Tick()).result(120)
    assert actions(disk) == ["journal_stop_ack_entered"]

    reader = JournalFiles(FOLDER, disk=disk)
    reader.done(reader.read(START, 100_000)[-1].position)
    eventually_sync(lambda: bool(writer.append(Tick()).result(120)) and not writer.refusing)
    assert writer.append(batch(3, 70)).exception(120) is None
    writer.close()
    # what was trimmed had the first notice in it, or not
    assert actions(disk)[-1] == "journal_stop_ack_left"
    assert actions(disk).count("journal_stop_ack_left") == 1


def test_a_disk_that_fails_is_tried_with_each_commit(small: JournalOptions, batch: MakeBatch) -> None:
    """No space has to come back: samples are accepted with the first commit that works, and that is said once."""
    disk = SimulatedDisk()
    writer = JournalWriter(FOLDER, small, disk=disk)
    writer.open()
    writer.append(batch(0, 3)).result(120)
    disk.fail_syncs = set(range(disk.syncs + 1, disk.syncs + 7))
    errors = []
    while disk.syncs < max(disk.fail_syncs):
        errors.append(writer.append(batch(1, 3)).exception(120))
    assert errors
    assert not any(isinstance(error, JournalFull) for error in errors)
    writer.append(Tick()).result(120)
    writer.append(Tick()).result(120)
    writer.close()
    assert writer.refusing == ""
    assert actions(disk) == ["journal_stop_ack_entered", "journal_stop_ack_left"]
