"""What must hold of a stream is checked while it runs, and each check can fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker import events
from broker.core.invariants import Invariants
from broker.journal import JournalFiles
from broker.store import intake
from schemas.entries import Entry, Position, Tick
from schemas.samples import Gap, GapCause, Origin, Reject, SampleBatch
from schemas.tagmap import Tag, TagMap
from tests.broker.core import stream

S = 1_000_000_000
MAP = TagMap(
    site="A/B",
    tags=(
        Tag(number=0, id="a", path="A/B/a", source="plc", address="1", stale_after_ms=3000),
        Tag(number=1, id="b", path="A/B/b", source="plc", address="2", stale_after_ms=1000),
        Tag(number=2, id="c", path="A/B/c", source="opc", address="3"),
    ),
)


def violations(name: str) -> float:
    return events.VIOLATIONS.labels(name)._value.get()


@pytest.fixture
def found() -> Callable[[], dict[str, int]]:
    """Violations since the test began, by name."""
    names = ("seq", "rows", "gaps")
    before = {name: violations(name) for name in names}
    return lambda: {name: int(violations(name) - before[name]) for name in names if violations(name) > before[name]}


def entry(
    seq: int, body: Any, epoch: int = 1, *, mono_s: float | None = None, ahead_s: float = 0.0, boot: bytes = b""
) -> Entry:
    """An entry at a monotonic time (its number), by a wall clock that is so far ahead of it."""
    mono = round((seq if mono_s is None else mono_s) * S)
    return Entry(epoch, seq, boot, mono + round(ahead_s * S), mono, body)


def when(body: Any) -> float | None:
    """Monotonic seconds at which a body is journalled: its reception, or the end of a closed gap."""
    if isinstance(body, Gap):
        return None if body.to_ns is None else body.to_ns / S
    return getattr(body, "received_ns", 0) / S


def sample(source: str, at_s: float, origin: Origin = Origin.LIVE) -> SampleBatch:
    at = int(at_s * S)
    return SampleBatch.build(source, MAP.revision, at, tag=[0], source_ns=[at], value=[1.0], origin=origin)


def follow(*bodies: Any) -> None:
    watch = Invariants()
    watch.use_map(MAP)
    mono = 0.0
    for seq, body in enumerate(bodies, 1):
        mono = max(mono, when(body) or mono)
        watch.entry(entry(seq, body, mono_s=mono))


def test_a_sound_stream_violates_nothing(tmp_path: Path, found: Callable[[], dict[str, int]]) -> None:
    """Two minutes of a plant through the whole pipeline."""
    stream.write_journal(tmp_path / "journal", seconds=20)
    rows = {name: events.ROWS.labels(name)._value.get() for name in ("stored", "redelivered")}
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        pipeline = stream.make_pipeline(store, files)
        pipeline.restore()
        while pipeline.run_once():
            pass
    assert found() == {}
    assert events.ROWS.labels("stored")._value.get() - rows["stored"] == 20 * 5 * len(stream.SIGNALS)


def test_an_entry_that_is_passed_over(tmp_path: Path, found: Callable[[], dict[str, int]]) -> None:
    """A reader that loses one entry without a gap for it."""

    class Lossy(stream.Bundled):
        def read(self, after: Position, limit: int = 1000) -> list[Entry]:
            return [one for one in super().read(after, limit) if one.seq != 50]

    stream.write_journal(tmp_path / "journal", seconds=20)
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        pipeline = stream.make_pipeline(store, Lossy(files, [64]))
        pipeline.restore()
        while pipeline.run_once():
            pass
    assert found() == {"seq": 1}


def test_rows_that_vanish(tmp_path: Path, found: Callable[[], dict[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that forgets a row without putting it into quarantine."""
    real = intake.insert_rows

    def insert(connection: Any, memory: Any, columns: Any, revision: int) -> Any:
        return real(connection, memory, columns.take(columns.tag_id != columns.tag_id.max()), revision)

    monkeypatch.setattr(intake, "insert_rows", insert)
    stream.write_journal(tmp_path / "journal", seconds=2)
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        pipeline = stream.make_pipeline(store, files)
        pipeline.restore()
        while pipeline.run_once():
            pass
    assert found() == {"rows": 1}


def test_a_hole_that_stands_for_gone_entries_is_explained(found: Callable[[], dict[str, int]]) -> None:
    """The reader's own gap explains a jump; a new epoch may begin anywhere; anything else may not jump."""
    watch = Invariants()
    watch.entry(entry(1, Tick()))
    watch.entry(entry(9, Gap("", (), 1, 2, GapCause.JOURNAL_DAMAGED)))
    watch.entry(entry(10, Tick()))
    watch.entry(entry(40, Tick(), epoch=2))
    assert found() == {}
    watch.entry(entry(40, Tick(), epoch=2))
    watch.entry(entry(42, Gap("plc", (), 1, 2, GapCause.LINK_DOWN), epoch=2))
    assert found() == {"seq": 2}


