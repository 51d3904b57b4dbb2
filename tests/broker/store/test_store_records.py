"""Records: what goes in, what stays out, and what comes back, on both databases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from broker.store import Store
from broker.store import insert as insert_module
from broker.store.columns import Columns
from schemas.entries import Position
from schemas.status import BAD_DEVICE_FAILURE, UNCERTAIN_EU_EXCEEDED, Flag
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import PUMP, T0, S, batch, dump, plant, rows_of

MAP = plant()


def put(store: Store, *batches: Any, revision: int = 0) -> int:
    """Store batches in one transaction; returns the highest seq."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        for one in batches:
            tx.records(one, revision=revision)
        return tx.next_seq - 1


def test_a_row_comes_back_with_every_column(store: Store) -> None:
    """Value, three times, status, flags, unit and increase are read as they were written."""
    put(
        store,
        batch(
            MAP,
            [0, 1, 2],
            [T0, T0 + 1, T0 + 2],
            [1.5, np.nan, -0.0],
            status=[0, BAD_DEVICE_FAILURE, UNCERTAIN_EU_EXCEEDED],
            flags=[0, 0, int(Flag.OUT_OF_RANGE)],
            server_ns=[T0 + 9, 0, T0 + 9],
            increase=[0.25, np.nan, np.nan],
        ),
    )
    first, second, third = store.reader().records(after=0, limit=10)
    assert first == (1, f"{PUMP}/Tag0", "Cel", T0, T0 + 9, T0 + 5, 1.5, None, None, 0, 0, 0, 0.25, "t0", None)
    assert (second.value, second.server_ns, second.quality) == (None, None, "bad")
    assert (third.quality, third.flags, str(third.value)) == ("uncertain", int(Flag.OUT_OF_RANGE), "0.0")


def test_what_sql_cannot_hold_stops_no_other_row(open_store: Opener, request: pytest.FixtureRequest) -> None:
    """NaN, uint64 maximum, NUL, surrogates and 1 MB of text in a batch of 500: all but 2 MB of text are stored."""
    exact: dict[int, Any] = {
        10: 2**64 - 1,
        11: 2**63 - 1,
        12: "a\x00b",
        13: "x\ud800y",
        14: "m" * 1_000_000,
        15: "m" * 2_000_000,
        16: [1, {"k\x00": "v\x00"}],
        17: b"\x00\xff",
        18: [2**70],
        19: [1j],
    }
    value = np.linspace(0, 1, 500)
    value[[5, *exact]] = np.nan
    times = T0 + np.arange(500)
    made = batch(MAP, [0] * 500, times.tolist(), value.tolist(), exact=exact)
    seen: list[tuple[Any, ...]] = []
    for name, url in (("lite", None), ("pg", request.getfixturevalue("new_database")())):
        store = open_store(url, name)
        assert put(store, made) == 498
        rows = {row.source_ns - T0: row for row in store.reader().records(after=0, limit=500)}
        assert sorted(row.seq for row in rows.values()) == list(range(1, 499))
        assert set(range(500)) - rows.keys() == {15, 19}
        assert rows[5].value is None
        assert rows[10].value_text == "18446744073709551615"
        assert rows[11].value_int == 2**63 - 1
        assert (rows[12].value_text, rows[12].flags) == ("a\ufffdb", int(Flag.DECODE_LOSS))
        assert rows[13].value_text == "x\ufffdy"
        assert rows[14].value_text == "m" * 1_000_000
        assert rows[16].value_text == '[1,{"k\ufffd":"v\ufffd"}]'
        assert rows[17].value_text == "AP8="
        assert rows[18].value_text == f"[{2**70}]"
        refused = store.reader().quarantine()
        assert [row.place for row in refused] == [f"{PUMP}/Tag0"] * 2
        assert all(len(row.raw) <= 4096 for row in refused)
        assert any("records_text_length" in row.reason for row in refused)
        content = dump(store)
        # each database words its refusal itself
        content["quarantine"] = [row[:3] + row[4:] for row in content["quarantine"]]
        seen.append(tuple(content.items()))
    assert seen[0] == seen[1]


def test_rows_inside_the_deadband_are_not_stored(store: Store) -> None:
    """DEADBAND rows are for detectors only; the exact value of a later row keeps its row."""
    put(
        store,
        batch(MAP, [0, 0, 0], [T0, T0 + 1, T0 + 2], [1, 1, 2], flags=[0, int(Flag.DEADBAND), 0], exact={2: 2**60}),
    )
    assert [(row.source_ns - T0, row.value_int) for row in store.reader().records(after=0, limit=9)] == [
        (0, None),
        (2, 2**60),
    ]


