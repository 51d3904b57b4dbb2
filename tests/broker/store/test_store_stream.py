"""Gaps, rejects, links, episodes, documents, people: idempotent, readable, in the same transaction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from broker.store import Store, Transaction
from broker.store.episodes import parse_time
from schemas.entries import Link, Position
from schemas.errors import StoreError
from schemas.samples import Gap, GapCause, Reject
from schemas.status import BAD
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import (
    PUMP,
    T0,
    S,
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
HERE = Position(1, 7)


def test_a_gap_opens_closes_and_never_opens_again(store: Store) -> None:
    """Source, tags, cause and begin make one gap; its end and its backfill come later."""
    of_tags = Gap("plc", (2, 1), T0, None, GapCause.LINK_DOWN, map_revision=MAP.revision)
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.gap(of_tags, HERE)
        tx.gap(Gap("plc", (), T0, T0 + S, GapCause.NOT_RUNNING, detail="a\x00b"), HERE)
    assert store.reader().counts().gaps_open == 1
    with store.transaction() as tx:
        tx.gap(Gap("plc", (1, 2), T0, T0 + 5 * S, GapCause.LINK_DOWN, map_revision=MAP.revision), HERE)
        tx.gap(of_tags, HERE)
        tx.gap(Gap("plc", (1, 2), T0, None, GapCause.LINK_DOWN, True, MAP.revision), HERE)
    reader = store.reader()
    rows = reader.gaps()
    assert [(row.path, row.to_ns, row.backfilled) for row in rows] == [
        (None, T0 + S, False),
        (f"{PUMP}/Tag1", T0 + 5 * S, True),
        (f"{PUMP}/Tag2", T0 + 5 * S, True),
    ]
    assert rows[0].detail == "a\ufffdb"
    assert reader.gaps(state="open") == []
    assert [row.path for row in reader.gaps_between([f"{PUMP}/Tag1"], T0 + 2 * S, T0 + 3 * S)] == [f"{PUMP}/Tag1"]
    assert [row.path for row in reader.gaps_between([f"{PUMP}/Tag3"], T0, T0 + 9 * S)] == [None]
    assert reader.gaps_between([f"{PUMP}/Tag1"], T0 + 5 * S, T0 + 9 * S) == []


@pytest.mark.parametrize(
    ("gap", "missing"),
    [
        (Gap("plc", (), T0 + S, None, GapCause.LINK_DOWN), {0, 1, 2, 3}),
        (Gap("", (), T0 + S, None, GapCause.JOURNAL_DAMAGED), {0, 1, 2, 3}),
        (Gap("plc", (2, 1), T0 + S, None, GapCause.SERVER_REFUSED, map_revision=MAP.revision), {1, 2}),
        (Gap("plc", (), T0 + S, T0 + 2 * S, GapCause.LINK_DOWN), set()),
        (Gap("plc", (), T0 + S, None, GapCause.SESSION_LOST, events=True), set()),
        (Gap("other", (), T0 + S, None, GapCause.LINK_DOWN), set()),
    ],
    ids=["source", "every source", "tags", "closed", "events", "another source"],
)
def test_current_tells_what_is_missing_since(store: Store, gap: Gap, missing: set[int]) -> None:
    """The last value of a tag that nobody samples any more is not shown as the present one."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0, 1, 2, 3], [T0] * 4, [1.0] * 4))
        tx.gap(Gap("plc", (1,), T0 - 9 * S, T0 - 8 * S, GapCause.LINK_DOWN, map_revision=MAP.revision), HERE)
        tx.gap(gap, HERE)
        tx.gap(replace(gap, from_ns=T0 + 5 * S, cause=GapCause.DISABLED), HERE)
    expected = [(gap.cause, T0 + S) if tag in missing else (None, None) for tag in range(4)]

    assert [(row.gap_cause, row.gap_from_ns) for row in store.reader().current()] == expected
    assert rows_of(store, "SELECT gap_cause, gap_from_ns FROM v_current ORDER BY path") == expected


def test_a_row_that_came_since_is_a_present_value(store: Store) -> None:
    """The entry that ends a gap may be lost with its segment: good rows behind its begin say that it is over."""
    came = {"received_ns": T0 + 2 * S}
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.gap(Gap("plc", (), T0 + S, None, GapCause.LINK_DOWN), HERE)
        tx.records(batch(MAP, [0], [T0], [1.0]))
        tx.records(batch(MAP, [1], [T0 + 2 * S], [1.0], **came))
        tx.records(batch(MAP, [2], [T0 + 2 * S], [math.nan], status=[BAD], **came))

    assert [row.gap_cause for row in store.reader().current()] == ["link_down", None, "link_down"]
    assert rows_of(store, "SELECT gap_cause FROM v_current ORDER BY path") == [("link_down",), (None,), ("link_down",)]


