"""The deterministic half: the same journal gives the same rows, bit for bit, however it is read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from broker.journal import JournalFiles, JournalOptions, JournalWriter
from schemas.entries import Notice, Position, Tick
from schemas.samples import SampleBatch
from tests.broker.core import stream


@pytest.fixture(scope="module")
def journal_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("journal")
    stream.write_journal(folder)
    return folder


def _run(
    journal_dir: Path, home: Path, sizes: list[int], restart_after: int | None = None
) -> dict[str, list[tuple[object, ...]]]:
    """Process the whole journal; with *restart_after* the pipeline is thrown away after so many bundles each time."""
    with closing(stream.open_store(home)) as store, closing(JournalFiles(journal_dir)) as files:
        journal = stream.Bundled(files, sizes)
        pipeline = stream.make_pipeline(store, journal)
        pipeline.restore()
        turns = 0
        while pipeline.run_once():
            turns += 1
            if restart_after is not None and turns % restart_after == 0:
                pipeline = stream.make_pipeline(store, journal)
                pipeline.restore()
    return stream.dump(home)


def test_the_stream_becomes_rows(journal_dir: Path, tmp_path: Path) -> None:
    """Every sample is a record; gap, reject and an explained anomaly on the pump are there."""
    rows = _run(journal_dir, tmp_path, [512])

    assert len(rows["records"]) == 120 * 5 * len(stream.SIGNALS)
    assert len(rows["gaps"]) == 1
    assert len(rows["quarantine"]) == 1
    assert len(rows["anomalies"]) >= 1
    assert len(rows["evidence"]) >= 1
    assert any("bearing_wear" in str(row) for row in rows["annotations"])


def test_closing_leaves_the_explanation(journal_dir: Path, tmp_path: Path) -> None:
    """When an episode closes, its tags are normal again: the explanation of what happened stays the newest."""
    rows = _run(journal_dir, tmp_path, [512])
    with sqlite3.connect(tmp_path / "store.db") as connection:
        states = connection.execute("SELECT anomaly_id, state FROM anomalies").fetchall()
        explained = connection.execute(
            "SELECT e.anomaly_id, json_extract(r.body, '$.state') FROM evidence e JOIN anomaly_revisions r "
            "ON r.anomaly_id = e.anomaly_id AND r.revision = e.anomaly_revision"
        ).fetchall()
        newest = connection.execute("SELECT cause_id FROM annotations ORDER BY ordinal DESC LIMIT 1").fetchone()
    connection.close()

    assert rows["anomalies"]
    assert {state for _, state in states} == {"closed"}
    assert {state for _, state in explained} == {"open"}
    assert newest == ("bearing_wear",)


@pytest.mark.parametrize("sizes", [[1], [7, 64, 3], [511, 2]])
def test_other_bundles_same_rows(journal_dir: Path, tmp_path: Path, sizes: list[int]) -> None:
    """A slow and a fast reader of one journal write the same rows, bit for bit."""
    whole = _run(journal_dir, tmp_path / "a", [512])

    assert _run(journal_dir, tmp_path / "b", sizes) == whole


@pytest.mark.parametrize("restart_after", [1, 3])
def test_restarts_same_rows(journal_dir: Path, tmp_path: Path, restart_after: int) -> None:
    """Stages that are thrown away and restored between commits write the same rows: nothing lost, nothing doubled."""
    whole = _run(journal_dir, tmp_path / "a", [512])

    assert _run(journal_dir, tmp_path / "b", [40, 41], restart_after) == whole


def test_without_restore_rows_differ(journal_dir: Path, tmp_path: Path) -> None:
    """Negative control: stages that start empty in the middle of the stream do not give the same anomalies."""
    whole = _run(journal_dir, tmp_path / "a", [512])
    with closing(stream.open_store(tmp_path / "b")) as store, closing(JournalFiles(journal_dir)) as files:
        journal = stream.Bundled(files, [330])
        pipeline = stream.make_pipeline(store, journal)
        pipeline.restore()
        pipeline.run_once()
        fresh = stream.make_pipeline(store, journal)
        fresh._read_to = pipeline.position
        fresh._use_map(stream.tag_map().body, None)
        while fresh.run_once():
            pass

    assert stream.dump(tmp_path / "b")["evidence"] != whole["evidence"]


class Poisoned(stream.Bundled):
    """A journal in which one batch has columns of different lengths."""

    BAD_SEQ = 141

    def read(self, after: Position, limit: int = 1000) -> list[stream.Entry]:
        return [self._poison(entry) if entry.seq == self.BAD_SEQ else entry for entry in super().read(after, limit)]

    def _poison(self, entry: stream.Entry) -> stream.Entry:
        assert isinstance(entry.body, SampleBatch)
        return replace(entry, body=replace(entry.body, value=entry.body.value[:1]))


def test_position_commits_with_the_rows(journal_dir: Path, tmp_path: Path) -> None:
    """A bundle that fails in the middle leaves neither rows nor position behind."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [100, 101]))
        pipeline.restore()
        pipeline.run_once()
        before = store.position()
        poisoned = stream.make_pipeline(store, Poisoned(files, [90]))
        poisoned.restore()
        with pytest.raises((IndexError, ValueError)):
            poisoned.run_once()
        after = store.position()

    assert after == before
    assert before > Position(0, 0)