def test_a_redelivery_is_stored_once(store: Store) -> None:
    """Within a batch, in a later batch, in a later transaction and after a restart of the writer."""
    first = batch(MAP, [0, 1, 0], [T0, T0, T0], [1, 1, 1])
    put(store, first, first)
    put(store, first)
    store._memory = None
    again = batch(MAP, [0, 1, 0, 1], [T0, T0, T0 + 1, T0], [1, 1, 1, 2])
    assert put(store, again) == 4
    assert [(r.seq, r.path[-1], r.source_ns - T0, r.value) for r in store.reader().records(after=0, limit=99)] == [
        (1, "0", 0, 1.0),
        (2, "1", 0, 1.0),
        (3, "0", 1, 1.0),
        (4, "1", 0, 2.0),
    ]


def test_a_row_that_confirms_is_stored_once(open_store: Opener, url: str | None) -> None:
    """It is newer than the tag's newest row, and no redelivery is taken for a fault after a restart."""
    word = batch(MAP, [0], [T0 + 30 * S], [3.0], flags=[Flag.NO_CHANGE_CONFIRMED | Flag.ARRIVAL_TIME])
    store = open_store(url)
    put(store, batch(MAP, [0], [T0], [3.0]), word)
    store.close()
    again = open_store(url)
    assert put(again, word) == 2
    assert put(again, batch(MAP, [0, 0], [T0 + 30 * S, T0 + 60 * S], [3.0] * 2, flags=[int(word.flags[0])] * 2)) == 3
    assert rows_of(again, "SELECT count(*) FROM quarantine") == [(0,)]
    assert rows_of(again, "SELECT source_ts FROM records ORDER BY seq") == [(T0,), (T0 + 30 * S,), (T0 + 60 * S,)]