def test_a_silent_polled_source_needs_a_gap_row(found: Callable[[], dict[str, int]]) -> None:
    """Longer than its slowest tag allows and nothing that says why; a gap, open or closed, says why."""
    hole = Gap("plc", (), 10 * S, 20 * S, GapCause.LINK_DOWN)
    follow(sample("plc", 10), sample("plc", 14.9))
    follow(sample("plc", 10), hole, sample("plc", 20))
    follow(sample("plc", 10), Gap("plc", (), 10 * S, None, GapCause.POLL_MISSED), sample("plc", 20))
    follow(sample("plc", 10), Gap("", (), 10 * S, 20 * S, GapCause.JOURNAL_DAMAGED), sample("plc", 20))
    follow(sample("plc", 10), Reject("plc", "1", "no", b"", 13 * S), sample("plc", 16))
    follow(sample("opc", 10), sample("opc", 900))
    assert found() == {}
    follow(sample("plc", 10), sample("plc", 20))
    follow(Gap("plc", (), 1 * S, 9 * S, GapCause.LINK_DOWN), sample("plc", 10), sample("plc", 20))
    follow(sample("plc", 10), Gap("other", (), 10 * S, 20 * S, GapCause.LINK_DOWN), sample("plc", 20))
    assert found() == {"gaps": 3}


def test_rows_are_counted_by_what_became_of_them(found: Callable[[], dict[str, int]]) -> None:
    """The sum has to be what came."""
    watch = Invariants()
    watch.rows(entry(1, Tick()), 5, Counter({"stored": 2, "redelivered": 1, "deadband": 1, "quarantined": 1}))
    assert found() == {}
    watch.rows(entry(2, Tick()), 5, Counter({"stored": 4}))
    assert found() == {"rows": 1}


def with_clock(*moments: tuple[float, float, Any]) -> None:
    """Entries at (monotonic seconds, wall clock ahead by so many seconds, body told by that clock)."""
    watch = Invariants()
    watch.use_map(MAP)
    for seq, (mono_s, ahead_s, body) in enumerate(moments, 1):
        watch.entry(entry(seq, body, mono_s=mono_s, ahead_s=ahead_s))


def polled(mono_s: float, ahead_s: float) -> tuple[float, float, Any]:
    return mono_s, ahead_s, sample("plc", mono_s + ahead_s)


def test_a_clock_that_is_set_is_no_silence(found: Callable[[], dict[str, int]]) -> None:
    """Forward by an hour, back by an hour: polls went on each second, and nothing is violated."""
    for ahead in (3600.0, -3600.0):
        with_clock(*(polled(5000 + i, 0.0 if i < 3 else ahead) for i in range(8)))
    assert found() == {}


def test_a_clock_that_is_set_hides_no_silence(found: Callable[[], dict[str, int]]) -> None:
    """Half an hour without a poll while the clock was set back by as much; a gap of long before is no excuse."""
    ticks = [(5000.5 + i, 0.0 if i < 1790 else -1800.0, Tick()) for i in range(1799)]
    with_clock(polled(5000, 0), *ticks, polled(6800, -1800))
    assert found() == {"gaps": 1}
    old = Gap("plc", (), 4900 * S, 4910 * S, GapCause.LINK_DOWN)
    with_clock(polled(5000, 0), *ticks, (6799, -1800, old), polled(6800, -1800))
    assert found() == {"gaps": 2}


def test_a_gap_over_a_clock_that_is_set(found: Callable[[], dict[str, int]]) -> None:
    """Its end counts, told by the clock before or behind the step; another boot has another monotonic time."""
    for ahead in (3600.0, -3600.0):
        told = Gap("plc", (), 5000 * S, round((5020 + ahead) * S), GapCause.LINK_DOWN)
        with_clock(polled(5000, 0), (5020, ahead, told), polled(5020, ahead))
        before = Gap("plc", (), 5000 * S, 5020 * S, GapCause.LINK_DOWN)
        with_clock(polled(5000, 0), (5020, ahead, before), polled(5020, ahead))
    watch = Invariants()
    watch.use_map(MAP)
    watch.entry(entry(1, sample("plc", 9000), mono_s=9000))
    watch.entry(entry(2, sample("plc", 9500), mono_s=10, ahead_s=9490, boot=b"other"))
    assert found() == {}