def test_entry_that_cannot_be_processed_is_quarantined(journal_dir: Path, tmp_path: Path) -> None:
    """One poisoned entry becomes a quarantine row; everything behind it is stored, also after a restart."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        journal = Poisoned(files, [50, 200])
        pipeline = stream.make_pipeline(store, journal)
        pipeline.restore()
        failures = 0
        while True:
            try:
                if not pipeline.run_once():
                    break
            except (IndexError, ValueError) as error:
                failures += 1
                failed = pipeline.at
                assert failed is not None
                pipeline = stream.make_pipeline(store, journal)
                pipeline.restore()
                pipeline.refuse(failed, repr(error))
        again = stream.make_pipeline(store, journal)
        again.restore()

        assert again.position == store.position()
    rows = stream.dump(tmp_path)
    samples = 120 * 5 * len(stream.SIGNALS)
    assert failures == 1
    assert len(rows["quarantine"]) == 2
    assert len(rows["records"]) == samples - len(stream.SIGNALS)


def test_unknown_map_is_one_gap(tmp_path: Path) -> None:
    """Batches of a map that the journal does not hold are one open gap of their source, not one each."""
    folder = tmp_path / "journal"
    stream.write_journal(folder, seconds=4, mapped=False)
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(folder)) as files:
        pipeline = stream.make_pipeline(store, files)
        pipeline.restore()
        while pipeline.run_once():
            pass
    rows = stream.dump(tmp_path / "s")
    assert rows["records"] == []
    assert sorted(str(row) for row in rows["gaps"] if "unknown_map" in str(row)) != []
    assert len(rows["gaps"]) == 2


def test_damaged_stage_state_does_not_stop_the_core(journal_dir: Path, tmp_path: Path) -> None:
    """A stage whose saved state cannot be read begins anew; records go on."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [300]))
        pipeline.restore()
        pipeline.run_once()
        pipeline.save()
        with store.transaction() as tx:
            tx.save_stage("detection", b"\xc1")
        fresh = stream.make_pipeline(store, files)
        fresh.restore()
        while fresh.run_once():
            pass
    assert len(stream.dump(tmp_path)["records"]) == 120 * 5 * len(stream.SIGNALS)


def test_notices_of_acquire_are_in_the_audit_once(tmp_path: Path) -> None:
    """With the time of the journal, however often the stages are restored."""
    writer = JournalWriter(tmp_path / "journal", JournalOptions())
    writer.open()
    writer.append(Notice("clock_jumped", "this host's clock moved by +3600.000 s")).result(10)
    writer.append(Tick()).result(10)
    writer.close()
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        for _ in range(3):
            pipeline = stream.make_pipeline(store, files)
            pipeline.restore()
            while pipeline.run_once():
                pass
        rows = store.reader().audit()
        (entry, _) = JournalFiles(tmp_path / "journal").read(Position(0, 0))
        fault = store.reader().verify_audit()
    assert [(row.actor, row.action, row.at_ns) for row in rows] == [("acquire", "clock_jumped", entry.wall_ns)]
    assert fault is None
