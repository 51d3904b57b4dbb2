"""Forgetting: by age, by number, and never because a clock is wrong."""

from __future__ import annotations

import pytest

from broker.store import Store, retention, stream
from broker.store.options import KeepOptions
from schemas.entries import Position
from schemas.errors import StoreError
from schemas.samples import Gap, GapCause, Reject
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import (
    HERE,
    T0,
    S,
    annotation,
    anomaly,
    batch,
    document,
    evidence,
    plant,
    rows_of,
)

MAP = plant()
DAY = retention.DAY_NS
FIRST = T0 // DAY * DAY  #: a day on which records came
EXPIRED = FIRST + 91 * DAY  #: when the default of 90 days is over for that day


def put(store: Store, received_ns: int, count: int = 1) -> None:
    """Store *count* records that came at *received_ns*, each with a time of its own."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        first = tx.next_seq
        times = [T0 + first + i for i in range(count)]
        tx.records(batch(MAP, [0] * count, times, [1.0] * count, received_ns=received_ns))


def seqs(store: Store) -> list[int]:
    """What is left, in order."""
    return [row[0] for row in rows_of(store, "SELECT seq FROM records ORDER BY seq")]


def test_retention_removes_whole_days_in_slices(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old records go slice by slice, sequence numbers go on, what is young or open stays."""
    monkeypatch.setattr(retention, "SLICE", 10)
    day = retention.DAY_NS
    old, now = T0, T0 + 1000 * day
    n = 25
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0] * n, [old + i for i in range(n)], [1.0] * n, received_ns=old))
        tx.records(batch(MAP, [0], [now], [2.0], received_ns=now))
        tx.reject(Reject("plc", "x", "y", b"", old), Position(1, 1))
        tx.reject(Reject("plc", "x", "y", b"", now), Position(1, 1))
        tx.gap(Gap("plc", (0,), old, old + S, GapCause.LINK_DOWN, map_revision=MAP.revision), Position(1, 1))
        tx.gap(Gap("plc", (), old, None, GapCause.LINK_DOWN), Position(1, 1))
        for name, state in (("gone", "closed"), ("open", "open")):
            one = anomaly(name, state=state, onset_ns=old)
            tx.anomaly(one)
            tx.evidence(evidence(one))
            tx.annotation(annotation(evidence(one)))
            tx.annotation_attempt(evidence(one).evidence_id, old, "")
        tx.document(document("old", "2025-10-09T08:54:00Z"))
        tx.document(document("new", "2028-07-05T08:54:00Z"))
    reader = store.reader()
    kept: list[int] = []
    for _ in range(4):
        store.maintain(now, budget_s=0.0)
        kept.append(rows_of(store, "SELECT count(*) FROM records")[0][0])
    assert kept == [16, 6, 1, 1]
    assert reader.span() == (26, 26)
    assert reader.counts().quarantine == 1
    assert [(gap.path, gap.to_ns) for gap in reader.gaps()] == [(None, None)]
    assert rows_of(store, "SELECT count(*) FROM gap_tags") == [(0,)]
    assert [row.anomaly.anomaly_id for row in reader.anomalies()] == ["open"]
    assert rows_of(store, "SELECT count(*) FROM evidence") == [(1,)]
    assert rows_of(store, "SELECT count(*) FROM annotation_attempts") == [(1,)]
    assert [one.id for _, one in reader.documents()] == ["new"]
    assert rows_of(store, "SELECT count(*) FROM rollup_1m") == [(1,)]
    assert rows_of(store, "SELECT count(*) FROM rollup_1h") == [(2,)]
    assert [row.seq for row in reader.records(after=0, limit=9)] == [26]
    with store.transaction() as tx:
        tx.records(batch(MAP, [0], [now + 1], [3.0], received_ns=now))
        assert tx.next_seq == 28


def test_an_episode_in_an_old_recording_stays(store: Store) -> None:
    """What was explained lately is kept, however long ago its device's clock says that it happened."""
    day = retention.DAY_NS
    now = T0 + 1000 * day
    for name, created_ns in (("replayed", now), ("gone", T0)):
        one = anomaly(name, state="closed", onset_ns=T0)
        with store.transaction() as tx:
            tx.anomaly(one)
            tx.evidence(evidence(one))
            tx.annotation(annotation(evidence(one)).model_copy(update={"created_ns": created_ns}))
    store.maintain(now)
    assert [row.anomaly.anomaly_id for row in store.reader().anomalies()] == ["replayed"]


def test_old_clocks_of_sources_go_day_by_day(store: Store) -> None:
    """As long as the minutes' roll-ups, then a day a slice; a minute told twice is one row."""
    limit = FIRST + 400 * DAY
    with store.transaction() as tx:
        for minute in (FIRST - DAY, FIRST, FIRST, FIRST + DAY):
            tx.clock("plc", minute, 5 * S, True)
    view = "SELECT source, minute_ns, ahead_ns, beyond_limit FROM v_source_clocks ORDER BY minute_ns"
    assert rows_of(store, view) == [("plc", FIRST + n * DAY, 5 * S, 1) for n in (-1, 0, 1)]
    for _ in range(3):
        store.maintain(limit + DAY, budget_s=0.0)
    assert rows_of(store, view) == [("plc", FIRST + DAY, 5 * S, 1)]


