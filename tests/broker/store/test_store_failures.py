"""Filling up, dying, reading beside the writer, forgetting."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.store import Store, StoreOptions
from schemas.entries import Position
from schemas.errors import Refused, StoreError, StoreLocked
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import (
    T0,
    S,
    batch,
    dump,
    plant,
    rows_of,
)

MAP = plant()
ROOT = Path(__file__).resolve().parents[3]


# failures


def test_a_full_disk_loses_nothing_and_recovers(open_store: Opener) -> None:
    """StoreError, position and rows as before; the same bundle goes in when there is space again (trap S4)."""
    store = open_store()

    def bundle() -> None:
        with store.transaction() as tx:
            tx.use_map(MAP.revision, MAP)
            n = 20_000
            tx.records(batch(MAP, [0] * n, [T0 + i for i in range(n)], [float(i) for i in range(n)]))
            tx.set_position(Position(1, 5))

    def set_pages(pages: int) -> None:
        assert store._write is not None
        raw = store._write.raw_connection()
        raw.cursor().execute(f"PRAGMA max_page_count={pages}")
        raw.close()

    before = dump(store)
    set_pages(rows_of(store, "PRAGMA page_count")[0][0] + 5)
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            bundle()
        assert dump(store) == before
    set_pages(1 << 30)
    bundle()
    assert store.position() == Position(1, 5)
    assert store.reader().counts().records == 20_000
    assert rows_of(store, "PRAGMA integrity_check") == [("ok",)]


_CHILD = """
import os, signal, sys
from pathlib import Path
from broker.store import Store, StoreOptions
from schemas.entries import Position
from tests.broker.store.plant import T0, batch, plant
folder, url, torn, MAP = Path(sys.argv[1]), sys.argv[2] or None, sys.argv[3:] == ["torn"], plant()

def work(step):
    store = Store.open(StoreOptions(url=url), folder, write=True)
    for number in (step, step + 1):
        with store.transaction() as tx:
            tx.use_map(MAP.revision, MAP)
            tx.records(batch(MAP, [0, 1], [T0 + number, T0 + number], [number, number]))
            if not torn:
                tx.set_position(Position(1, number))
            if number > step and not torn:
                os.kill(os.getpid(), signal.SIGKILL)
        if torn:
            if number > step:
                os.kill(os.getpid(), signal.SIGKILL)
            with store.transaction() as tx:
                tx.set_position(Position(1, number))

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        work(int(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_kill_between_insert_and_commit(
    open_store: Opener, url: str | None, tmp_path: Path, eventually_sync: Callable[..., None]
) -> None:
    """Five kills -9: the position stands at the last commit, its rows are there once, the open bundle left none."""
    open_store(url).close()
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path / "data"), url or ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for step in range(1, 6):
            parent.stdin.write(f"{step}\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == f"{-signal.SIGKILL}\n"
            opened: list[Store] = []

            def is_free(found: list[Store] = opened) -> bool:
                # a server notices the lost connection a moment later
                try:
                    found.append(Store.open(StoreOptions(url=url), tmp_path / "data", write=True))
                except StoreLocked:
                    return False
                return True

            eventually_sync(is_free)
            store = opened[0]
            assert store.position() == Position(1, step)
            rows = store.reader().records(after=0, limit=99)
            assert [row.value for row in rows] == [float(n) for n in range(1, step + 1) for _ in range(2)]
            assert [row.seq for row in rows] == list(range(1, 2 * step + 1))
            store.close()


def test_control_a_position_of_its_own_transaction_is_torn(open_store: Opener, tmp_path: Path) -> None:
    """The test above would notice: with rows and position in two transactions the same kill leaves rows behind."""
    open_store().close()
    run = [sys.executable, "-c", _CHILD, str(tmp_path / "data"), "", "torn"]
    done = subprocess.run(run, input="1\n", stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    assert done.stdout == f"{-signal.SIGKILL}\n"
    store = open_store()
    assert store.position() == Position(1, 1)
    assert [row.value for row in store.reader().records(after=0, limit=9)] == [1.0, 1.0, 2.0, 2.0]


# readers


def test_readers_and_the_writer_do_not_wait_for_each_other(store: Store) -> None:
    """A reader in the middle of its work does not stop a commit; a reader sees the last commit while one is open."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0], [T0], [1]))
    with store._read.connect() as reading:
        count = "SELECT count(*) FROM records"
        assert reading.exec_driver_sql(count).scalar() == 1
        with store.transaction() as tx:
            tx.records(batch(MAP, [0], [T0 + 1], [1]))
            seen: list[int] = []
            thread = threading.Thread(target=lambda: seen.append(len(store.reader().records(after=0, limit=9))))
            thread.start()
            thread.join(60)
            assert seen == [1]
        assert reading.exec_driver_sql(count).scalar() == 1
    assert store.reader().counts().records == 2


def test_a_query_that_takes_too_long_is_ended(open_store: Opener, url: str | None) -> None:
    """Refused with a text for the person; the connection goes on working, also without a limit reached."""
    reader = open_store(url, query_limit="200ms").reader()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    for _ in range(2):
        with pytest.raises(Refused, match=r"longer than 0\.2 s"):
            reader._ask(lambda connection: connection.exec_driver_sql(endless).scalar())
        assert reader.counts().records == 0


def test_a_trend_that_takes_too_long_comes_from_rollups(open_store: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy plant's hour of records is too much to look through; the minutes answer."""
    store = open_store(query_limit="300ms")
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0, 0], [T0, T0 + S], [1, 2]))
    endless = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n)"
    slow = f"SELECT {endless} AS b, 0 AS at, 0 AS place, 1 AS n, 1 AS good, 0 AS bad, 1 AS low, 1 AS high, "
    slow += "1 AS first, 1 AS last, 1 AS first_ns, 1 AS last_ns"
    monkeypatch.setattr("broker.store.reader.trend._SAMPLES", slow)
    found = store.reader().trend(MAP.tags[0].path, T0, T0 + 60 * S, 10)
    assert found is not None
    assert (found.resolution, [point.n for point in found.points]) == ("1m", [2])


def test_a_long_wal_is_cut(open_store: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer checkpoints when nobody reads; a reader only postpones it."""
    monkeypatch.setattr("broker.store.store.WAL_BYTES", 1)
    store = open_store()
    assert store.reader().counts().wal_bytes > 0
    with store._read.connect() as reading:
        reading.exec_driver_sql("SELECT count(*) FROM records").scalar()
        with store.transaction() as tx:
            tx.set_position(Position(1, 1))
        store.maintain(T0)
    store.maintain(T0)
    assert store.reader().counts().wal_bytes == 0
    assert store.position() == Position(1, 1)
