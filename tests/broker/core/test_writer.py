"""The writer thread: bundles, commands in between, refusals and poisoned entries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.core.pipeline import Pipeline
from broker.core.writer import Writer
from broker.journal import JournalFiles
from broker.store import Store, Transaction
from detectors.detection import Detection
from normalizers.normalizer import Normalizer
from schemas.errors import Refused, StoreError
from tests.broker.core import stream
from tests.broker.core.test_pipeline import Poisoned
from tests.broker.store.plant import anomaly, evidence

Eventually = Callable[..., None]


@pytest.fixture(scope="module")
def journal_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("journal")
    stream.write_journal(folder, seconds=40)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(stream.open_store(tmp_path)) as opened:
        yield opened


@pytest.fixture
def files(journal_dir: Path) -> Iterator[JournalFiles]:
    with closing(JournalFiles(journal_dir)) as opened:
        yield opened


SAMPLES = 40 * 5 * len(stream.SIGNALS)


def _stored(store: Store) -> int:
    return store.reader().counts().records


def test_journal_is_drained_and_state_saved(store: Store, files: JournalFiles, eventually_sync: Eventually) -> None:
    """The thread stores what the journal holds, and saves its stages at the end."""
    writer = Writer(store, lambda: stream.make_pipeline(store, files))
    writer.start()
    eventually_sync(lambda: _stored(store) == SAMPLES)
    writer.stop()

    assert store.stage("pipeline") is not None
    assert writer.error == ""


@pytest.mark.parametrize("stage", [Normalizer, Detection])
def test_a_stage_whose_state_cannot_be_restored_begins_anew(
    store: Store, journal_dir: Path, eventually_sync: Eventually, monkeypatch: pytest.MonkeyPatch, stage: type
) -> None:
    """Whatever its restore raises: the stage learns anew, and the records go on where they were."""

    def broken(self: object, *args: object) -> None:
        raise TypeError("a state of another kind")

    with closing(JournalFiles(journal_dir)) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [100]))
        pipeline.restore()
        assert pipeline.run_once()
        pipeline.save()
    monkeypatch.setattr(stage, "restore", broken)
    with closing(JournalFiles(journal_dir)) as files:
        writer = Writer(store, lambda: stream.make_pipeline(store, files))
        writer.start()
        eventually_sync(lambda: _stored(store) == SAMPLES)
        writer.stop()
    assert writer.error == ""


def test_news_is_told_and_nothing_else(store: Store, files: JournalFiles, eventually_sync: Eventually) -> None:
    """Who explains is woken by new evidence, after its commit; records and other commands wake nobody."""
    news: list[int] = []
    writer = Writer(store, lambda: stream.make_pipeline(store, files))
    writer.start(lambda: news.append(len(store.reader().annotations_pending(10))))
    eventually_sync(lambda: _stored(store) == SAMPLES)
    writer.submit(lambda tx: tx.put_user("a.moreau", ("engineer",), "x")).result(120)
    assert news == []

    one = anomaly("an")

    def explain(tx: Transaction) -> None:
        tx.anomaly(one)
        tx.evidence(evidence(one))

    writer.submit(explain).result(120)
    writer.stop()
    assert news == [1]


def test_it_beats_while_it_goes_round(store: Store, files: JournalFiles, eventually_sync: Eventually) -> None:
    """With work or without; not while what it does hangs, however well the other threads are."""
    beats: list[str] = []
    writer = Writer(
        store, lambda: stream.make_pipeline(store, files), lambda: beats.append(threading.current_thread().name)
    )
    writer.start()
    eventually_sync(lambda: _stored(store) == SAMPLES)
    idle = len(beats)
    eventually_sync(lambda: len(beats) > idle + 10)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_: Transaction) -> None:
        hangs.set()
        assert goes_on.wait(60)

    writer.submit(hang)
    assert hangs.wait(60)
    before = len(beats)
    store.reader().counts()
    assert len(beats) == before
    goes_on.set()
    eventually_sync(lambda: len(beats) > before)
    writer.stop()
    assert set(beats) == {"fairlead-writer"}


def test_command_runs_between_bundles(store: Store, files: JournalFiles) -> None:
    """A command's result comes back; what it raises comes back too, and nothing of it is written."""
    writer = Writer(store, lambda: stream.make_pipeline(store, files))
    writer.start()

    def fail(tx: Transaction) -> None:
        tx.put_user("b.petit", ("engineer",), "x")
        raise Refused("no")

    assert writer.submit(lambda tx: tx.put_user("a.moreau", ("engineer",), "x")).result(120) is None
    with pytest.raises(Refused, match="no"):
        writer.submit(fail).result(120)
    writer.stop()

    assert [user.name for user in store.reader().users()] == ["a.moreau"]


