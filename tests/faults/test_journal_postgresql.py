"""F9: PostgreSQL killed within a batch, whether the commit happened or not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from broker.core.writer import Writer
from broker.journal import JournalFiles
from broker.store import Store, StoreOptions
from schemas.entries import Position
from schemas.errors import StoreError
from tests.broker.core import stream
from tests.faults.plant import TAGS, Plant, outcome, pipeline_of, plant
from tests.waiting import PATIENT_STORE

__all__ = ["plant"]

Wait = Callable[..., None]


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
        options = StoreOptions.model_validate({"url": cluster.url, **PATIENT_STORE})
        store = Store.open(options, tmp_path / "data", write=True)
        with closing(store):
            store.upgrade()
            bundled: Any = stream.Bundled(files, [40])
            writer = Writer(store, lambda: pipeline_of(store, bundled))
            writer.start()
            for _ in range(kills):
                at = _rows(store)
                eventually_sync(lambda at=at: _rows(store) > at, 240)
                end = time.monotonic() + rng.uniform(0.0, 0.1)
                eventually_sync(lambda end=end: time.monotonic() >= end)
                cluster.kill()
                cluster.start()
                up, before = time.monotonic(), _rows(store)
                plant.run(5)
                eventually_sync(lambda before=before: _rows(store) > before, 240)
                slowest = max(slowest, time.monotonic() - up)
            eventually_sync(lambda: _position(store) >= plant.writer.status().position, 300)
            found = outcome(store, plant)
            writer.stop()

    assert (found.lost, found.doubled, found.wrong) == (0, 0, 0)
    figures(
        "F9 PostgreSQL killed in the middle of a batch",
        f"{kills} kills of the whole server, {plant.batches * TAGS} values",
        lost=found.lost,
        doubled=found.doubled,
        wrong=found.wrong,
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
