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


def entry(seq: int, body: Any, epoch: int = 1) -> Entry:
    return Entry(epoch, seq, b"", seq * S, seq * S, body)


def sample(source: str, at_s: float, origin: Origin = Origin.LIVE) -> SampleBatch:
    at = int(at_s * S)
    return SampleBatch.build(source, MAP.revision, at, tag=[0], source_ns=[at], value=[1.0], origin=origin)


def follow(*bodies: Any) -> None:
    watch = Invariants()
    watch.use_map(MAP)
    for seq, body in enumerate(bodies, 1):
        watch.entry(entry(seq, body))


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
