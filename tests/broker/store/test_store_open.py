"""Options, layout, views, and one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import ValidationError

from broker.store import Store, StoreOptions, engines, layout, migrate, views
from broker.store.tables import METADATA
from broker.store.views import definitions
from schemas.entries import Position
from schemas.errors import ConfigError, StoreError, StoreLocked
from schemas.samples import Gap, GapCause, Reject
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import (
    T0,
    annotation,
    anomaly,
    batch,
    document,
    dump,
    evidence,
    plant,
    rows_of,
)

MAP = plant()


# options and address


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "postgresql://u:secret@db/x"},
        {"url": "postgresql://u@db/x?password=secret"},
        {"url": "mysql://u@db/x"},
        {"password": "secret"},
        {"keep": {"records": "1h"}},
        {"query_limit": "0s"},
        {"pages": 3},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    """No password in the URL, no clear password, no unknown scheme or key, no retention below a day."""
    with pytest.raises(ValidationError):
        StoreOptions.model_validate(wrong)


def test_the_address_takes_driver_folder_and_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative files lie in the data directory; the password comes from its reference."""
    assert engines.address(StoreOptions(), tmp_path).database == str(tmp_path / "store.db")
    assert engines.address(StoreOptions(url="sqlite:///a/b.db"), tmp_path).database == str(tmp_path / "a/b.db")
    monkeypatch.setenv("STORE_PASSWORD", "pässword")
    options = StoreOptions(url="postgresql://u@db/x", password="env:STORE_PASSWORD")
    url = engines.address(options, tmp_path)
    assert (url.drivername, url.password) == ("postgresql+psycopg", "pässword")
    monkeypatch.delenv("STORE_PASSWORD")
    with pytest.raises(ConfigError, match="STORE_PASSWORD"):
        engines.address(options, tmp_path)


def test_a_database_that_is_not_there(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """The error says so, without the address' password; nothing hangs."""
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/x?connect_timeout=2"
    store = Store.open(StoreOptions(url=url), tmp_path, write=True)
    with pytest.raises(StoreError, match="cannot be read"):
        store.is_current()
    with pytest.raises(StoreError, match="cannot be written"), store.transaction():
        pass
    store.close()


# layout


def test_migrations_make_the_tables_that_the_code_expects(store: Store) -> None:
    """From empty to head equals the metadata, every view answers, and a second upgrade changes nothing."""
    with store._writing() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
    assert store.is_current()
    before = dump(store)
    store.upgrade()
    assert dump(store) == before
    for view in definitions("sqlite"):
        assert rows_of(store, f"SELECT * FROM {view}") == []


def test_tables_are_strict(open_store: Opener) -> None:
    """SQLite refuses a text in a numeric column (trap S9)."""
    store = open_store()
    with pytest.raises(StoreError, match="REAL"), store._writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO records(seq,source_ts,tag_id,value,status,flags,received_ts,fingerprint) "
            "VALUES (1,1,1,'12,5',0,0,1,1)"
        )


def test_changed_views_are_noticed_and_made_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view of an older program is replaced or removed without a migration; data and views of others stay."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0], [T0], [1]))
    with store._writing() as connection:
        connection.exec_driver_sql("DROP VIEW v_records")
        connection.exec_driver_sql("CREATE VIEW v_records AS SELECT 1 AS old")
        connection.exec_driver_sql("CREATE VIEW v_gone AS SELECT 1 AS old")
        connection.exec_driver_sql("CREATE VIEW v_my_report AS SELECT source, cause FROM v_gaps")
        connection.exec_driver_sql("UPDATE facts SET value = 'old' WHERE name = 'views'")
    monkeypatch.setattr(views, "FORMER", ("v_gone",))
    assert not store.is_current()
    store.upgrade()
    assert store.is_current()
    assert rows_of(store, "SELECT value, quality, status_name FROM v_records") == [(1.0, "good", "Good")]
    assert rows_of(store, "SELECT * FROM v_my_report") == []
    with pytest.raises(Exception, match="v_gone"):
        rows_of(store, "SELECT * FROM v_gone")