def test_a_gap_of_every_source_is_everybodys(store: Store) -> None:
    """A damaged journal is a hole in each tag's line; the control, a gap of another source, is not."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0], [T0], [1]))
        tx.gap(Gap("", (), T0, T0 + 5 * S, GapCause.JOURNAL_DAMAGED), HERE)
        tx.gap(Gap("other", (), T0, T0 + 5 * S, GapCause.LINK_DOWN), HERE)
        found = [tx.gaps_between([f"{PUMP}/Tag1"], T0, T0 + S), tx.gaps_between([], T0, T0 + S)]
    reader = store.reader()
    found.append(reader.gaps_between([f"{PUMP}/Tag1"], T0, T0 + S))
    found.append(reader.gaps(source="plc"))
    trend = reader.trend(f"{PUMP}/Tag0", T0, T0 + 9 * S, 9)
    assert trend is not None
    found.append(trend.gaps)
    for rows in found:
        assert [(row.source, row.path, row.cause) for row in rows] == [("", None, "journal_damaged")]
    assert [row.source for row in reader.gaps(source="other")] == ["other", ""]


def test_a_gap_of_an_unknown_map_is_the_whole_source(store: Store) -> None:
    """Tag numbers that cannot be named are not dropped."""
    with store.transaction() as tx:
        tx.gap(Gap("plc", (3,), T0, T0 + S, GapCause.UNKNOWN_MAP, map_revision=b"x" * 16), HERE)
    assert [(row.path, row.detail) for row in store.reader().gaps()] == [(None, "tags 3 of an unknown map")]


def test_rejects_and_links(store: Store) -> None:
    """A payload lands in quarantine cut to 4096 bytes; a source says whether it is up and how much it brought."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.reject(Reject("mqtt", "a/\x00b", "not JSON", b"\xff" * 5000, T0), HERE)
        tx.link(Link("plc", True), T0)
        tx.records(batch(MAP, [0, 1], [T0, T0], [1, 2]))
        tx.records(batch(MAP, [0], [T0], [1]))
        tx.link(Link("plc", False, "reset"), T0 + S)
    refused = store.reader().quarantine()
    assert [(row.source, row.place, row.raw) for row in refused] == [("mqtt", "a/\ufffdb", b"\xff" * 4096)]
    assert store.reader().quarantine(before=refused[0].quarantine_id) == []
    assert store.reader().sources() == [
        ("mqtt", None, "", None, 0, None, 1, 1, 0),
        ("plc", False, "reset", T0 + S, 2, T0 + 5, 0, 0, 0),
    ]


def test_everything_commits_together_or_not_at_all(store: Store) -> None:
    """An error in the block leaves no trace, in SQL or in the writer's memory; the next bundle is whole."""
    before = dump(store)

    def bundle(*, fail: bool) -> None:
        with store.transaction() as tx:
            tx.use_map(MAP.revision, MAP)
            tx.records(batch(MAP, [0, 1], [T0, T0], [1, 2]))
            tx.gap(Gap("plc", (), T0, None, GapCause.LINK_DOWN), HERE)
            tx.anomaly(anomaly())
            tx.save_stage("normalizer", b"\x00state")
            tx.set_position(HERE)
            if fail:
                raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        bundle(fail=True)
    assert dump(store) == before
    assert (store.position(), store.stage("normalizer")) == (Position(0, 0), None)
    bundle(fail=False)
    assert (store.position(), store.stage("normalizer")) == (HERE, b"\x00state")
    assert store.reader().counts().records == 2


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_same_calls_give_the_same_tables(open_store: Opener, url: str | None, size: int) -> None:
    """Two fresh stores, one transaction against many: every table is equal, row by row, number by number."""
    one = anomaly()
    note = annotation(evidence(one))
    other = plant(6)
    calls: list[Callable[[Transaction], object]] = [
        lambda tx: tx.use_map(MAP.revision, MAP),
        lambda tx: tx.link(Link("plc", True), T0),
        lambda tx: tx.records(batch(MAP, [3, 0], [T0, T0], [1, 0.1])),
        lambda tx: tx.gap(Gap("plc", (1,), T0, None, GapCause.POLL_MISSED, map_revision=MAP.revision), HERE),
        lambda tx: tx.use_map(other.revision, other),
        lambda tx: tx.records(batch(other, [5, 0], [T0, T0 + 1], [1, 0.2], exact={0: "m" * 1_100_000})),
        lambda tx: tx.records(batch(MAP, [0, 0], [T0, T0 - 1], [0.1, 0.3])),
        lambda tx: tx.anomaly(one),
        lambda tx: tx.evidence(evidence(one, tx.next_seq - 1)),
        lambda tx: tx.annotation(note),
        lambda tx: tx.reject(Reject("plc", "a", "b", b"c", T0), HERE),
        lambda tx: tx.gap(Gap("plc", (1,), T0, T0 + 9, GapCause.POLL_MISSED, map_revision=MAP.revision), HERE),
        lambda tx: tx.document(document()),
        lambda tx: tx.save_stage("detection", b"\x01"),
        lambda tx: tx.audit("ada", "x", "y", {}, at_ns=T0),
        lambda tx: tx.set_position(HERE),
    ]

    def run(store: Store, together: int) -> None:
        for start in range(0, len(calls), together):
            with store.transaction() as tx:
                for call in calls[start : start + together]:
                    call(tx)

    # the second one on SQLite: the databases agree as well; only the words of a refusal differ
    first, second = open_store(url, "one"), open_store(None, "two")
    run(first, len(calls))
    run(second, size)
    left, right = dump(first), dump(second)
    for content in (left, right):
        content["quarantine"] = [row[:3] + row[4:] for row in content["quarantine"]]
    assert left == right
    assert len(left["records"]) == 4


