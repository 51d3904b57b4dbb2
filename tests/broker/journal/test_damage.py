"""Bad bytes cost the entries they stand in, never the start, and never in silence."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.journal import JournalFiles, JournalOptions, JournalWriter, frame, mark
from schemas.entries import START, Entry, MapInForce, Tick
from schemas.errors import JournalError
from schemas.samples import Gap, GapCause, SampleBatch

MakeBatch = Callable[[int, int], SampleBatch]


def fill(folder: Path, options: JournalOptions, batch: MakeBatch, numbers: range) -> None:
    writer = JournalWriter(folder, options)
    writer.open()
    for number in numbers:
        writer.append(batch(number, 3)).result(120)
    writer.close()


def entries(folder: Path) -> list[Entry]:
    reader = JournalFiles(folder)
    found = list(reader.read(START, 100_000))
    reader.close()
    return found


def numbers(found: list[Entry]) -> list[int]:
    return [int(entry.body.received_ns) for entry in found if isinstance(entry.body, SampleBatch)]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def gaps(found: list[Entry]) -> list[Gap]:
    return [entry.body for entry in found if isinstance(entry.body, Gap)]


def test_torn_tail_is_cut(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """Bytes behind the last durable entry are removed, and the sequence goes on without a hole."""
    fill(tmp_path, small, batch, range(5))
    last = segments(tmp_path)[-1]
    last.write_bytes(last.read_bytes() + b"\x00torn" + frame.SYNC + b"\x01")

    writer = JournalWriter(tmp_path, small)
    opened = writer.open()
    writer.append(batch(5, 3)).result(120)
    writer.close()

    assert opened.cut_bytes == 10
    assert opened.damage == ()
    found = entries(tmp_path)
    assert numbers(found) == list(range(6))
    assert [entry.seq for entry in found] == list(range(1, len(found) + 1))


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_cost_only_their_entries(
    tmp_path: Path, small: JournalOptions, batch: MakeBatch, seed: int
) -> None:
    """Three flipped bits anywhere lose at most three entries or one header's segment; the hole is a gap."""
    rng = random.Random(seed)
    fill(tmp_path, small, batch, range(40))
    victims = [rng.choice(segments(tmp_path)) for _ in range(3)]
    bodies_hit = 0
    for path in victims:
        data = bytearray(path.read_bytes())
        at = rng.randrange(frame.HEADER_SIZE, len(data))
        data[at] ^= 1 << rng.randrange(8)
        bodies_hit += 1
        path.write_bytes(data)

    fill(tmp_path, small, batch, range(40, 43))

    found = entries(tmp_path)
    missing = set(range(43)) - set(numbers(found))
    assert len(missing) <= bodies_hit
    assert numbers(found) == sorted(numbers(found))
    assert all(gap.cause is GapCause.JOURNAL_DAMAGED for gap in gaps(found))
    if missing:
        assert gaps(found)
    assert [entry.seq for entry in found] == sorted({entry.seq for entry in found})


