"""The demo's journal of the time before."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from adapters.base import Adapter
from broker.acquire.process import Source, _first_entries
from broker.config.loader import load_config
from broker.config.model import Config
from broker.core.pipeline import Pipeline
from broker.demo.history import enter
from broker.demo.run import _write_site
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store import Store
from broker.tagmap import load
from detectors.detection import Detection
from normalizers.normalizer import Normalizer
from schemas.entries import START, MapInForce, Tick
from schemas.samples import Gap, GapCause, Origin, SampleBatch
from simulators.plant import Plant
from simulators.recording import record

SECOND = 1_000_000_000
UP_NS = 1_790_000_000 * SECOND
ADDRESSES = {"modbus": "127.0.0.1:502", "opcua": "opc.tcp://127.0.0.1:4840/", "mqtt": "mqtt://127.0.0.1:1883"}


def _site(home: Path) -> Config:
    config = load_config(_write_site(home, ADDRESSES, 8080), {})
    config.data_dir.mkdir()
    return config


def _never_built() -> Adapter:
    raise AssertionError("what begins the journal needs no adapter")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Twenty seconds of the plant."""
    path = tmp_path / "before.csv"
    record(Plant(), 20.0, path)
    return path


def test_the_journal_reads_as_if_acquire_had_run(tmp_path: Path, recording: Path) -> None:
    """A map, a tick a second, every source's own values in order, up to the time that was asked for."""
    config = _site(tmp_path)
    entered = enter(recording, config, UP_NS)
    with closing(JournalFiles(config.data_dir / "journal")) as journal:
        entries = list(journal.read(START, 10_000))
    tag_map = load(config)
    batches = [entry.body for entry in entries if isinstance(entry.body, SampleBatch)]

    assert [entry.body.revision for entry in entries if isinstance(entry.body, MapInForce)] == [tag_map.revision]
    assert 20 <= sum(isinstance(entry.body, Tick) for entry in entries) <= 21
    assert sum(map(len, batches)) == entered.values
    assert entered.seconds == pytest.approx(19.8)
    assert {batch.origin for batch in batches} == {Origin.REPLAY}
    for source in config.sources:
        mine = [batch for batch in batches if batch.source == source]
        times = [int(time_ns) for batch in mine for time_ns in batch.source_ns]
        assert times == sorted(times)
        assert 0 <= times[-1] - UP_NS < 1000
        assert {tag_map.tags[number].source for batch in mine for number in batch.tag} == {source}
    assert [entry.wall_ns for entry in entries] == sorted(entry.wall_ns for entry in entries)


def test_the_time_until_acquire_starts_is_a_gap(tmp_path: Path, recording: Path) -> None:
    """The seconds that a start takes are told of every source, and nothing that came before is missing."""
    config = _site(tmp_path)
    enter(recording, config, UP_NS)
    writer = JournalWriter(config.data_dir / "journal", JournalOptions())
    with closing(writer):
        opened = writer.open()

    later_ns = UP_NS + 5 * SECOND
    sources = {name: Source(options, _never_built) for name, options in config.sources.items()}
    bodies = _first_entries(opened, sources, load(config), later_ns)
    gaps = [body for body in bodies if isinstance(body, Gap)]
    assert {gap.source for gap in gaps} == set(config.sources)
    assert {(gap.from_ns, gap.to_ns, gap.cause) for gap in gaps} == {(UP_NS, later_ns, GapCause.NOT_RUNNING)}


def test_a_damaged_recording_is_named_with_its_line(tmp_path: Path, recording: Path) -> None:
    """Nothing is passed over in silence."""
    lines = recording.read_text(encoding="utf-8").splitlines(keepends=True)
    recording.write_text("".join([*lines[:3], "no time" + lines[3][13:], *lines[4:]]), encoding="utf-8")

    with pytest.raises(ValueError, match=r"before\.csv:4: "):
        enter(recording, _site(tmp_path), UP_NS)


def test_nothing_is_found_in_it_and_all_of_it_is_kept(tmp_path: Path, recording: Path) -> None:
    """Healthy time: every value becomes a record, and none an anomaly or a reject."""
    config = _site(tmp_path)
    record(Plant(), 400.0, recording)
    entered = enter(recording, config, UP_NS)
    with (
        closing(Store.open(config.store, config.data_dir, write=True)) as store,
        closing(JournalFiles(config.data_dir / "journal")) as journal,
    ):
        store.upgrade()
        pipeline = Pipeline(store, journal, Normalizer(config.normalize), Detection(config.detection))
        pipeline.restore()
        while pipeline.run_once():
            pass
        reader = store.reader()
        stored: Counter[str] = Counter({row.source: row.rows for row in reader.sources()})
        assert stored.total() == entered.values
        assert reader.anomalies(limit=10) == []
        assert not any(row.rejected for row in reader.sources())
