"""A check finds what is damaged and where, and calls nothing damaged that never was durable."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.journal import JournalFiles, JournalOptions, JournalWriter, frame
from broker.journal.disk import DiskFile, RealDisk
from broker.journal.log import Item, JournalLog
from broker.journal.mark import MARK_FILE
from broker.journal.stats import stats
from broker.journal.survey import Survey
from broker.journal.verify import verify
from schemas.entries import START, Position, Tick
from schemas.samples import Gap, GapCause, Reject, SampleBatch
from tests.broker.journal.simulated_disk import SimulatedDisk

MakeBatch = Callable[[int, int], SampleBatch]
Clock = Callable[[], int]
FOLDER = Path("/journal")


def fill(folder: Path, options: JournalOptions, batch: MakeBatch, numbers: range) -> None:
    writer = JournalWriter(folder, options)
    writer.open()
    for number in numbers:
        writer.append(batch(number, 3)).result(120)
    writer.close()


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def test_a_sound_journal_is_whole(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """Several segments and two starts: no fault, every entry counted, the end is the mark's."""
    fill(tmp_path, small, batch, range(20))
    fill(tmp_path, small, batch, range(20, 40))

    verdict = verify(tmp_path)

    assert verdict.faults == []
    assert verdict.segments == len(segments(tmp_path)) > 3
    assert (verdict.entries, verdict.first.seq, verdict.last.seq) == (40, 1, 40)


@pytest.mark.parametrize("seed", range(20))
def test_every_flipped_bit_is_found(tmp_path: Path, small: JournalOptions, batch: MakeBatch, seed: int) -> None:
    """One bit anywhere in any segment is a fault that names the segment and a range around it."""
    fill(tmp_path, small, batch, range(30))
    rng = random.Random(seed)
    path = rng.choice(segments(tmp_path))
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(data)

    faults = [fault for fault in verify(tmp_path).faults if fault.segment == path.name and fault.size]

    assert len(faults) == 1
    assert faults[0].offset <= at < faults[0].offset + faults[0].size


