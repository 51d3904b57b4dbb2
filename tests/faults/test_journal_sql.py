"""F4: killed between commit and position. F7, F8: SQL down, SQL slow. F9: PostgreSQL killed within a batch."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from broker.core.pipeline import Pipeline
from broker.core.writer import Writer
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store import Store, StoreOptions, Transaction
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer, NormalizerOptions
from schemas.entries import MapInForce, Position, Tick
from schemas.errors import StoreError
from schemas.samples import SampleBatch
from schemas.tagmap import Tag, TagMap
from tests.broker.core import stream

S = 1_000_000_000
T0 = 1_790_000_000 * S
TAGS = 100
MAP = TagMap(
    site="A/B",
    tags=tuple(Tag(number=n, id=f"t{n}", path=f"A/B/T{n}", source="plc", address=str(n)) for n in range(TAGS)),
)
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


class Plant:
    """Writes a journal of 100 tags, ten batches a second of journal time."""

    def __init__(self, folder: Path) -> None:
        self.now_ns, self.batches = T0, 0
        self.writer = JournalWriter(folder, JournalOptions(), now_ns=lambda: self.now_ns, mono_ns=lambda: self.now_ns)
        self.writer.open()
        self.writer.append(MapInForce(MAP.revision, MAP.body)).result(60)
        self._rng = np.random.default_rng(3)

    def run(self, seconds: int) -> None:
        futures = []
        for _ in range(seconds * 10):
            self.now_ns += S // 10
            batch = SampleBatch.build(
                "plc",
                MAP.revision,
                self.now_ns,
                tag=range(TAGS),
                source_ns=[self.now_ns] * TAGS,
                value=self._rng.normal(20, 1, TAGS),
            )
            futures.append(self.writer.append(batch))
            self.batches += 1
            if self.batches % 10 == 0:
                futures.append(self.writer.append(Tick()))
        for future in futures:
            future.result(120)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path / "journal")
    yield made
    made.writer.close()


def pipeline_of(store: Store, files: JournalFiles, made: type[Pipeline] = Pipeline) -> Pipeline:
    return made(store, files, Normalizer(NormalizerOptions()), Detection(DetectionOptions()))


def stored(store: Store) -> tuple[int, int]:
    """Rows, and different ones among them."""
    with store._read.connect() as connection:
        text = "SELECT count(*), count(DISTINCT source_ts / 1000000 * 1000 + tag_id) FROM records"
        rows, different = connection.exec_driver_sql(text).one()
    return int(rows), int(different)


def test_sql_is_down_and_comes_back(
    tmp_path: Path,
    plant: Plant,
    eventually_sync: Wait,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """What was journalled meanwhile is stored once, several times as fast as it came; live rows are not held up."""
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
        eventually_sync(lambda: "refused" in writer.error, 30)
        plant.run(outage_s)
        rows = plant.batches * TAGS
        down.clear()
        begun = time.monotonic()
        eventually_sync(lambda: stored(store)[0] > 0, 60)
        first = time.monotonic()
        plant.run(5)
        eventually_sync(lambda: store.position() >= plant.writer.status().position, 1200)
        drained = time.monotonic() - first
        total, different = stored(store)
        writer.stop()

    lost, doubled = plant.batches * TAGS - different, total - different
    times = rows / max(drained, 1e-3) / (TAGS * 10)
    assert (lost, doubled) == (0, 0)
    assert times > 1.0
    figures(
        "F7 SQL down",
        f"{outage_s} s at {TAGS * 10} values/s, then up: drained at {times:.0f} x the live rate",
        lost=lost,
        doubled=doubled,
        recovery_s=round(first - begun, 1),
        control="a drain at the live rate never ends",
    )


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

    monkeypatch.setattr(Transaction, "finish", slowly)
    process = psutil.Process(os.getpid())
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        writer = Writer(store, lambda: pipeline_of(store, files))
        writer.start()
        plant.run(10)
        eventually_sync(lambda: stored(store)[0] > 0, 60)
        before, grown = process.memory_info().rss, 0
        for _ in range(int(scale(4, 20))):
            plant.run(20)
            grown = max(grown, process.memory_info().rss - before)
        eventually_sync(lambda: store.position() >= plant.writer.status().position, 600)
        total, different = stored(store)
        writer.stop()

    assert (plant.batches * TAGS - different, total - different) == (0, 0)
    assert grown < 50 << 20
    figures(
        "F8 SQL slow",
        f"{pause:g} s a commit, {plant.batches * TAGS} values; memory +{grown >> 20} MiB",
        lost=0,
        doubled=0,
    )


class Cluster:
    """A PostgreSQL of the test's own, to be killed."""

    def __init__(self, need: Callable[[str], str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fl-kill-"))
        self._pg_ctl, initdb = need("pg_ctl"), need("initdb")
        need("postgres")
        self._prefix: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self._prefix = [need("setpriv"), "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._data = self.folder / "data"
        self._run(initdb, "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"

    def _run(self, *command: str) -> None:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(self.folder)}
        subprocess.run(
            [*self._prefix, *command], check=True, env=environment, cwd=self.folder, stdout=subprocess.DEVNULL
        )

    def start(self) -> None:
        settings = f"-k {self.folder} -c listen_addresses= -c shared_buffers=16MB"
        self._run(self._pg_ctl, "-D", str(self._data), "-w", "-l", str(self.folder / "log"), "-o", settings, "start")

    def kill(self) -> None:
        """SIGKILL of the server and of every process of it."""
        main = psutil.Process(int((self._data / "postmaster.pid").read_text().splitlines()[0]))
        family = [main, *main.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=20)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self._run(self._pg_ctl, "-D", str(self._data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running(need: Callable[[str], str]) -> Iterator[Cluster]:
    cluster = Cluster(need)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def test_postgresql_killed_in_the_middle_of_a_batch(
    tmp_path: Path,
    plant: Plant,
    need: Callable[[str], str],
    eventually_sync: Wait,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """Killed at random moments of the drain, whether the commit happened or not: every row is there once."""
    kills = scale(1, 30)
    plant.run(20)
    slowest = 0.0
    rng = random.Random(9)
    with running(need) as cluster, closing(JournalFiles(tmp_path / "journal")) as files:
        store = Store.open(StoreOptions(url=cluster.url), tmp_path / "data", write=True)
        with closing(store):
            store.upgrade()
            bundled: Any = stream.Bundled(files, [40])
            writer = Writer(store, lambda: pipeline_of(store, bundled))
            writer.start()
            for _ in range(kills):
                at = _rows(store)
                eventually_sync(lambda at=at: _rows(store) > at, 60)
                end = time.monotonic() + rng.uniform(0.0, 0.1)
                eventually_sync(lambda end=end: time.monotonic() >= end)
                cluster.kill()
                cluster.start()
                up, before = time.monotonic(), _rows(store)
                plant.run(5)
                eventually_sync(lambda before=before: _rows(store) > before, 120)
                slowest = max(slowest, time.monotonic() - up)
            eventually_sync(lambda: _position(store) >= plant.writer.status().position, 300)
            total, different = stored(store)
            writer.stop()

    lost, doubled = plant.batches * TAGS - different, total - different
    assert (lost, doubled) == (0, 0)
    figures(
        "F9 PostgreSQL killed in the middle of a batch",
        f"{kills} kills of the whole server, {plant.batches * TAGS} values",
        lost=lost,
        doubled=doubled,
        recovery_s=round(slowest, 1),
        control="a position of its own transaction (F4)",
    )


def _rows(store: Store) -> int:
    try:
        return store.reader().counts().records
    except StoreError:
        return -1


def _position(store: Store) -> Position:
    try:
        return store.position()
    except StoreError:
        return Position(0, 0)
