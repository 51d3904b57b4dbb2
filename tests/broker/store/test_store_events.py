"""Events in SQL: each once, in order, with its condition; what has no form goes to quarantine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from broker.store import Store, StoreOptions, alarms, migrate, retention, tables
from broker.store.reader import alarms as reading
from broker.store.reader.alarms import EventFilter
from broker.store.rows.alarms import EventTail
from broker.store.text import MAX_TEXT
from schemas.alarms import Condition, Event
from schemas.entries import Position
from schemas.samples import Gap, GapCause
from schemas.status import Flag
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import PUMP, T0, S, dump, plant, rows_of

HERE = Position(1, 1)
STATE = Condition("nsu=urn:a;s=High", "High", "", True, True, False, None, True, "Active", 700, 0, "seen", "a.moreau")


def event(n: int = 0, **changes: Any) -> Event:
    """The n-th event, a second after the one before."""
    made = Event(
        source="cell",
        notifier="i=2253",
        equipment=PUMP,
        event_id=b"%d" % n,
        event_type="i=9482",
        type_name="ExclusiveLevelAlarmType",
        source_node="nsu=urn:a;s=Level",
        source_name="Level",
        time_ns=T0 + n * S,
        server_ns=T0 + n * S + 1,
        received_ns=T0 + n * S + 2,
        severity=700,
        message=f"event {n}",
        condition=STATE,
        fields={"HighLimit": 80.0},
    )
    return replace(made, **changes)


def put(store: Store, *events: Event) -> dict[str, int]:
    """Store events in one transaction and say what became of them."""
    with store.transaction() as tx:
        for one in events:
            tx.event(one, HERE)
    return {outcome: count for outcome, count in tx.event_tally.items() if count}


def test_an_event_is_a_row_once(store: Store) -> None:
    """What a server tells again is no second row, also after a restart; another state or time is one."""
    assert put(store, event(0), event(0), event(1)) == {"stored": 2, "redelivered": 1}
    before = dump(store)
    assert put(store, event(0, received_ns=T0 + 9 * S, equipment="", notifier="i=85")) == {"redelivered": 1}
    assert dump(store) == before
    again = event(0, condition=replace(STATE, acked=True))
    branch = event(0, condition=replace(STATE, branch_id="nsu=urn:a;s=B1"))
    assert put(store, again, branch, event(0, time_ns=T0 + 1), event(0, source="other")) == {"stored": 4}
    reader = store.reader()
    assert [row.seq for row in reader.newest_events(limit=100).rows] == [1, 2, 3, 4, 5, 6]
    assert [(row.source, row.events) for row in reader.sources()] == [("cell", 5), ("other", 1)]


def test_an_event_of_two_notifiers_has_its_equipment(store: Store) -> None:
    """The Server object tells all events, and stands for no equipment; whichever notifier is heard first."""
    for n, order in enumerate((("", PUMP), (PUMP, ""))):
        told = [event(n, equipment=one, notifier=f"i={2253 + bool(one)}") for one in order]
        assert put(store, *told) == {"stored": 1, "redelivered" if order[0] else "corrected": 1}
    assert put(store, event(0, equipment="Other", notifier="i=9"), event(2)) == {"redelivered": 1, "stored": 1}
    rows = store.reader().newest_events(limit=9).rows
    assert [(row.seq, row.revision, row.equipment, row.notifier) for row in rows] == [
        (2, 1, PUMP, "i=2254"), (3, 0, PUMP, "i=2254"), (4, 0, PUMP, "i=2253"),
    ]  # fmt: skip


def test_what_was_pulled_comes_again_when_it_is_corrected(store: Store) -> None:
    """
    Behind the cursor, once, as the next revision of the same event; nothing else of it differs.

    Negative control: the same told again without an equipment, and another event, correct nothing.
    """
    put(store, event(0, equipment="", notifier="i=85"), event(1))
    reader = store.reader()
    pulled = reader.event_page(after=0, limit=9).next_after
    assert put(store, event(0, equipment="", notifier="i=85", received_ns=T0 + 9 * S)) == {"redelivered": 1}
    assert reader.event_page(after=pulled, limit=9).rows == []

    assert put(store, event(0), event(0), event(0, equipment="Other")) == {"corrected": 1, "redelivered": 2}

    [again] = reader.event_page(after=pulled, limit=9).rows
    first = reader.event_page(after=0, limit=1).rows[0]
    assert (first.seq, first.revision, first.equipment) == (1, 0, "")
    assert again == first._replace(seq=3, revision=1, equipment=PUMP, notifier="i=2253")
    assert [row.seq for row in reader.event_page(after=0, limit=9, wanted=EventFilter(equipment=PUMP)).rows] == [2, 3]
    assert [row.seq for row in reader.newest_events(limit=9).rows] == [2, 3]
    assert [row.seq for row in reader.events_between(PUMP, T0, T0 + 9 * S)] == [3, 2]
    assert [(row.source, row.events) for row in reader.sources()] == [("cell", 2)]
    columns = "seq, revision, equipment"
    assert rows_of(store, f"SELECT {columns} FROM v_events ORDER BY seq") == [(2, 0, PUMP), (3, 1, PUMP)]
    assert rows_of(store, f"SELECT {columns} FROM v_event_history ORDER BY seq") == [
        (1, 0, ""), (2, 0, PUMP), (3, 1, PUMP),
    ]  # fmt: skip
    assert len(rows_of(store, "SELECT DISTINCT source, source_ns, fingerprint FROM v_event_history")) == 2


def test_events_of_an_older_store_stay(tmp_path: Path, cluster_url: str | None) -> None:
    """The migration that gives them a revision keeps every row, its numbers and the key."""
    store = Store.open(StoreOptions(url=cluster_url), tmp_path / "data", write=True)
    try:
        with store._writing() as connection:
            command.upgrade(migrate.config(connection), "0009")
            names = [column for column in tables.events.c if column.name != "revision"]
            before = sa.table("events", *(sa.column(column.name, column.type) for column in names))
            rows = [
                {column.name: "{}" if isinstance(column.type, sa.Text) else n for column in names} for n in range(1, 4)
            ]
            connection.execute(before.insert(), rows)
        store.upgrade()
        found = rows_of(store, "SELECT seq, source, fingerprint, fields, revision FROM v_events ORDER BY seq")
        assert found == [(n, "{}", n, "{}", 0) for n in range(1, 4)]
        with store._writing() as connection, pytest.raises(sa.exc.IntegrityError):
            connection.execute(tables.events.insert(), {**rows[0], "seq": 9})
    finally:
        store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def cluster_url(request: pytest.FixtureRequest) -> str | None:
    """URL of a database without a table; None: SQLite in the data directory."""
    if request.param == "sqlite":
        return None
    import psycopg

    cluster: str = request.getfixturevalue("cluster")
    with psycopg.connect(cluster.format(name="postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE before_revisions")
    return cluster.format(name="before_revisions")


def test_without_an_event_id_what_is_said_counts(store: Store) -> None:
    """Two events of one time are two where their texts differ, and one where nothing does."""
    one, other = event(0, event_id=b"", condition=None), event(0, event_id=b"", condition=None, message="another")
    assert put(store, one, other, one) == {"stored": 2, "redelivered": 1}


def test_an_event_with_a_name_and_no_time_is_told_again(open_store: Opener, url: str | None) -> None:
    """Its time of arrival is another one then; also after a restart, and from a notifier that has an equipment."""
    store = open_store(url)
    arrived = event(0, flags=int(Flag.ARRIVAL_TIME), equipment="")
    later = replace(arrived, time_ns=T0 + 5 * S, received_ns=T0 + 5 * S)
    acked = replace(later, condition=replace(STATE, acked=True))
    assert put(store, arrived, later, event(1)) == {"stored": 2, "redelivered": 1}
    store.close()
    store = open_store(url)
    assert put(store, replace(later, equipment=PUMP), acked, replace(later, source="other")) == {
        "corrected": 1, "stored": 2,
    }  # fmt: skip
    rows = store.reader().newest_events(limit=9).rows
    assert [(row.time_ns - T0, row.equipment) for row in rows] == [(S, PUMP), (0, PUMP), (5 * S, ""), (5 * S, "")]


def test_an_event_without_a_time_is_looked_for_among_the_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is bounded, and the same whether it is kept or read again."""
    monkeypatch.setattr(alarms, "LATELY", 3)

    def told(n: int, at_s: int) -> Event:
        return event(n, flags=int(Flag.ARRIVAL_TIME), time_ns=T0 + at_s * S)

    assert put(store, told(0, 0), told(1, 1), told(2, 2), told(0, 3)) == {"stored": 3, "redelivered": 1}
    assert put(store, told(3, 4), told(0, 5), told(2, 6)) == {"stored": 2, "redelivered": 1}
    assert store._memory is not None
    kept, store._memory.timeless = store._memory.timeless, None
    assert put(store, told(2, 7), told(1, 8)) == {"redelivered": 1, "stored": 1}
    assert kept is not None
    assert {seq for seq, _ in kept.values()} == {3, 4, 5}


