"""What the map said of a value when it was stored: its type and its text, also after another map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command

from broker.api.record_rows import records_json
from broker.store import Store, StoreOptions, migrate
from schemas.tagmap import TagMap
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import T0, S, batch, plant, rows_of


def with_tag(enum: dict[int, str] | None = None, **changes: Any) -> TagMap:
    """The plant with another meaning of its first tag."""
    made = plant()
    first = made.tags[0].model_copy(update={"enum": enum, **changes})
    return made.model_copy(update={"tags": (first, *made.tags[1:])})


OLD = with_tag({0: "Stopped", 1: "Running", 2: "Held"}, type="uint16")
NEW = with_tag({0: "Aborted", 1: "Execute", 3: "Nul\x00"}, type="uint16")


def put(store: Store, tag_map: TagMap, second: int, values: list[float], *, revision: int = 0) -> None:
    """Store values of the first tag under a map, a second apart."""
    with store.transaction() as tx:
        if not revision:
            tx.use_map(tag_map.revision, tag_map)
        times = [T0 + (second + i) * S for i in range(len(values))]
        tx.records(batch(tag_map, [0] * len(values), times, values), revision=revision)


def texts(store: Store) -> list[str | None]:
    """By seq, and the same in the view of all records."""
    told = [row["enum_text"] for row in records_json(store.reader().records(after=0, limit=100))]
    assert [row[0] for row in rows_of(store, "SELECT enum_text FROM v_record_history ORDER BY seq")] == told
    return told


def test_a_new_map_keeps_the_texts_of_what_was_stored(store: Store) -> None:
    """Each record has the text of its own map; a number without one, and what is no number of it, have none."""
    put(store, OLD, 0, [0, 1, 2, 7, 1.5, float("nan"), float("inf"), 1e18])
    put(store, NEW, 20, [0, 1, 2, 3])
    put(store, with_tag(None, type="uint16"), 40, [1])
    put(store, NEW, 60, [1])

    gone: list[str | None] = [None] * 5
    assert texts(store) == [
        "Stopped",
        "Running",
        "Held",
        *gone,
        "Aborted",
        "Execute",
        None,
        "Nul\ufffd",
        None,
        "Execute",
    ]
    assert [row["enum_text"] for row in records_json([row.record for row in store.reader().current()])] == ["Execute"]
    assert rows_of(store, "SELECT enum_text FROM v_current") == [("Execute",)]


def test_a_first_text_holds_for_what_comes_behind_it(store: Store) -> None:
    """A tag of which no map said a word keeps its records as they are when one names type and texts."""
    put(store, plant(), 0, [1])
    put(store, OLD, 10, [1])

    assert texts(store) == [None, "Running"]
    assert [row["type"] for row in records_json(store.reader().records(after=0, limit=9))] == ["float64", "uint16"]


def test_a_map_that_is_read_again_changes_nothing(open_store: Opener, url: str | None) -> None:
    """Core reads the stream on from its saved state: maps come again, and the newest holds at last."""
    store = open_store(url)
    put(store, OLD, 0, [1])
    put(store, NEW, 1, [1])
    rows = rows_of(store, "SELECT tag_id, revision, from_seq, body FROM tag_meanings ORDER BY 1, 2, 3")
    with store.transaction() as tx:
        for tag_map in (OLD, NEW, OLD, NEW):
            tx.use_map(tag_map.revision, tag_map)
    put(store, NEW, 2, [1])

    assert rows_of(store, "SELECT tag_id, revision, from_seq, body FROM tag_meanings ORDER BY 1, 2, 3") == rows
    assert texts(store) == ["Running", "Execute", "Execute"]


def test_rows_that_wait_belong_to_the_map_before(store: Store) -> None:
    """Records and the map behind them come in one transaction, and the records are inserted at its end."""
    with store.transaction() as tx:
        tx.use_map(OLD.revision, OLD)
        tx.records(batch(OLD, [0], [T0], [1]))
        tx.use_map(NEW.revision, NEW)
        tx.records(batch(NEW, [0], [T0 + S], [1]))

    assert texts(store) == ["Running", "Execute"]


def test_a_replay_with_a_map_of_its_own_has_its_texts(store: Store) -> None:
    """Rows of a replay are read by the map that made them; live rows before and after by theirs."""
    put(store, OLD, 0, [1])
    with store.transaction() as tx:
        revision = tx.begin_replay("a", "", sources=(), span_ns=(T0, T0 + S), tag_map=NEW)
    put(store, OLD, 0, [3], revision=revision)
    put(store, OLD, 5, [1])

    assert texts(store) == ["Running", "Nul\ufffd", "Running"]
    assert [row[0] for row in rows_of(store, "SELECT enum_text FROM v_records ORDER BY seq")] == [
        "Nul\ufffd",
        "Running",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"type": "int16"}, "int16"),
        ({"type": "bool"}, "bool"),
        ({"type": "bcd32"}, "bcd32"),
        ({"type": "int16", "factor": 0.1}, "float64"),
        ({"type": "int16", "offset": 2.0}, "float64"),
        ({"type": "uint16", "scale_mode": "sqrt"}, "float64"),
        ({"type": "uint16", "clamp": "high", "clamp_high": 9.5}, "float64"),
        ({"type": "float32"}, "float64"),
        ({"type": "string[8]"}, "float64"),
        ({}, "float64"),
    ],
    ids=str,
)
def test_type_is_that_of_what_is_stored(store: Store, changes: dict[str, Any], expected: str) -> None:
    """What was scaled is a double, whatever the device sends; a float32 is told by its flag, row by row."""
    put(store, with_tag(**changes), 0, [1.0])
    assert [row["type"] for row in records_json(store.reader().records(after=0, limit=9))] == [expected]


def test_exact_values_have_their_types(store: Store) -> None:
    """Integers and texts beside the number; without a value there is no type."""
    tag_map = with_tag(type="uint64")
    exact: dict[int, Any] = {1: 2**60, 2: 2**64 - 1, 3: "text"}
    with store.transaction() as tx:
        tx.use_map(tag_map.revision, tag_map)
        tx.records(batch(tag_map, [0, 0, 0, 1, 0], [T0 + i for i in range(5)], [1.0, *[np.nan] * 4], exact=exact))
    rows = records_json(store.reader().records(after=0, limit=9))
    assert [(row["type"], row["value"]) for row in rows] == [
        ("uint64", 1.0),
        ("uint64", str(2**60)),
        ("uint64", str(2**64 - 1)),
        ("string", "text"),
        (None, None),
    ]


def test_v_tags_names_what_the_map_says(store: Store) -> None:
    """One row a tag, also of those that no map has any more."""
    put(store, with_tag({1: "On"}, type="uint16", range=(0.0, 9.0), role="state", description="pump"), 0, [1])
    with store.transaction() as tx:
        less = plant(1)
        tx.use_map(less.revision, less)
    columns = "tag, path, source, type, unit, range_low, range_high, description, role, enum, equipment_class, in_map"
    rows = rows_of(store, f"SELECT {columns} FROM v_tags ORDER BY path")
    path = "Acme/Lyon/Util/P1/Tag"
    assert rows[0] == ("t0", f"{path}0", "plc", None, "Cel", None, None, "", None, None, "PU", 1)
    assert rows[1] == ("t1", f"{path}1", "plc", None, "Cel", None, None, "", None, None, "PU", 0)
    put(store, with_tag({1: "On"}, type="uint16", range=(0.0, 9.0), role="state", description="pump"), 9, [1])
    assert rows_of(store, f"SELECT {columns} FROM v_tags ORDER BY path")[0] == (
        *("t0", f"{path}0", "plc", "uint16", "Cel", 0.0, 9.0, "pump", "state", '{"1":"On"}', "PU", 1),
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest) -> str | None:
    """URL of a database without a table; None: SQLite in the data directory."""
    if request.param == "sqlite":
        return None
    import psycopg

    cluster: str = request.getfixturevalue("cluster")
    with psycopg.connect(cluster.format(name="postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE before_meanings")
    return cluster.format(name="before_meanings")


def test_an_older_store_keeps_its_rows_texts_and_gaps(tmp_path: Path, older: str | None) -> None:
    """Records from before have the texts of the map then, are found by their time, and gaps are pulled in order."""
    store = Store.open(StoreOptions(url=older), tmp_path / "data", write=True)
    try:
        with store._writing() as connection:
            command.upgrade(migrate.config(connection), "0011")
            for statement in (
                "INSERT INTO counters VALUES ('gap_id', 2), ('record_seq', 655360), ('tag_id', 1)",
                "INSERT INTO tags VALUES (1, 't0', 'p', 'plc', '0', 'uint16', '1', NULL, '', NULL, NULL, "
                """'{"1":"On"}', '', 1)""",
                "INSERT INTO gaps VALUES (1, 'plc', 'link_down', 5, NULL, 1, '', 0, '', 1, 1), "
                "(2, 'plc', 'link_down', 7, 9, 1, '', 0, '', 1, 1)",
            ):
                connection.execute(sa.text(statement.replace(":", r"\:")))
            for seq, at in ((1, 10), (65535, 20), (65536, 30), (70001, 40), (655360, 5)):
                connection.execute(
                    sa.text(
                        "INSERT INTO records (seq, source_ts, tag_id, value, status, flags, received_ts, fingerprint, "
                        "revision) VALUES (:seq, :at, 1, 1, 0, 0, 0, :seq, 0)"
                    ),
                    {"seq": seq, "at": at},
                )
        asked: list[tuple[str, Any]] = []
        assert store._write is not None
        sa.event.listen(store._write, "before_cursor_execute", lambda _, cursor, *asking: asked.append(asking[:2]))
        store.upgrade()
        if older is None:
            with store._read.connect() as connection:
                plans = [
                    connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
                    for text, values in asked
                    if "FROM records" in text and "VIEW" not in text
                ]
            assert plans
            assert "TEMP B-TREE" not in str(plans)  # no sort of all records
        rows = "SELECT enum_text FROM v_records ORDER BY seq"
        assert rows_of(store, rows) == [("On",)] * 5
        assert rows_of(store, "SELECT * FROM record_blocks ORDER BY block") == [(0, 10, 20), (1, 30, 40), (10, 5, 5)]
        reader = store.reader()
        assert [(row.gap_id, row.changed) for row in reader.gap_page(after=0, limit=9).rows] == [(1, 1), (2, 2)]
        assert reader.gap_span() == (1, 2)
        page = reader.record_page(after=0, limit=9, from_ns=30, to_ns=40)
        assert [row.seq for row in page.rows] == [65536]
    finally:
        store.close()
