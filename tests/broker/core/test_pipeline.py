"""The deterministic half: the same journal gives the same rows, bit for bit, however it is read."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from broker.journal import JournalFiles
from schemas.entries import Position
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
    """Hands out bundles whose last batch has columns of different lengths."""

    def read(self, after: Position, limit: int = 1000) -> list[stream.Entry]:
        entries = super().read(after, limit)
        places = [i for i, entry in enumerate(entries) if isinstance(entry.body, SampleBatch)]
        bad = entries[places[-1]]
        assert isinstance(bad.body, SampleBatch)
        entries[places[-1]] = replace(bad, body=replace(bad.body, value=bad.body.value[:1]))
        return entries


def test_position_commits_with_the_rows(journal_dir: Path, tmp_path: Path) -> None:
    """A bundle that fails in the middle leaves neither rows nor position behind."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [100, 101]))
        pipeline.restore()
        pipeline.run_once()
        before = store.position()
        poisoned = stream.make_pipeline(store, Poisoned(files, [50]))
        poisoned.restore()
        with pytest.raises((IndexError, ValueError)):
            poisoned.run_once()
        after = store.position()

    assert after == before
    assert before > Position(0, 0)