def test_without_crc_wrong_values_are_read(
    tmp_path: Path, small: JournalOptions, batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: with the CRC check off, a flipped bit comes back as a value."""
    fill(tmp_path, small, batch, range(3))
    path = segments(tmp_path)[0]
    data = path.read_bytes()
    at = data.index(b"n1")
    path.write_bytes(data[:at] + b"N1" + data[at + 2 :])
    checked = [e.body.exact for e in entries(tmp_path) if isinstance(e.body, SampleBatch)]

    real = frame.frame_at

    def unchecked(data: bytes, at: int, seed: int) -> frame.Frame | int | None:
        found = real(data, at, seed)
        if found is None and data[at : at + 4] == frame.SYNC:
            _, length, _, seq, wall_ns, mono_ns = frame._FRAME.unpack_from(data, at)
            start = at + frame.FRAME_SIZE
            return frame.Frame(seq, wall_ns, mono_ns, start, start + length)
        return found

    monkeypatch.setattr(frame, "frame_at", unchecked)
    unsafe = [e.body.exact for e in entries(tmp_path) if isinstance(e.body, SampleBatch)]

    assert {0: "N1"} not in checked
    assert {0: "N1"} in unsafe


def test_damaged_header_moves_the_segment_aside(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """A segment whose header does not read goes to damaged/, and a reader finds a gap in its place."""
    fill(tmp_path, small, batch, range(40))
    second = segments(tmp_path)[1]
    second.write_bytes(b"X" + second.read_bytes()[1:])

    writer = JournalWriter(tmp_path, small)
    opened = writer.open()
    writer.close()

    assert second.name in opened.damage[0]
    assert not second.exists()
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    found = entries(tmp_path)
    assert [gap.cause for gap in gaps(found)] == [GapCause.JOURNAL_DAMAGED]
    assert numbers(found)[-1] == 39


def test_damage_before_the_mark_is_no_torn_tail(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """When the end of the last segment is gone although it was durable, its numbers are never given again."""
    fill(tmp_path, small, batch, range(3))
    last_seq = entries(tmp_path)[-1].seq
    path = segments(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:-20])

    writer = JournalWriter(tmp_path, small)
    opened = writer.open()
    place = writer.append(Tick()).result(120)
    writer.close()

    assert opened.damage
    assert place.seq > last_seq
    found = entries(tmp_path)
    assert numbers(found) == [0, 1]
    assert [gap.cause for gap in gaps(found)] == [GapCause.JOURNAL_DAMAGED]


def test_a_power_loss_that_tears_both_slots_of_the_mark(
    tmp_path: Path, small: JournalOptions, batch: MakeBatch
) -> None:
    """The mark of the start is kept apart: no new epoch, no gap; and a file of an earlier version has no such slot."""
    fill(tmp_path, small, batch, range(20))
    path = tmp_path / mark.MARK_FILE
    path.write_bytes(bytes(2 * mark.SLOT) + path.read_bytes()[2 * mark.SLOT :])

    fill(tmp_path, small, batch, range(20, 25))

    found = entries(tmp_path)
    assert (numbers(found), gaps(found)) == (list(range(25)), [])
    assert len({entry.epoch for entry in found}) == 1
    path.write_bytes(path.read_bytes()[: 2 * mark.SLOT])
    fill(tmp_path, small, batch, range(25, 30))
    assert path.stat().st_size == mark.SIZE
    assert len({entry.epoch for entry in entries(tmp_path)}) == 1


def test_lost_mark_begins_an_epoch(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """Without the durable mark the end cannot be verified: a new epoch begins with a gap that says so."""
    fill(tmp_path, small, batch, range(3))
    before = entries(tmp_path)[-1]
    (tmp_path / "durable").unlink()

    writer = JournalWriter(tmp_path, small)
    opened = writer.open()
    writer.close()

    assert opened.epoch > before.epoch
    found = entries(tmp_path)
    assert found[-1].position > before.position
    assert [gap.cause for gap in gaps(found)] == [GapCause.JOURNAL_DAMAGED]


def test_empty_directory_stands_above_the_one_it_replaces(
    tmp_path: Path, small: JournalOptions, batch: MakeBatch
) -> None:
    """A reader of the old directory is told of the hole and reads the new one from its beginning."""
    fill(tmp_path / "old", small, batch, range(3))
    after = entries(tmp_path / "old")[-1].position
    writer = JournalWriter(tmp_path / "new", small, now_ns=lambda: (after.epoch + 5) * 10**9)
    writer.open()
    writer.append(batch(7, 3)).result(120)
    writer.close()

    found = list(JournalFiles(tmp_path / "new").read(after))

    assert isinstance(found[0].body, Gap)
    assert found[0].body.cause is GapCause.JOURNAL_DAMAGED
    assert numbers(found) == [7]


def test_older_copy_gives_no_position_twice(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """A journal put back from an older copy goes on above what core has read."""
    fill(tmp_path, small, batch, range(2))
    core = JournalFiles(tmp_path)
    end = entries(tmp_path)[-1].position
    core.done(end._replace(seq=end.seq + 100))

    writer = JournalWriter(tmp_path, small)
    writer.open()
    writer.append(batch(9, 3)).result(120)
    writer.close()

    assert numbers(list(core.read(end._replace(seq=end.seq + 100)))) == [9]
    core.close()


def test_every_segment_begins_with_the_map(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """Map and open gaps are repeated at the head of each segment, and an open gap survives a restart."""
    fill(tmp_path, small, batch, range(1))
    writer = JournalWriter(tmp_path, small)
    writer.open()
    tag_map = MapInForce(b"r" * 16, b"{}")
    gap = Gap("plc", (), 5, None, GapCause.LINK_DOWN)
    writer.append(tag_map).result(120)
    writer.append(gap).result(120)
    for number in range(30):
        writer.append(batch(number, 3)).result(120)
    writer.close()

    heads = []
    for path in segments(tmp_path)[2:]:
        data = path.read_bytes()
        header = frame.read_header(data, int(path.stem))
        assert isinstance(header, frame.Header)
        seqs = [item.seq for item in frame.frames(data, header)][:2]
        heads.append([entry.body for entry in entries(tmp_path) if entry.seq in seqs])
    reopened = JournalWriter(tmp_path, small)
    opened = reopened.open()
    reopened.close()

    assert heads
    assert all(head == [tag_map, gap] for head in heads)
    assert opened.open_gaps == (gap,)


def test_second_writer_is_refused(tmp_path: Path, small: JournalOptions) -> None:
    """Two writers of one directory would destroy it; the second one gets an error that says why."""
    first = JournalWriter(tmp_path, small)
    first.open()

    with pytest.raises(JournalError, match="another acquire"):
        JournalWriter(tmp_path, small).open()
    first.close()


def test_crc_of_a_reused_block_is_foreign(tmp_path: Path, small: JournalOptions, batch: MakeBatch) -> None:
    """A valid frame of another segment is not taken for one of this segment."""
    fill(tmp_path, small, batch, range(1))
    fill(tmp_path, small, batch, range(1, 2))
    one, two = (path.read_bytes() for path in segments(tmp_path))
    header = frame.read_header(two, int(segments(tmp_path)[1].stem))
    assert isinstance(header, frame.Header)

    assert zlib.crc32(b"") == 0
    assert list(frame.frames(two[: frame.HEADER_SIZE] + one[frame.HEADER_SIZE :], header)) == []