def test_every_member_comes_back(store: Store) -> None:
    """From the table and from the view; an event that is no alarm has no condition."""
    odd = {"big": 2**60, "huge": 2**80, "bytes": b"\x00\xff", "list": [1, None, "x"], "nan": float("nan"), "none": None}
    put(store, event(0), event(1, condition=None, server_ns=None, message="a\x00b\ud800", fields=odd, flags=128))
    alarm, plain = store.reader().newest_events(limit=10).rows
    assert (alarm.equipment, alarm.event_id, alarm.type_name) == (PUMP, "30", "ExclusiveLevelAlarmType")
    assert (alarm.condition_id, alarm.condition_name, alarm.branch_id) == (STATE.condition_id, "High", "")
    assert (alarm.retain, alarm.enabled, alarm.acked, alarm.confirmed, alarm.active) == (True, True, False, None, True)
    assert (alarm.state, alarm.last_severity, alarm.quality) == ("Active", 700, 0)
    assert (alarm.comment, alarm.user_name, alarm.fields) == ("seen", "a.moreau", {"HighLimit": 80.0})
    assert (plain.condition_id, plain.active, plain.server_ts, plain.flags) == (None, None, None, 128)
    assert plain.message == "a\ufffdb\ufffd"
    assert plain.fields == {
        "big": str(2**60), "huge": str(2**80), "bytes": "AP8=", "list": [1, None, "x"], "nan": None, "none": None,
    }  # fmt: skip
    columns = "seq, source_time, server_ns, active, acked, status_name, condition_name, user_name"
    assert rows_of(store, f"SELECT {columns} FROM v_events ORDER BY seq") == [
        (1, "2025-10-09T08:54:00.000000000Z", T0 + 1, 1, 0, "Good", "High", "a.moreau"),
        (2, "2025-10-09T08:54:01.000000000Z", None, None, None, None, None, None),
    ]