def test_a_day_that_is_not_over_stays(store: Store) -> None:
    """The cut lies at the begin of a day, so that a day is there whole or not at all."""
    day = retention.DAY_NS
    assert retention.cutoff(100 * day + 5, 10 * 86400.0) == 90 * day
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0, 1], [T0, T0], [1, 2], received_ns=FIRST))
    store.maintain(FIRST + 90 * day + day // 2)
    assert store.reader().span() == (1, 2)
    for _ in range(12):
        store.maintain(FIRST + 91 * day)
    assert store.reader().span() == (None, 2)


def test_a_call_is_bounded_by_time_not_by_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many slices go in one call; the control without time removes one."""
    monkeypatch.setattr(retention, "SLICE", 10)
    put(store, FIRST, 500)
    store.maintain(EXPIRED, budget_s=0.0)
    assert seqs(store) == list(range(11, 501))
    store.maintain(EXPIRED, budget_s=60.0)
    assert seqs(store) == []


def test_rows_of_a_wrong_clock_hold_nothing_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows stamped a year ahead, more than one slice of them, are stepped over, and go when their time has come."""
    monkeypatch.setattr(retention, "SLICE", 10)
    monkeypatch.setattr(retention, "STEP_NS", 1000 * DAY)
    later = FIRST + 300 * DAY
    put(store, later, 25)
    put(store, FIRST, 30)
    put(store, EXPIRED, 5)
    store.maintain(EXPIRED, budget_s=60.0)
    ahead, young = list(range(1, 26)), list(range(56, 61))
    assert seqs(store) == ahead + young
    put(store, EXPIRED, 5)
    store.maintain(EXPIRED + 91 * DAY, budget_s=60.0)
    assert seqs(store) == ahead
    store.maintain(later + 91 * DAY, budget_s=60.0)
    assert seqs(store) == []


def test_a_young_row_before_an_old_one_stays(store: Store) -> None:
    """A clock that was behind for a while does not take the young rows around it along."""
    put(store, EXPIRED)
    put(store, FIRST)
    put(store, EXPIRED)
    store.maintain(EXPIRED)
    assert {1, 3} <= set(seqs(store))


def test_a_clock_that_jumps_ahead_does_not_empty_the_store(open_store: Opener, url: str | None) -> None:
    """A year ahead removes nothing at once, is told, survives a restart, and ends when the clock is right again."""
    store = open_store(url)
    put(store, FIRST, 10)
    store.maintain(FIRST)
    for _ in range(5):
        store.maintain(FIRST + 365 * DAY)
    assert any("364 days behind the clock" in text for text in store.warnings)
    store.close()
    store = open_store(url)
    store.maintain(FIRST + 365 * DAY)
    assert seqs(store) == list(range(1, 11))
    store.maintain(FIRST + 60 * S)
    assert not any("behind the clock" in text for text in store.warnings)


def test_a_clock_that_was_not_set_yet_changes_nothing(store: Store) -> None:
    """A start in 1970 neither removes rows nor holds retention back for the years that follow."""
    store.maintain(60 * S)
    put(store, FIRST, 10)
    store.maintain(FIRST)
    store.maintain(60 * S)
    assert store.warnings == [text for text in store.warnings if "retention" not in text]
    assert len(seqs(store)) == 10
    for _ in range(91 * 24):
        store.maintain(EXPIRED)
    assert seqs(store) == []


def test_control_retention_follows_the_clock_an_hour_a_call(store: Store) -> None:
    """The test above would notice: the same calls, continued, empty the store."""
    put(store, FIRST, 10)
    store.maintain(FIRST)
    for _ in range(91 * 24):
        store.maintain(FIRST + 365 * DAY)
    assert seqs(store) == []


def test_a_failed_slice_is_taken_again(open_store: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """What retention thinks it has done is what is committed."""
    store = open_store()
    put(store, FIRST, 10)
    put(store, EXPIRED)

    def fail(*_: object) -> bool:
        raise StoreError("full")

    with monkeypatch.context() as broken:
        broken.setattr(retention, "_minutes", fail)
        with pytest.raises(StoreError, match="full"):
            store.maintain(EXPIRED)
    assert len(seqs(store)) == 11
    store.maintain(EXPIRED)
    assert seqs(store) == [11]


# quarantine


def reject(store: Store, source: str, count: int, received_ns: int = FIRST) -> None:
    """Store *count* rejects of a source in one transaction."""
    with store.transaction() as tx:
        for i in range(count):
            tx.reject(Reject(source, str(i), "not JSON", b"x", received_ns), HERE)


def test_a_poisoned_source_keeps_its_newest_rejects(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of that source go as new ones come, all are counted, another source loses none."""
    monkeypatch.setattr(stream, "REJECTS", 5)
    reject(store, "quiet", 2)
    for _ in range(3):
        reject(store, "mad", 4)
    reader = store.reader()
    assert [row.quarantine_id for row in reader.quarantine()] == [14, 13, 12, 11, 10, 2, 1]
    figures = {row.source: (row.rejected, row.quarantined) for row in reader.sources()}
    assert figures == {"mad": (12, 5), "quiet": (2, 2)}
    assert reader.counts().quarantine == 7


def test_old_rejects_go_and_are_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of each source say what is left after retention, slice by slice."""
    monkeypatch.setattr(retention, "RAW_SLICE", 2)
    reject(store, "a", 3)
    reject(store, "b", 2)
    reject(store, "a", 1, EXPIRED)
    store.maintain(EXPIRED)
    reader = store.reader()
    assert {row.source: (row.rejected, row.quarantined) for row in reader.sources()} == {"a": (4, 1), "b": (2, 0)}
    assert reader.counts().quarantine == len(reader.quarantine()) == 1


def test_documents_are_counted(store: Store) -> None:
    """The figure is of what is there, after repeats and after retention."""
    with store.transaction() as tx:
        for name in ("d1", "d2", "d1"):
            tx.document(document(name, "2001-01-01T00:00:00Z"))
        tx.document(document("d3"))
    assert store.reader().counts().documents == 3
    keep = KeepOptions()
    store.maintain(T0 + int(keep.documents) * S // 2)
    assert store.reader().counts().documents == 1