def test_a_missing_segment_is_a_hole(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """The entries between its neighbours are named; the oldest one gone is retention and no fault."""
    fill(tmp_path, small, batch, range(40))
    files = segments(tmp_path)
    files[2].unlink()
    first, following = frame.first_of(files[2].name), frame.first_of(files[3].name)
    assert first is not None
    assert following is not None

    assert [fault.what for fault in verify(tmp_path).faults] == [f"entries {first} to {following - 1} are missing"]
    files[0].unlink()
    files[1].unlink()
    assert verify(tmp_path).faults == []


class Removing(RealDisk):
    """A disk on which segments go while the first one is read."""

    def __init__(self, read: Path, gone: list[Path]) -> None:
        self._read, self._gone = read, gone
        self._looks = 0

    def view(self, path: Path) -> DiskFile:
        found = super().view(path)
        self._looks += path == self._read
        if self._looks == 2:  # the first look is at its header
            for segment in self._gone:
                segment.unlink(missing_ok=True)
        return found


@pytest.mark.parametrize("count", [1, 2, 4])
def test_retention_beside_it_is_no_fault(tmp_path: Path, small: JournalOptions, batch: MakeBatch, count: int) -> None:
    """However many segments retention takes while one is read."""
    fill(tmp_path, small, batch, range(60))
    files = segments(tmp_path)
    verdict = verify(tmp_path, disk=Removing(files[0], files[:count]))
    assert verdict.faults == []
    assert (verdict.first.seq, verdict.last.seq) == (1, 60)
    assert verdict.notes == ([f"retention removed {count - 1} segments meanwhile"] if count > 1 else [])


def test_control_segments_that_go_from_the_middle_are_a_fault(
    tmp_path: Path, small: JournalOptions, batch: MakeBatch
) -> None:
    """Retention takes the oldest; where an older one stays, somebody else removed them."""
    fill(tmp_path, small, batch, range(40))
    files = segments(tmp_path)
    verdict = verify(tmp_path, disk=Removing(files[0], files[1:3]))
    assert ["are missing" in fault.what for fault in verdict.faults] == [True]


def test_a_cut_tail_and_a_lost_mark_are_faults(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """What was durable and is not there any more; and a journal whose end nobody can verify."""
    fill(tmp_path, small, batch, range(5))
    path = segments(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:-10])
    assert any("the durable mark says" in fault.what for fault in verify(tmp_path).faults)

    (tmp_path / MARK_FILE).unlink()
    assert any("cannot be verified" in fault.what for fault in verify(tmp_path).faults)


def test_bytes_behind_the_mark_are_no_fault(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """A torn tail was promised to nobody."""
    fill(tmp_path, small, batch, range(5))
    path = segments(tmp_path)[-1]
    path.write_bytes(path.read_bytes() + b"torn" + frame.SYNC)

    assert verify(tmp_path).faults == []


def test_a_segment_that_was_given_up_is_no_fault(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """After a failed sync whose file could not be cut back either, its leftovers are not durable and not damage."""
    disk = SimulatedDisk()
    log = JournalLog(FOLDER, small, disk=disk, now_ns=clock, mono_ns=clock)
    log.open()
    log.commit([Item.of(batch(0, 3), 1, 1)])
    disk.fail_syncs = {disk.syncs + 1}
    real = log._give_up_segment

    def leave_as_it_is() -> None:
        log._file = None

    log._give_up_segment = leave_as_it_is  # type: ignore[method-assign]
    assert isinstance(log.commit([Item.of(batch(1, 3), 1, 1)])[0], Position)
    log._give_up_segment = real  # type: ignore[method-assign]
    log.commit([Item.of(Tick(), 1, 1)])

    assert len([name for name in disk.names(FOLDER) if name.endswith(".seg")]) == 2
    assert verify(FOLDER, disk=disk).faults == []
    assert [item.position.seq for item in Survey(FOLDER, disk=disk).walk() if hasattr(item, "body")] == [1, 2, 3]


def test_core_ahead_of_the_journal_is_a_fault(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """A journal put back from an older copy is told by core's position."""
    fill(tmp_path, small, batch, range(5))
    JournalFiles(tmp_path).done(Position(verify(tmp_path).last.epoch, 9))

    assert any("beyond the end" in fault.what for fault in verify(tmp_path).faults)


def test_figures(small: JournalOptions, batch: MakeBatch) -> None:
    """Rows by source, span, rate, hours that fit, and what core has not read."""
    now = [1_800_000_000_000_000_000]
    disk = SimulatedDisk(capacity=1 << 30)
    log = JournalLog(FOLDER, small, disk=disk, now_ns=lambda: now[0], mono_ns=lambda: now[0])
    log.open()
    for number in range(30):
        now[0] += 1_000_000_000
        log.commit([Item.of(batch(number, 3), now[0], now[0])])
    log.commit([Item.of(Reject("other", "a", "b", b"c", 1), now[0], now[0])])
    log.commit([Item.of(Gap("plc", (), 1, 2, GapCause.LINK_DOWN), now[0], now[0])])
    log.commit([Item.of(Tick(), now[0], now[0])])
    reader = JournalFiles(FOLDER, disk=disk)
    reader.done(reader.read(START, 20)[-1].position)

    figures = stats(FOLDER, small, disk=disk)

    assert figures.kinds == {"samples": 30, "reject": 1, "gap": 1, "tick": 1}
    assert (figures.rows, figures.sources["plc"].rows, figures.sources["plc"].gaps) == (90, 90, 1)
    assert figures.sources["other"].rejects == 1
    assert figures.bytes == log.used
    assert (figures.end, figures.core.seq, figures.backlog_entries) == (log.position, 20, 13)
    assert figures.backlog_s == 9.0
    assert figures.newest_ns == now[0]
    assert figures.bytes_per_s == pytest.approx(log.used / 29)
    room = small.disk.stop_ack * small.max_size - log.used
    assert figures.capacity_h == pytest.approx(room / figures.bytes_per_s / 3600)
    assert stats(FOLDER, small, disk=disk, core=log.position, quick=True).backlog_entries == 0