def test_what_has_no_form_goes_to_quarantine(store: Store) -> None:
    """It takes no sequence number and stops no other."""
    long = event(0, message="x" * (MAX_TEXT + 1))
    beyond = event(1, severity=2**70)
    assert put(store, long, beyond, event(2)) == {"quarantined": 2, "stored": 1}
    reader = store.reader()
    assert [row.seq for row in reader.newest_events(limit=10).rows] == [1]
    reasons = [(row.place, row.reason) for row in reader.quarantine()]
    assert reasons == [
        ("Level", f"severity is {2**70}, beyond 64 bits"),
        ("Level", f"message has {MAX_TEXT + 1} characters, more than {MAX_TEXT}"),
    ]


def test_pages_and_filters(store: Store) -> None:
    """Every row once and in order, whatever the size of the page; a pattern minds the case."""
    put(store, *[event(n, severity=100 * (n % 10) + 1, equipment=f"A/{'p' if n % 2 else 'P'}_{n}") for n in range(25)])
    reader = store.reader()

    def follow(wanted: EventFilter, limit: int) -> list[int]:
        seen, after, more = [], 0, True
        while more:
            page = reader.event_page(after=after, limit=limit, wanted=wanted)
            seen += [row.seq for row in page.rows]
            after, more = page.next_after, page.has_more
        return seen

    assert follow(EventFilter(), 7) == list(range(1, 26))
    assert follow(EventFilter(severity=901), 2) == [10, 20]
    assert follow(EventFilter(equipment="A/P_*"), 3) == list(range(1, 26, 2))
    assert follow(EventFilter(equipment="A/P_4"), 3) == [5]
    assert follow(EventFilter(equipment="A/P%4"), 3) == []
    assert follow(EventFilter(source="nobody"), 3) == []
    assert [row.seq for row in reader.newest_events(limit=2, wanted=EventFilter(since_ns=T0 + 3 * S)).rows] == [24, 25]
    assert reader.event_span() == (1, 25)
    assert [row.seq for row in reader.events_between("A/P_4", T0, T0 + 99 * S)] == [5]
    assert reader.events_between("A/P_4", T0 + 5 * S, T0 + 99 * S) == []