def test_grants_and_views_of_others_outlive_a_new_column(
    open_store: Opener, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL: a view that only grows is replaced in place."""
    store = open_store(new_database())
    with store._writing() as connection:
        connection.exec_driver_sql("CREATE VIEW v_my_report AS SELECT source FROM v_gaps")
        connection.exec_driver_sql("GRANT SELECT ON v_gaps TO PUBLIC")
    grown = {
        name: body.replace(" FROM gaps g", ", 1 AS fresh FROM gaps g")
        for name, body in definitions("postgresql").items()
    }
    monkeypatch.setattr(views, "definitions", lambda _dialect: grown)
    store.upgrade()
    assert rows_of(store, "SELECT fresh FROM v_gaps") == []
    assert rows_of(store, "SELECT * FROM v_my_report") == []
    assert rows_of(store, "SELECT has_table_privilege('pg_monitor', 'v_gaps', 'SELECT')") == [(True,)]
    assert rows_of(store, "SELECT has_table_privilege('pg_monitor', 'v_records', 'SELECT')") == [(False,)]


@pytest.mark.parametrize("change", ["of its columns", "to no view at all"])
def test_a_view_that_has_to_go_names_what_is_in_the_way(
    open_store: Opener, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """PostgreSQL: the error says which view of whom, nothing is changed, and without that view the upgrade runs."""
    store = open_store(new_database())
    with store._writing() as connection:
        connection.exec_driver_sql("CREATE VIEW v_old AS SELECT 1 AS one")
        connection.exec_driver_sql("CREATE VIEW plant_report AS SELECT source, one FROM v_gaps, v_old")
    made = {**definitions("postgresql")}
    if change == "of its columns":
        made["v_gaps"] = "SELECT 1 AS other"
    else:
        made["v_new"] = "SELECT 1 AS one"
        monkeypatch.setattr(views, "FORMER", ("v_old",))
    monkeypatch.setattr(views, "definitions", lambda _dialect: made)
    with pytest.raises(StoreError, match=r"view plant_report depends on view v_\w+\); save the definition"):
        store.upgrade()
    assert not store.is_current()
    assert rows_of(store, "SELECT source FROM v_gaps") == []
    with store._writing() as connection:
        connection.exec_driver_sql("DROP VIEW plant_report")
    store.upgrade()
    assert store.is_current()


def test_a_migration_renames_tables_under_views_of_others(open_store: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite: a batch of Alembic works although a view is built on one of ours that is gone for the moment."""
    store = open_store()
    with store._writing() as connection:
        connection.exec_driver_sql("CREATE VIEW v_my_report AS SELECT source FROM v_gaps")
        connection.exec_driver_sql("UPDATE facts SET value = 'old' WHERE name = 'views'")
    renamed: list[str] = []

    def migrate_gaps(config: Config, _target: str) -> None:
        connection = config.attributes["connection"]
        for old, new in (("gaps", "_alembic_tmp_gaps"), ("_alembic_tmp_gaps", "gaps")):
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")
            renamed.append(new)

    monkeypatch.setattr("broker.store.migrate.command.upgrade", migrate_gaps)
    store.upgrade()
    assert renamed == ["_alembic_tmp_gaps", "gaps"]
    assert rows_of(store, "SELECT source FROM v_my_report") == []


def test_a_newer_store_is_left_alone(store: Store) -> None:
    """A migration that this program does not know is not touched."""
    with store._writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer version"):
        store.upgrade()


def test_views_show_names_and_times(store: Store) -> None:
    """Quality and status as words, times as ns and as RFC 3339 with nine digits, also before 1970."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(
            batch(MAP, [0, 1, 2], [T0 + 1, -1, T0], [1, 2, 3], status=[0, 0x40940000, 0x80FF0000], received_ns=T0)
        )
        tx.gap(Gap("plc", (), T0, None, GapCause.LINK_DOWN), Position(1, 1))
        tx.anomaly(anomaly())
        tx.annotation(annotation(evidence(anomaly())))
        tx.document(document())
        tx.reject(Reject("plc", "x", "y", b"\x00", T0), Position(1, 1))
    query = "SELECT path, unit, quality, status_name, source_ns, source_time, server_time FROM v_records ORDER BY seq"
    rows = rows_of(store, query)
    assert [row[2:6] for row in rows] == [
        ("good", "Good", T0 + 1, "2025-10-09T08:54:00.000000001Z"),
        ("uncertain", "UncertainEngineeringUnitsExceeded", -1, "1969-12-31T23:59:59.999999999Z"),
        ("bad", None, T0, "2025-10-09T08:54:00.000000000Z"),
    ]
    assert rows[0][6] is None
    assert rows_of(store, "SELECT cause, to_time, from_time FROM v_gaps") == [
        ("link_down", None, "2025-10-09T08:54:00.000000000Z")
    ]
    assert rows_of(store, "SELECT title, state FROM v_anomalies") == [("mean shift on Tag0", "open")]
    assert rows_of(store, "SELECT cause, verdict FROM v_annotations") == [("worn bearing", None)]
    with store.transaction() as tx:
        data = {"revision": 1, "status": "withdrawn"}
        tx.document(document().model_copy(update={"id": "d2", "data": data}))
    assert rows_of(store, "SELECT seq, document_id, revision, status FROM v_documents ORDER BY seq") == [
        (1, "d1", 0, "released"), (2, "d2", 1, "withdrawn"),
    ]  # fmt: skip
    assert rows_of(store, "SELECT mean, n FROM v_rollup_1h ORDER BY path") == [(1.0, 1), (2.0, 1), (None, 1)]
    assert rows_of(store, "SELECT raw FROM v_quarantine") == [(b"\x00",)]


# one writer


def test_the_second_writer_is_refused(open_store: Opener, tmp_path: Path) -> None:
    """One data directory, one writer; a reader may come, and the lock is free after close."""
    first = open_store()
    with pytest.raises(StoreLocked, match=str(os.getpid())):
        Store.open(StoreOptions(), tmp_path / "data", write=True)
    reading = Store.open(StoreOptions(), tmp_path / "data", write=False)
    assert reading.is_current()
    assert reading.reader().counts().records == 0
    with pytest.raises(StoreError, match="reading only"), reading.transaction():
        pass
    reading.close()
    first.close()
    open_store()


def test_a_reader_makes_no_database(tmp_path: Path) -> None:
    """Looking at a store that is not there leaves nothing behind."""
    store = Store.open(StoreOptions(), tmp_path, write=False)
    assert not store.is_current()
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_one_server_database_has_one_writer(open_store: Opener, new_database: Callable[[], str]) -> None:
    """Also from another data directory, as another machine would: an advisory lock in the database."""
    url = new_database()
    first = open_store(url, "here")
    with pytest.raises(StoreLocked):
        open_store(url, "there")
    first.close()
    second = open_store(url, "there")
    with second.transaction() as tx:
        tx.set_position(Position(1, 1))
    assert second.position() == Position(1, 1)


def test_the_newest_layout_is_the_head_of_the_migrations() -> None:
    """Asked without Alembic at every start: file names number the migrations as their chain does."""
    assert layout.head() == ScriptDirectory.from_config(migrate.config()).get_current_head()
