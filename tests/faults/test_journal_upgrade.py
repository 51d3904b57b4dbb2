"""F30: the store of an older program, of a newer one, and one from a backup, while much waits in the journal."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from broker.journal import JournalFiles
from broker.store import Store, StoreOptions, layout, migrate
from schemas.errors import StoreError
from tests.broker.core import stream
from tests.faults.plant import TAGS, Plant, count, outcome, pipeline_of, plant
from tests.waiting import PATIENT_STORE

__all__ = ["plant"]

Scale = Callable[[int, int], int]
#: Every layout that a store in the field may have.
OLDER = [script.revision for script in ScriptDirectory.from_config(migrate.config()).walk_revisions()][1:]


def process(store: Store, plant: Plant, share: float = 1.0) -> float:
    """Bring this share of the journal into SQL. Seconds until the first rows of this start were there."""
    begun, first = time.monotonic(), 0.0
    wanted = share * plant.writer.status().position.seq
    with closing(JournalFiles(plant.folder)) as files:
        pipeline = pipeline_of(store, files if share == 1.0 else stream.Bundled(files, [20]))
        pipeline.restore()
        while pipeline.position.seq < wanted and pipeline.run_once():
            first = first or time.monotonic() - begun
        pipeline.save()
    return first


def older_store(store: Path, folder: Path, revision: str) -> None:
    """The same content in the layout of an older program."""
    folder.mkdir()
    engine = sa.create_engine(f"sqlite:///{folder / 'store.db'}")
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), revision)
    engine.dispose()
    with closing(sqlite3.connect(folder / "store.db", isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS newer", (str(store),))
        for (table,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            if table.startswith("sqlite_") or table == "alembic_version":
                continue
            theirs = {row[1] for row in connection.execute(f"PRAGMA newer.table_info({table})")}
            columns = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})") if row[1] in theirs]
            listed = ", ".join(f'"{name}"' for name in columns)
            connection.execute(f"DELETE FROM main.{table}")
            connection.execute(f"INSERT INTO main.{table} ({listed}) SELECT {listed} FROM newer.{table}")
        connection.execute("DELETE FROM main.facts WHERE name = 'views'")


def opened(folder: Path) -> Store:
    return Store.open(StoreOptions.model_validate(PATIENT_STORE), folder, write=True)


@pytest.mark.parametrize("revision", OLDER)
def test_an_older_store_is_migrated_with_much_that_waits(
    tmp_path: Path, plant: Plant, scale: Scale, figures: Callable[..., None], revision: str
) -> None:
    """A tenth was stored by the older program, the rest waits: all of it is there once, as it was sent."""
    plant.run(scale(20, 1000))
    with closing(stream.open_store(tmp_path / "before")) as store:
        process(store, plant, 0.1)
    older_store(tmp_path / "before" / "store.db", tmp_path / "s", revision)
    begun = time.monotonic()
    with closing(opened(tmp_path / "s")) as store:
        assert not store.is_current()
        had = count(store)
        store.upgrade()
        recovery = time.monotonic() - begun + process(store, plant)
        found = outcome(store, plant)
    assert 0 < had < plant.batches * TAGS
    assert (found.lost, found.doubled, found.wrong) == (0, 0, 0)
    figures(
        "F30 upgrade with a full journal",
        f"store of layout {revision}, {had} rows in it and {plant.batches * TAGS - had} waiting",
        lost=found.lost,
        doubled=found.doubled,
        wrong=found.wrong,
        recovery_s=round(recovery, 1),
        control="see the restored backup",
    )


def test_a_newer_store_is_refused_and_nothing_is_lost(
    tmp_path: Path, plant: Plant, scale: Scale, figures: Callable[..., None]
) -> None:
    """The older program says which version made the store and touches nothing; the newer one goes on."""
    plant.run(scale(20, 1000))
    with closing(stream.open_store(tmp_path / "s")) as store:
        process(store, plant, 0.1)
        had = count(store)
    _set_revision(tmp_path / "s", "9999")
    before = (tmp_path / "s" / "store.db").read_bytes()
    with closing(opened(tmp_path / "s")) as store, pytest.raises(StoreError, match=r"newer version \(migration 9999\)"):
        store.upgrade()
    untouched = (tmp_path / "s" / "store.db").read_bytes() == before
    _set_revision(tmp_path / "s", layout.head())
    with closing(opened(tmp_path / "s")) as store:
        store.upgrade()
        recovery = process(store, plant)
        found = outcome(store, plant)
    assert untouched
    assert (found.lost, found.doubled, found.wrong) == (0, 0, 0)
    figures(
        "F30 downgrade with a full journal",
        f"refused by the older program, then the newer one again; {plant.batches * TAGS - had} rows waited",
        lost=found.lost,
        doubled=found.doubled,
        wrong=found.wrong,
        recovery_s=round(recovery, 1),
        control="see the restored backup",
    )


def _set_revision(folder: Path, revision: str) -> None:
    with closing(sqlite3.connect(folder / "store.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_restored_backup_is_brought_up_to_date(
    tmp_path: Path, plant: Plant, scale: Scale, figures: Callable[..., None]
) -> None:
    """
    The backup knows how far it had come: what was stored after it, and what waits, is stored once.

    Control: a position kept beside the store outlives the restore, and what lies between is lost.
    """
    plant.run(scale(20, 1000))
    with closing(stream.open_store(tmp_path / "s")) as store:
        process(store, plant, 0.1)
    shutil.copytree(tmp_path / "s", tmp_path / "backup")
    with closing(opened(tmp_path / "s")) as store:
        process(store, plant, 0.5)
        had, reached = count(store), store.position()
    shutil.copytree(tmp_path / "backup", tmp_path / "control")
    shutil.rmtree(tmp_path / "s")
    shutil.move(tmp_path / "backup", tmp_path / "s")
    with closing(opened(tmp_path / "s")) as store:
        restored = count(store)
        recovery = process(store, plant)
        found = outcome(store, plant)
    with closing(opened(tmp_path / "control")) as store:
        with store.transaction() as tx:
            tx.set_position(reached)
        process(store, plant)
        beside = outcome(store, plant)
    assert 0 < restored < had < plant.batches * TAGS
    assert (found.lost, found.doubled, found.wrong) == (0, 0, 0)
    assert beside.lost == had - restored
    figures(
        "F30 a backup of the store put back",
        f"{restored} rows in the backup, {had} before it, {plant.batches * TAGS} in the journal",
        lost=found.lost,
        doubled=found.doubled,
        wrong=found.wrong,
        recovery_s=round(recovery, 1),
        control=f"position kept beside the store: {beside.lost} rows lost",
    )
