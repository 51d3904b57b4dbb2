"""F6: torn and flipped bytes at the tail and in the middle: only they are lost, and it is said."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.journal import JournalFiles, JournalOptions, JournalWriter, frame
from broker.journal.recovery import DAMAGED
from broker.journal.verify import verify
from schemas.entries import START
from schemas.samples import Gap, GapCause, SampleBatch

REVISION = b"0123456789abcdef"
OPTIONS = JournalOptions.model_validate({"commit": {"every": "1ms"}, "segment": "16KiB", "max_size": "4MiB"})


def batch(number: int) -> SampleBatch:
    return SampleBatch.build("plc", REVISION, number, tag=range(5), source_ns=[number] * 5, value=[float(number)] * 5)


def write(folder: Path, numbers: range) -> tuple[JournalWriter, float]:
    """Open, which repairs, and append; the writer stays open. Seconds that the opening took."""
    begun = time.monotonic()
    writer = JournalWriter(folder, OPTIONS)
    writer.open()
    opened = time.monotonic() - begun
    for future in [writer.append(batch(number)) for number in numbers]:
        future.result(60)
    return writer, opened


def read(folder: Path) -> tuple[dict[int, float], list[Gap]]:
    reader = JournalFiles(folder)
    found, after, gaps = {}, START, []
    while entries := reader.read(after, 1000):
        after = entries[-1].position
        for entry in entries:
            if isinstance(entry.body, SampleBatch):
                found[entry.body.received_ns] = float(entry.body.value[0])
            elif isinstance(entry.body, Gap):
                gaps.append(entry.body)
    reader.close()
    return found, gaps


def hurt(rng: random.Random, folder: Path) -> str:
    """One kind of damage in one segment."""
    files = sorted(folder.glob("*.seg"))
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "zero", "cut", "tail", "header"])
    at = rng.randrange(frame.HEADER_SIZE, len(data))
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "zero":
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    elif kind == "cut":
        del data[at:]
    elif kind == "tail":
        path, data = files[-1], bytearray(files[-1].read_bytes()) + frame.SYNC + rng.randbytes(30)
    else:
        data[rng.randrange(frame.HEADER_SIZE)] ^= 1
    path.write_bytes(data)
    return kind


def unchecked(data: bytes, at: int, seed: int) -> frame.Frame | int | None:
    """A frame as :func:`broker.journal.frame.frame_at` reads it, its CRC believed."""
    if at + frame.FRAME_SIZE > len(data):
        return at + frame.FRAME_SIZE
    sync, length, _, seq, wall_ns, mono_ns = frame._FRAME.unpack_from(data, at)
    if sync != frame.SYNC:
        return None
    start = at + frame.FRAME_SIZE
    end = int(start + length)
    return frame.Frame(seq, wall_ns, mono_ns, start, end) if end <= len(data) else end


def misread(folder: Path, cycles: int) -> int:
    """Batches whose value is not theirs, of journals with one flipped bit each, read with the CRC believed."""
    wrong = 0
    for cycle in range(cycles):
        rng = random.Random(cycle)
        home = folder / str(cycle)
        write(home, range(1, 101))[0].close()
        path = rng.choice(sorted(home.glob("*.seg")))
        data = bytearray(path.read_bytes())
        data[rng.randrange(frame.HEADER_SIZE, len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            found, _ = read(home)
        except (ValueError, LookupError):
            continue
        wrong += sum(number != value for number, value in found.items())
    return wrong


def test_damage_is_confined_and_told(
    tmp_path: Path,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After each damage a start goes on by itself; what is lost lies within one segment, and a gap row says so."""
    cycles = scale(25, 400)
    wrong = silent = far = hurt_entries = 0
    slowest = 0.0
    kinds = set()
    for cycle in range(cycles):
        rng = random.Random(cycle)
        folder = tmp_path / str(cycle)
        writer, _ = write(folder, range(1, 301))
        writer.close()
        firsts = sorted(frame.first_of(path.name) or 0 for path in folder.glob("*.seg"))
        kind = hurt(rng, folder)
        kinds.add(kind)
        before = verify(folder)
        writer, opened = write(folder, range(301, 311))
        writer.close()
        slowest = max(slowest, opened)
        found, gaps = read(folder)
        missing = sorted(set(range(1, 311)) - set(found))
        hurt_entries += len(missing)
        wrong += sum(number != value for number, value in found.items())
        told = any(gap.cause is GapCause.JOURNAL_DAMAGED for gap in gaps)
        silent += 0 if told else len(missing)
        if missing:
            assert before.faults, f"cycle {cycle}: {kind} was not found"
            # entries number from 1 like the batches
            part = [first for first in firsts if first <= missing[0]][-1]
            following = next((first for first in firsts if first > part), 302)
            far += sum(number >= following for number in missing)
        if kind == "tail":
            assert not missing
        else:
            assert before.faults
        kept_aside = list((folder / DAMAGED).glob("*")) if (folder / DAMAGED).exists() else []
        assert verify(folder).faults == [] or kept_aside or missing
    monkeypatch.setattr(frame, "frame_at", unchecked)
    believed = misread(tmp_path / "control", 4 * cycles)
    assert (wrong, silent, far) == (0, 0, 0)
    assert believed > 0
    assert slowest < 5.0
    assert len(kinds) == 5
    figures(
        "F6 torn and flipped bytes in tail and middle",
        f"{cycles} journals of 310 entries, one damage each ({', '.join(sorted(kinds))}); {hurt_entries} entries were "
        "hurt with their segment, each within a gap row",
        lost=silent + far,
        wrong=wrong,
        recovery_s=round(slowest, 2),
        control=f"CRC believed: {believed} wrong values in {4 * cycles} journals with one flipped bit each",
    )
