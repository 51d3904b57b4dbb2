"""F4: killed between commit and position. F7, F8: SQL down, SQL slow."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from broker.core.pipeline import BUNDLE, Pipeline
from broker.core.writer import Writer
from broker.journal import JournalFiles
from broker.store import Transaction
from schemas.entries import Entry, Position
from schemas.errors import StoreError
from schemas.samples import SampleBatch
from tests.broker.core import stream
from tests.faults.plant import TAGS, Plant, count, outcome, pipeline_of, plant

__all__ = ["plant"]

Wait = Callable[..., None]


class Killed(BaseException):
    """The process ends here; no handler of the product may catch it."""


class Fragile(stream.Bundled):
    """A journal whose reader is killed when it publishes the position, which comes after the SQL commit."""

    kills = 0

    def done(self, position: Position) -> None:
        if self._turn and self.kills < 10_000:
            self.kills += 1
            self._turn = 0
            raise Killed
        super().done(position)


def killed_run(journal_dir: Path, home: Path, size: int) -> int:
    """Process the journal; killed at every publication of a position. The number of kills."""
    with closing(stream.open_store(home)) as store, closing(JournalFiles(journal_dir)) as files:
        journal = Fragile(files, [size])
        while True:
            pipeline = stream.make_pipeline(store, journal)
            with suppress(Killed):
                pipeline.restore()
                while pipeline.run_once():
                    pass
                return journal.kills


def test_killed_between_commit_and_position(
    tmp_path: Path, scale: Callable[[int, int], int], figures: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row once, also in quarantine, gaps and anomalies; a position of its own transaction would double them."""
    seconds = scale(60, 1800)
    stream.write_journal(tmp_path / "journal", seconds=seconds)
    with closing(stream.open_store(tmp_path / "whole")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        pipeline = stream.make_pipeline(store, files)
        pipeline.restore()
        while pipeline.run_once():
            pass
    whole = stream.dump(tmp_path / "whole")
    kills = killed_run(tmp_path / "journal", tmp_path / "killed", 40)
    killed = stream.dump(tmp_path / "killed")

    lost = sum(len(set(whole[table]) - set(killed[table])) for table in whole)
    doubled = sum(len(rows) for rows in killed.values()) - sum(len(rows) for rows in whole.values())
    monkeypatch.setattr(Transaction, "set_position", lambda self, position: None)
    torn = _position_apart(tmp_path)
    assert kills >= seconds // 15
    assert (lost, doubled) == (0, 0)
    assert killed == whole
    assert torn > 0
    figures(
        "F4 killed between SQL commit and position",
        f"{kills} kills over {seconds} s of a plant",
        lost=lost,
        doubled=doubled,
        control=f"position in its own transaction: {torn} rows too many",
    )


def _position_apart(tmp_path: Path) -> int:
    """Rows too many where the position does not commit with the rows: the last bundle comes again."""
    with closing(stream.open_store(tmp_path / "torn")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        counts = []
        for _ in range(2):
            pipeline = stream.make_pipeline(store, files)
            while pipeline.run_once():
                pass
            counts.append(sum(len(rows) for rows in stream.dump(tmp_path / "torn").values()))
    return counts[1] - counts[0]


def test_sql_is_down_and_comes_back(
    tmp_path: Path,
    plant: Plant,
    eventually_sync: Wait,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """What was journalled meanwhile is stored once, several times as fast as it came; at the live rate it never is."""
    down = threading.Event()
    down.set()

    class Down(Pipeline):
        def run_once(self) -> int:
            if down.is_set():
                raise StoreError("connection refused")
            return super().run_once()

    outage_s = scale(30, 3600)
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        writer = Writer(store, lambda: pipeline_of(store, files, Down))
        writer.start()
        eventually_sync(lambda: "refused" in writer.error)
        plant.run(outage_s)
        rows = plant.batches * TAGS
        down.clear()
        begun = time.monotonic()
        eventually_sync(lambda: count(store) > 0, 240)
        first = time.monotonic()
        plant.run(5)
        eventually_sync(lambda: store.position() >= plant.writer.status().position, 1200)
        drained = time.monotonic() - begun
        found = outcome(store, plant)
        writer.stop()
    paced_s = scale(10, 240)
    waited, waits = at_the_live_rate(tmp_path, plant, outage_s, paced_s)

    times = rows / max(drained, 1e-3) / (TAGS * 10)
    assert (found.lost, found.doubled, found.wrong) == (0, 0, 0)
    assert times > 1.0
    assert waits >= waited > 0
    figures(
        "F7 SQL down",
        f"{outage_s} s at {TAGS * 10} values/s, then up: drained in {drained:.1f} s, {times:.0f} x the live rate",
        lost=found.lost,
        doubled=found.doubled,
        wrong=found.wrong,
        recovery_s=round(first - begun, 1),
        control=f"drained at the live rate: {waited} entries wait at first, {waits} after {paced_s} s more",
    )


def at_the_live_rate(folder: Path, plant: Plant, outage_s: int, seconds: int) -> tuple[int, int]:
    """Negative control: as many entries are read as come. Those that wait when SQL is back, and so long afterwards."""

    def waiting() -> int:
        return plant.writer.status().position.seq - pipeline.position.seq

    with closing(stream.open_store(folder / "paced")) as store, closing(JournalFiles(folder / "journal")) as files:
        pipeline = pipeline_of(store, stream.Bundled(files, [11]))  # ten batches and a tick: what a second brings
        pipeline.restore()
        assert waiting() >= 11 * outage_s
        before = waiting()
        for _ in range(seconds):
            plant.run(1)
            pipeline.run_once()
        return before, waiting()


class Counted:
    """
    The journal as a reader sees it; ``most`` is the number of values that were in memory at once.

    ``hoarding`` is the fault of the negative control: whatever is there is read into a queue at once.
    """

    def __init__(self, files: JournalFiles, *, hoarding: bool) -> None:
        self.most = 0
        self._files = files
        self._hoarding = hoarding
        self._queue: list[Entry] = []

    def read(self, after: Position, limit: int = 1000) -> list[Entry]:
        self._queue = [entry for entry in self._queue if entry.position > after]
        while more := self._files.read(self._queue[-1].position if self._queue else after, limit):
            self._queue += more
            if not self._hoarding:
                break
        self.most = max(self.most, sum(len(e.body) for e in self._queue if isinstance(e.body, SampleBatch)))
        handed, self._queue = self._queue[:limit], self._queue[limit:] if self._hoarding else []
        return handed

    def done(self, position: Position) -> None:
        self._files.done(position)


def test_sql_is_slow(
    tmp_path: Path,
    plant: Plant,
    eventually_sync: Wait,
    monkeypatch: pytest.MonkeyPatch,
    scale: Callable[[float, float], float],
    figures: Callable[..., None],
) -> None:
    """Each commit takes seconds: what waits does so in the journal, not in memory; nothing is lost."""
    pause = scale(0.2, 2.0)
    real = Transaction.finish

    def slowly(self: Transaction) -> None:
        real(self)
        time.sleep(pause)  # the fault: a database that takes its time

    process = psutil.Process(os.getpid())
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        reader = Counted(files, hoarding=False)
        with monkeypatch.context() as slow:
            slow.setattr(Transaction, "finish", slowly)
            writer = Writer(store, lambda: pipeline_of(store, reader))
            writer.start()
            plant.run(10)
            eventually_sync(lambda: count(store) > 0, 240)
            before, grown = process.memory_info().rss, 0
            for _ in range(int(scale(8, 20))):
                plant.run(20)
                grown = max(grown, process.memory_info().rss - before)
            waited = plant.writer.status().position.seq - writer.position.seq
            eventually_sync(lambda: store.position() >= plant.writer.status().position, 600)
            writer.stop()
        found = outcome(store, plant)
    with closing(stream.open_store(tmp_path / "c")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        hoard = Counted(files, hoarding=True)
        pipeline_of(store, hoard).run_once()

    assert (found.lost, found.doubled, found.wrong) == (0, 0, 0)
    assert grown < 50 << 20
    assert reader.most <= BUNDLE * TAGS
    assert hoard.most == plant.batches * TAGS > 2 * reader.most
    figures(
        "F8 SQL slow",
        f"{pause:g} s a commit, {plant.batches * TAGS} values; {waited} entries waited, memory +{grown >> 20} MiB, at "
        f"most {reader.most} values in it at once",
        lost=found.lost,
        doubled=found.doubled,
        wrong=found.wrong,
        control=f"what waits is taken into memory: {hoard.most} values at once, and more with every second",
    )