def test_the_newest_are_looked_for_in_bounded_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rare one is found however far back, a pattern that minds the case costs no row, and an end in time is told."""
    monkeypatch.setattr(reading, "SCAN", 10)
    rare = {3: "A/P", 4: "a/p", 40: "a/p"}
    put(store, *[event(n, severity=900 if n in rare else 1, equipment=rare.get(n, "A/q")) for n in range(60)])
    reader = store.reader()
    tail = reader.newest_events(limit=2, wanted=EventFilter(severity=900))
    assert ([row.seq for row in tail.rows], tail.looked_from) == ([5, 41], None)
    tail = reader.newest_events(limit=1, wanted=EventFilter(equipment="A/P*"))
    assert ([row.seq for row in tail.rows], tail.looked_from) == ([4], None)
    assert reader.newest_events(limit=9, wanted=EventFilter(source="nobody")) == EventTail([], None)
    turns = iter([True, False])
    with store._read.connect() as connection:
        tail = reading.newest(connection, 9, EventFilter(severity=900), lambda: next(turns))
    assert ([row.seq for row in tail.rows], tail.looked_from) == ([41], 41)


@pytest.mark.parametrize(
    "wanted",
    [EventFilter(source="cell"), EventFilter(equipment="A/q"), EventFilter(since_ns=1), EventFilter(severity=2)],
)
def test_a_filter_does_not_leave_the_order_of_arrival(open_store: Opener, wanted: EventFilter) -> None:
    """SQLite would take an index of all events of a source, of which there is no bound."""
    store = open_store(None)
    with store._read.connect() as connection:
        query = sa.select(tables.events).where(tables.events.c.seq > 5, *wanted.where())
        text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
        plans = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert plans == ["SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"]


def test_retention(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By time of arrival; numbers go on."""
    monkeypatch.setattr(retention, "SLICE", 10)
    day = retention.DAY_NS
    put(store, *[event(n) for n in range(15)], event(20, received_ns=T0 + 1000 * day))
    for _ in range(3):
        store.maintain(T0 + 1000 * day, budget_s=0.0)
    assert store.reader().event_span() == (16, 16)
    put(store, event(21, received_ns=T0 + 1000 * day))
    assert store.reader().event_span() == (16, 17)


def test_a_gap_of_events_is_no_hole_in_a_tag(store: Store) -> None:
    """It stands beside a gap of the same source, cause and begin. Negative control: that one breaks the tag's line."""
    site = plant()
    lost = Gap("plc", (), T0, T0 + S, GapCause.QUEUE_OVERFLOW, detail="x", events=True)
    with store.transaction() as tx:
        tx.use_map(site.revision, site)
        tx.gap(lost, HERE)
    reader = store.reader()
    assert reader.gaps_between([f"{PUMP}/Tag0"], T0, T0 + S) == []
    with store.transaction() as tx:
        tx.gap(replace(lost, events=False), HERE)
    assert len(reader.gaps_between([f"{PUMP}/Tag0"], T0, T0 + S)) == 1
    assert [gap.scope for gap in reader.gaps()] == ["samples", "events"]
    assert rows_of(store, "SELECT scope, path FROM v_gaps ORDER BY gap_id") == [("events", None), ("samples", None)]