def test_figures_cost_no_search(open_store: Opener) -> None:
    """No query of ``counts`` walks through a table that grows with the data; the control is seen."""
    store = open_store()
    asked: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        asked.append(statement)

    sa.event.listen(store._read, "before_cursor_execute", note)
    store.reader().counts()
    sa.event.remove(store._read, "before_cursor_execute", note)
    small = ("counters", "sources")

    def searched(statement: str) -> list[str]:
        plan = store.reader()._ask(
            lambda c: list(c.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (0,) * statement.count("?")))
        )
        return [row[3] for row in plan if row[3].startswith("SCAN") and not row[3].endswith(small)]

    queries = [text for text in asked if text.startswith("SELECT")]
    assert len(queries) >= 6
    assert [searched(text) for text in queries] == [[] for _ in queries]
    assert searched("SELECT count(*) FROM quarantine") != []


def test_transactions_do_not_nest(store: Store) -> None:
    """A nested one would commit half of the outer one."""
    with store.transaction(), pytest.raises(RuntimeError, match="nest"), store.transaction():
        pass


def test_people(store: Store) -> None:
    """Roles and hash are kept, a disabled person stays on the list, and comes back when put again."""
    with store.transaction() as tx:
        tx.put_user("ada", ("engineer", "admin"), "$argon2id$1")
        tx.put_user("bob", ("engineer",), "$argon2id$2")
        tx.disable_user("bob")
    reader = store.reader()
    assert [(user.name, user.roles, user.disabled) for user in reader.users()] == [
        ("ada", ("engineer", "admin"), False),
        ("bob", ("engineer",), True),
    ]
    with store.transaction() as tx:
        tx.put_user("bob", ("auditor",), "$argon2id$3")
    bob = reader.user("bob")
    assert bob is not None
    assert (bob.roles, bob.password_hash, bob.disabled) == (("auditor",), "$argon2id$3", False)
    assert reader.user("eve") is None


def chain(store: Store) -> None:
    """Six audit rows in two transactions."""
    for part in range(2):
        with store.transaction() as tx:
            for i in range(3):
                tx.audit("ada", "annotation_approved", f"n{part}{i}", {"b": 1, "a": "ü"}, at_ns=T0 + i)


def test_an_untouched_audit_chain_holds(store: Store) -> None:
    """The control: nothing was changed and nothing is found; details are canonical JSON."""
    chain(store)
    reader = store.reader()
    assert reader.verify_audit() is None
    rows = reader.audit(limit=2)
    assert [(row.audit_id, row.detail) for row in rows] == [(6, '{"a":"ü","b":1}'), (5, '{"a":"ü","b":1}')]
    assert [row.audit_id for row in reader.audit(before=5)] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE audit_id = 3", 3),
        ("UPDATE audit SET at_ns = at_ns + 1 WHERE audit_id = 6", 6),
        ("DELETE FROM audit WHERE audit_id = 4", 4),
        ("DELETE FROM audit WHERE audit_id = 6", 6),
        ("UPDATE audit SET prev_hash = hash WHERE audit_id = 2", 2),
    ],
)
def test_a_change_of_the_audit_is_found(store: Store, change: str, place: int) -> None:
    """A changed, a missing and a cut-off row are named."""
    chain(store)
    with store._writing() as connection:
        connection.exec_driver_sql(change)
    fault = store.reader().verify_audit()
    assert fault is not None
    assert fault.audit_id == place


def test_document_times_are_ordered_as_numbers() -> None:
    """Any number of digits, and offsets other than Z."""
    assert parse_time("1970-01-01T00:00:01.000000002Z") == S + 2
    assert parse_time("1970-01-01T01:00:01.5+01:00") == S + S // 2
    assert parse_time("1970-01-01T00:00:00Z") == 0
    with pytest.raises(ValueError, match="offset"):
        parse_time("1970-01-01T00:00:00")


def test_reading_only_cannot_write(open_store: Opener, store: Store) -> None:
    """The read connections refuse, whatever is sent."""
    with store._read.connect() as connection, pytest.raises(Exception, match=r"readonly|read-only"):
        connection.exec_driver_sql("DELETE FROM records")
    with pytest.raises(StoreError, match="read"):
        open_store(None, "other").reader()._ask(lambda c: c.exec_driver_sql("DELETE FROM records"))