def test_nothing_is_taken_after_stop(store: Store, files: JournalFiles) -> None:
    """A request that comes too late is refused at once and does not wait for ever."""
    writer = Writer(store, lambda: stream.make_pipeline(store, files))
    writer.start()
    writer.stop()

    with pytest.raises(Refused, match="stopping"):
        writer.submit(lambda tx: None)


def test_store_that_refuses_is_tried_again(store: Store, files: JournalFiles, eventually_sync: Eventually) -> None:
    """A bundle that SQL refuses is repeated from the saved stages: nothing lost, nothing doubled."""
    refusals = iter([True, True])

    class Full(Pipeline):
        def run_once(self) -> int:
            if self.position.seq > 100 and next(refusals, False):
                raise StoreError("database or disk is full")
            return super().run_once()

    def make() -> Pipeline:
        made = stream.make_pipeline(store, stream.Bundled(files, [90]))
        made.__class__ = Full
        return made

    writer = Writer(store, make)
    writer.start()
    eventually_sync(lambda: "full" in writer.error)
    eventually_sync(lambda: _stored(store) == SAMPLES)
    writer.stop()

    assert writer.error == ""


def test_poisoned_entry_costs_only_itself(store: Store, files: JournalFiles, eventually_sync: Eventually) -> None:
    """An entry at which a stage fails goes to quarantine; the thread lives and stores everything else."""
    writer = Writer(store, lambda: stream.make_pipeline(store, Poisoned(files, [64])))
    writer.start()
    eventually_sync(lambda: _stored(store) == SAMPLES - len(stream.SIGNALS))
    writer.stop()

    assert any("journal entry" in row.place for row in store.reader().quarantine())


def test_entry_that_poisons_the_restart(store: Store, files: JournalFiles, eventually_sync: Eventually) -> None:
    """
    A stage that fails while it reads on from its saved state refuses that entry, too: core starts, and starts again.

    What the entry became before the restart stays; one quarantine row says so.
    """
    pipeline = stream.make_pipeline(store, stream.Bundled(files, [4]))
    pipeline.restore()
    while store.position().seq < Poisoned.BAD_SEQ:
        pipeline.run_once()
    poisoned = Poisoned(files, [64])
    with pytest.raises((IndexError, ValueError)):  # what a core that cannot refuse it would die of, each time
        stream.make_pipeline(store, poisoned).restore()

    for _ in range(2):
        writer = Writer(store, lambda: stream.make_pipeline(store, poisoned))
        writer.start()
        eventually_sync(lambda: _stored(store) == SAMPLES)
        writer.stop()
        assert writer.error == ""

    rows = [row for row in store.reader().quarantine() if "journal entry" in row.place]
    assert len(rows) == 1
    assert "after a restart" in rows[0].reason


def test_commands_without_end_do_not_hold_up_the_stream(
    store: Store, files: JournalFiles, eventually_sync: Eventually
) -> None:
    """Whoever asks again at once, as a replay does, has its turn after the next bundle."""
    writer = Writer(store, lambda: stream.make_pipeline(store, stream.Bundled(files, [8])))
    asked: list[int] = []
    over = threading.Event()

    def again(tx: Transaction) -> None:
        asked.append(1)
        if not over.is_set():
            writer.submit(again)

    writer.submit(again)
    writer.start()
    try:
        eventually_sync(lambda: _stored(store) == SAMPLES)
    finally:
        over.set()
        writer.stop()
    assert len(asked) > 10