def test_control_without_the_key_a_redelivery_is_doubled(open_store: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would notice: without look-up and unique key the rows are there twice."""
    store = open_store()
    with store._writing() as connection:
        connection.exec_driver_sql("CREATE TABLE copy AS SELECT * FROM records")
        connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
        connection.exec_driver_sql("ALTER TABLE records RENAME TO old")
        connection.exec_driver_sql("ALTER TABLE copy RENAME TO records")
    monkeypatch.setattr("broker.store.intake.new_rows", lambda _c, _m, columns, _r: columns)
    first = batch(MAP, [0], [T0], [1])
    put(store, first)
    assert put(store, first) == 2


def test_the_unique_key_alone_holds_what_the_look_up_misses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redelivery that was not looked up is refused by SQL and becomes a quarantine row, never a second record."""
    monkeypatch.setattr("broker.store.intake.new_rows", lambda _c, _m, columns, _r: columns)
    put(store, batch(MAP, [0, 1], [T0, T0], [1, 1]))
    assert put(store, batch(MAP, [0, 1], [T0, T0 + 1], [1, 1])) == 3
    assert [row.path[-1] for row in store.reader().records(after=0, limit=9)] == ["0", "1", "1"]
    assert len(store.reader().quarantine()) == 1


def test_late_rows_are_looked_up_and_stored(store: Store) -> None:
    """An older time of a tag is no redelivery by itself."""
    put(store, batch(MAP, [0], [T0 + 10 * S], [1]))
    assert put(store, batch(MAP, [0, 0], [T0, T0 + 10 * S], [2, 1])) == 2


def test_an_unknown_map_or_tag_number_is_an_error_of_the_caller(store: Store) -> None:
    """Nothing is guessed: the rows would be given to another tag."""
    other = plant(7)
    with pytest.raises(ValueError, match="never registered"):
        put(store, batch(other, [0], [T0], [1]))
    with pytest.raises(ValueError, match="outside the map"):
        put(store, batch(MAP, [9], [T0], [1]))
    assert store.reader().counts().records == 0


def test_batches_are_inserted_together_and_refused_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of several batches and sources in one statement keep order, time of arrival, counts and quarantine."""
    monkeypatch.setattr("broker.store.intake.ENOUGH", 5)
    parts = [
        batch(MAP, [0, 1], [T0, T0], [1, 2], received_ns=T0 + 1, exact={1: [1j]}),
        batch(MAP, [2, 3], [T0, T0], [3, 4], received_ns=T0 + 2, server_ns=[T0 + 7, 0]),
        batch(MAP, [1, 0], [T0 + 1, T0], [5, 1], received_ns=T0 + 3, exact={0: 2**60}),
    ]
    parts[1].source = "other"
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        for one in parts:
            tx.records(one)
    rows = store.reader().records(after=0, limit=9)
    assert [(row.seq, row.path[-1], row.received_ns - T0, row.server_ns, row.value_int) for row in rows] == [
        (1, "0", 1, None, None),
        (2, "2", 2, T0 + 7, None),
        (3, "3", 2, None, None),
        (4, "1", 3, None, 2**60),
    ]
    assert rows_of(store, "SELECT source, rows, last_received_ns FROM sources ORDER BY source") == [
        ("other", 2, T0 + 2),
        ("plc", 2, T0 + 3),
    ]
    assert [(row.place[-1], row.source) for row in store.reader().quarantine()] == [("1", "plc")]


def test_a_renamed_tag_keeps_its_history(store: Store) -> None:
    """The same id under a new path is the same tag; a new id gets the next number."""
    put(store, batch(MAP, [0], [T0], [1]))
    first, second, third, _ = MAP.tags
    tags = (first.model_copy(update={"path": f"{PUMP}/Renamed"}), second, third.model_copy(update={"id": "new"}))
    renamed = MAP.model_copy(update={"tags": tags})
    renamed = type(renamed).model_validate(renamed.model_dump())
    with store.transaction() as tx:
        tx.use_map(renamed.revision, renamed)
        tx.records(batch(renamed, [0, 2], [T0 + 1, T0 + 1], [2, 3]))
    reader = store.reader()
    assert [(row.path, row.value) for row in reader.records(after=0, limit=9, path="*/Renamed")] == [
        (f"{PUMP}/Renamed", 1.0),
        (f"{PUMP}/Renamed", 2.0),
    ]
    assert [(tag.tag_id, tag.id) for tag in reader.tags()] == [(1, "t0"), (2, "t1"), (5, "new")]


def test_a_map_is_known_after_a_restart(open_store: Opener, url: str | None) -> None:
    """The numbering of a batch's map is read from SQL when the writer did not see the map itself."""
    first = open_store(url)
    put(first, batch(MAP, [1], [T0], [1]))
    first.close()
    second = open_store(url)
    with second.transaction() as tx:
        tx.records(batch(MAP, [1, 1], [T0, T0 + 1], [1, 1]))
        assert tx.next_seq == 3
    assert second.reader().map() == MAP
    assert second.reader().map(MAP.revision) == MAP


def test_pages_follow_seq_and_filter_by_path(store: Store) -> None:
    """Keyset pages give every row once; a pattern takes ``*`` across levels and no other wildcard."""
    n = 250
    put(store, batch(MAP, [i % 4 for i in range(n)], [T0 + i for i in range(n)], [float(i) for i in range(n)]))
    reader = store.reader()
    seen: list[int] = []
    page = reader.record_page(after=0, limit=60)
    while page.rows:
        seen += [row.seq for row in page.rows]
        page = reader.record_page(after=page.next_after, limit=60)
    assert seen == list(range(1, n + 1))
    filtered = reader.records(after=0, limit=1000, path="Acme/*/Tag3")
    assert [row.value for row in filtered] == [float(i) for i in range(n) if i % 4 == 3]
    assert reader.records(after=0, limit=9, path="Acme/%/Tag3") == []
    assert reader.records(after=n, limit=9) == []
    assert len(reader.records(after=0, limit=10**9, path=f"{PUMP}/Tag0")) == 63


def test_a_filtered_page_looks_at_a_bounded_number_of_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rare tag costs more pages, not a longer query; the cursor goes on where the page stopped."""
    monkeypatch.setattr("broker.store.reader.values.SCAN", 10)
    n = 35
    put(store, batch(MAP, [1] * (n - 1) + [0], [T0 + i for i in range(n)], [0.0] * n))
    reader = store.reader()
    page = reader.record_page(after=0, limit=5, path="*/Tag0")
    assert (page.rows, page.next_after, page.has_more) == ([], 10, True)
    assert [row.seq for row in reader.records(after=0, limit=5, path="*/Tag0")] == [n]


def test_a_replay_gets_new_numbers_and_wins_in_the_view(store: Store) -> None:
    """``v_records`` shows the highest revision, ``v_record_history`` all, the pull gives both."""
    put(store, batch(MAP, [0, 0], [T0, T0 + 1], [10, 20]))
    put(store, batch(MAP, [0], [T0], [1.0]), revision=1)
    put(store, batch(MAP, [0], [T0], [1.0]), revision=1)
    view = "SELECT seq, value, revision FROM {} ORDER BY seq"
    assert rows_of(store, view.format("v_records")) == [(2, 20.0, 0), (3, 1.0, 1)]
    assert rows_of(store, view.format("v_record_history")) == [(1, 10.0, 0), (2, 20.0, 0), (3, 1.0, 1)]
    assert [row.seq for row in store.reader().records(after=0, limit=9)] == [1, 2, 3]
    with store.transaction() as tx:
        assert tx.window(f"{PUMP}/Tag0", T0, T0 + S, upto=3).value.tolist() == [1.0, 20.0]
        assert tx.window(f"{PUMP}/Tag0", T0, T0 + S, upto=2).value.tolist() == [10.0, 20.0]


def test_current_is_the_newest_by_device_time(store: Store) -> None:
    """A late row does not become the current one; tags without rows are not listed."""
    put(store, batch(MAP, [0, 1], [T0 + 5000 * S, T0], [1, 2]))
    put(store, batch(MAP, [0], [T0], [3]))
    assert [(row.record.path[-1], row.record.value) for row in store.reader().current()] == [("0", 1.0), ("1", 2.0)]
    assert [row.record.value for row in store.reader().current("*/Tag1")] == [2.0]
    assert rows_of(store, "SELECT path, value FROM v_current ORDER BY path") == [
        (f"{PUMP}/Tag0", 1.0),
        (f"{PUMP}/Tag1", 2.0),
    ]


def test_window_and_last_value_see_only_what_evidence_may_see(store: Store) -> None:
    """Half-open in time, bounded by seq, the latest rows when there are too many, and rows of this transaction."""
    path = f"{PUMP}/Tag0"
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0, 0, 0], [T0, T0 + S, T0 + 2 * S], [1, np.nan, 3], status=[0, BAD_DEVICE_FAILURE, 0]))
        upto = tx.next_seq - 1
        tx.records(batch(MAP, [0], [T0 + 90 * S], [4]))
        window = tx.window(path, T0, T0 + 2 * S, upto=upto)
        assert window.source_ns.tolist() == [T0, T0 + S]
        assert np.isnan(window.value[1])
        assert window.status.tolist() == [0, BAD_DEVICE_FAILURE]
        assert [str(c.dtype) for c in (window.source_ns, window.value, window.status)] == ["int64", "float64", "uint32"]
        assert tx.window(path, T0, T0 + 999 * S, upto=upto, limit=2).source_ns.tolist() == [T0 + S, T0 + 2 * S]
        assert len(tx.window("no/such/path", T0, T0 + S, upto=upto).value) == 0
        last = tx.last_value(path, T0 + 999 * S, upto=upto)
        assert last is not None
        assert last.value == 3.0
        newest = tx.last_value(path, T0 + 999 * S, upto=tx.next_seq - 1)
        assert newest is not None
        assert newest.value == 4.0
        assert tx.last_value(path, T0, upto=upto) is None
    assert store.position() == Position(0, 0)


def test_bisecting_gives_numbers_without_holes(store: Store) -> None:
    """Refused rows take no sequence number, wherever they stand."""
    bad: dict[int, Any] = {0: "m" * 1_100_000, 7: "m" * 1_100_000, 63: "m" * 1_100_000}
    assert put(store, batch(MAP, [0] * 64, [T0 + i for i in range(64)], [0.0] * 64, exact=bad)) == 61
    assert [row.seq for row in store.reader().records(after=0, limit=99)] == list(range(1, 62))
    assert store.reader().counts().quarantine == 3


def test_copy_binary_holds_empty_values_anywhere() -> None:
    """The columns of PostgreSQL's COPY are the length they say, with NaN first, last and in a row."""
    tag_map = plant(1)
    made = batch(tag_map, [0] * 5, [T0 + i for i in range(5)], [np.nan, 1, np.nan, np.nan, 2])
    columns = Columns(
        np.arange(5),
        made.source_ns,
        np.ones(5, np.int64),
        made.value,
        made.status,
        made.flags.astype(np.int64),
        None,
        made.fingerprint,
        np.full(5, T0),
    )
    raw = insert_module._binary(columns, 0, 5, 1, 0)
    row, head, end = 2 + 9 * 4 + 9 * 8, 19, 2
    assert len(raw) == head + 5 * row - 3 * 8 + end
