"""Roll-ups against a plain computation from the rows, however the stream was cut."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.store import Store
from schemas.records import RecordBatch
from schemas.status import BAD, UNCERTAIN, Flag
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import PUMP, T0, S, batch, dump, plant, rows_of

MAP = plant(3)
MINUTE = 60 * S


def expected(rows: list[tuple[Any, ...]], width: int) -> dict[tuple[int, int], tuple[Any, ...]]:
    """Roll-ups of (seq, tag_id, source_ns, value, status, increase, flags) rows, one by one in order of seq."""
    found: dict[tuple[int, int], list[tuple[int, int, float, int]]] = {}
    counted: dict[tuple[int, int], list[tuple[float | None, int]]] = {}
    for seq, tag, at, value, status, increase, flags in rows:
        found.setdefault((tag, at // width * width), []).append((seq, at, value, status))
        counted.setdefault((tag, at // width * width), []).append((increase, flags))
    result: dict[tuple[int, int], tuple[Any, ...]] = {}
    for key, members in found.items():
        usable = [(at, seq, v) for seq, at, v, status in members if status < BAD and v is not None and math.isfinite(v)]
        total = 0.0
        for _, _, v in usable:
            total += v
        first, last = (min(usable), max(usable)) if usable else ((None,) * 3, (None,) * 3)
        end = max((at, seq) for seq, at, _, _ in members)
        steps = [increase for increase, _ in counted[key] if increase is not None]
        went = 0.0
        for one in steps:
            went += one
        result[key] = (
            len(members),
            sum(status < UNCERTAIN for *_, status in members),
            sum(status >= BAD for *_, status in members),
            len(usable),
            min((v for *_, v in usable), default=None),
            max((v for *_, v in usable), default=None),
            total if math.isfinite(total) else None,
            first[0],
            first[2],
            last[0],
            last[2],
            *end,
            went if steps else None,
            sum(bool(flags & Flag.COUNTER_RESET) for _, flags in counted[key]),
            sum(bool(flags & Flag.COUNTER_UNCERTAIN) for _, flags in counted[key]),
        )
    return result


def check(store: Store) -> None:
    """Both levels hold what the stored rows say, bit for bit."""
    rows = rows_of(store, "SELECT seq, tag_id, source_ts, value, status, increase, flags FROM records ORDER BY seq")
    for table, width in (("rollup_1m", MINUTE), ("rollup_1h", 60 * MINUTE)):
        names = "n, n_good, n_bad, n_value, min, max, sum, first_ns, first, last_ns, last, end_ns, end_seq"
        names += ", increase, counter_resets, counter_uncertain"
        stored = {row[:2]: row[2:] for row in rows_of(store, f"SELECT tag_id, bucket_ns, {names} FROM {table}")}
        assert stored == expected(rows, width)


def stream(seed: int, batches: int, size: int) -> list[RecordBatch]:
    """
    Batches with late rows, redeliveries, bad and uncertain quality, NaN, infinities and equal times.

    Tag 1 is a counter; every third batch has none of its rows.
    """
    rng = np.random.default_rng(seed)
    made: list[RecordBatch] = []
    for i in range(batches):
        at = T0 + (i * 20 + rng.integers(-200, 60, size)) * S
        value = rng.normal(0, 1e3, size)
        value[rng.random(size) < 0.05] = np.nan
        value[rng.random(size) < 0.05] = np.inf
        value[rng.random(size) < 0.1] = -0.0
        status = rng.choice([0, 0, 0, UNCERTAIN, BAD], size)
        tag = rng.choice([0, 2] if i % 3 == 2 else [0, 1, 2], size)
        told = (tag == 1) & (rng.random(size) < 0.8)
        flags = np.where(tag == 1, rng.choice([0, Flag.COUNTER_RESET, Flag.COUNTER_UNCERTAIN], size), 0)
        more: dict[str, Any] = {"status": status.tolist(), "flags": flags.tolist()}
        if i % 3 != 2:
            more["increase"] = np.where(told, rng.random(size), np.nan).tolist()
        made.append(batch(MAP, tag.tolist(), at.tolist(), value.tolist(), **more))
        if i % 4 == 3:
            made.append(made[-2])
    return made


def feed(
    store: Store,
    batches: list[RecordBatch],
    cuts: set[int],
    restarts: AbstractSet[int] = frozenset(),
    later: AbstractSet[int] = frozenset(),
) -> None:
    """
    Store the batches; a transaction ends before each index in *cuts*, memory is lost before those in *restarts*.

    Roll-ups wait behind the transactions in *later*.
    """
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
    groups: list[list[RecordBatch]] = [[]]
    for place, one in enumerate(batches):
        if place in cuts:
            groups.append([])
        groups[-1].append(one)
    for place, group in enumerate(groups):
        if place in restarts:
            store._memory = None
        with store.transaction(later=place in later) as tx:
            for one in group:
                tx.records(one)
    with store.transaction() as tx:
        tx.roll_up(everything=True)


def test_rollups_equal_a_plain_computation(store: Store) -> None:
    """Counts, extremes, sum, first, last and newest row, with late rows and restarts between."""
    feed(store, stream(1, 12, 80), set(range(12)), {3, 7})
    check(store)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**20),
    cuts=st.sets(st.integers(1, 9)),
    restarts=st.sets(st.integers(0, 9)),
    later=st.sets(st.integers(0, 9)),
)
def test_the_cut_into_transactions_does_not_show(
    open_store: Opener,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    cuts: set[int],
    restarts: set[int],
    later: set[int],
) -> None:
    """Any cut, loss of the writer's memory and delay of the roll-ups gives the same database, sums to the last bit."""
    batches = stream(seed, 8, 30)
    name = tmp_path_factory.mktemp("stores").name
    one, other = open_store(None, f"{name}/a"), open_store(None, f"{name}/b")
    feed(one, batches, set())
    feed(other, batches, cuts, restarts, later)
    assert dump(one) == dump(other)
    check(other)
    one.close()
    other.close()


def test_control_a_pairwise_sum_would_show() -> None:
    """The sums are such that another order of addition gives other bits."""
    values = np.concatenate([one.value[np.isfinite(one.value)] for one in stream(1, 12, 80)])
    plain = 0.0
    for value in values.tolist():
        plain += value
    assert plain != math.fsum(values)


def test_both_databases_hold_the_same(open_store: Opener, request: pytest.FixtureRequest) -> None:
    """Dumps of SQLite and PostgreSQL after the same stream are equal."""
    batches = stream(5, 10, 60)
    one, other = open_store(None, "a"), open_store(request.getfixturevalue("new_database")(), "b")
    feed(one, batches, {2, 5})
    feed(other, batches, {1, 2, 3, 8}, {2})
    assert dump(one) == dump(other)


@pytest.mark.parametrize("few", [1, 500])
def test_buckets_that_waited_are_made_again_after_a_crash(
    store: Store, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Ticks that write one bucket or many, memory lost after each: every row is counted once, and only once."""
    monkeypatch.setattr("broker.store.memory._PAGE", 7)
    monkeypatch.setattr("broker.store.levels.FEWEST", few)
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
    for place, one in enumerate(stream(3, 24, 40)):
        with store.transaction(later=True) as tx:
            tx.records(one)
            if place % 3:
                tx.roll_up()
        if place % 5 == 4:
            store._memory = None
    waiting = rows_of(
        store,
        "SELECT r.value < s.value FROM counters r, counters s WHERE r.name = 'rolled_seq' AND s.name = 'record_seq'",
    )
    assert waiting == [(int(few == 1),)]
    with store.transaction() as tx:
        tx.roll_up(everything=True)
    check(store)


def test_control_forgotten_rows_would_show(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that does not look for rows beyond the roll-ups leaves them out."""
    with store.transaction(later=True) as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(stream(3, 1, 40)[0])
    store._memory = None
    monkeypatch.setattr("broker.store.memory.Memory._count_again", lambda _memory, _connection: None)
    with store.transaction() as tx:
        tx.records(batch(MAP, [0], [T0], [1.0]))
    with pytest.raises(AssertionError):
        check(store)


def test_control_rows_counted_twice_would_show(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that does not know up to which row it counts takes rows a second time after a crash."""
    monkeypatch.setattr("broker.store.levels.FEWEST", 1)
    with store.transaction(later=True) as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(stream(3, 1, 40)[0])
        tx.roll_up()
    with store.transaction() as tx:
        tx._connection.exec_driver_sql("UPDATE rollup_1m SET counted_seq = 0")
    store._memory = None
    with store.transaction() as tx:
        tx.roll_up(everything=True)
    with pytest.raises(AssertionError):
        check(store)


def test_a_tick_writes_the_buckets_that_waited_longest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bucket after bucket is written, tick by tick; each tag's newest row is named at once."""
    monkeypatch.setattr("broker.store.levels.FEWEST", 1)
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
    written = []
    for tick in range(4):
        with store.transaction(later=True) as tx:
            if tick == 0:
                tx.records(batch(MAP, [2, 0, 1], [T0, T0 + 1, T0 + 2], [1.0, 2.0, 3.0]))
            if tick == 1:
                tx.records(batch(MAP, [0, 1], [T0 + S, T0 + S], [4.0, 5.0]))
            tx.roll_up()
        written.append(len(rows_of(store, "SELECT tag_id FROM rollup_1m")))
        named = rows_of(store, "SELECT seq FROM v_current ORDER BY path")
        assert named == ([(2,), (3,), (1,)] if tick == 0 else [(4,), (5,), (1,)])
    assert written == [1, 2, 3, 3]
    check(store)


def test_retention_leaves_what_has_to_be_counted(store: Store) -> None:
    """Rows beyond what SQL holds of the roll-ups stay, however old their time of arrival is."""
    old = T0 - 400 * 86_400 * S
    with store.transaction(later=True) as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0], [T0], [1.0], received_ns=old))
    for _ in range(3):
        store.maintain(T0)
    assert rows_of(store, "SELECT count(*) FROM records") == [(1,)]
    with store.transaction() as tx:
        tx.roll_up(everything=True)
    store._trimmed = set()
    store.maintain(T0)
    assert rows_of(store, "SELECT count(*) FROM records") == [(0,)]
    assert rows_of(store, "SELECT n FROM rollup_1h") == [(1,)]


def test_trend_takes_records_for_an_hour_and_rollups_beyond(store: Store) -> None:
    """Every resolution gives the same extremes; bad rows are counted and carry no number; gaps come along."""
    n = 3 * 3600
    at = [T0 + i * S for i in range(n)]
    value = [math.sin(i / 100) for i in range(n)]
    status = [BAD if i == 50 else UNCERTAIN if i == 51 else 0 for i in range(n)]
    value[50] = 1e9
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        for i in range(0, n, 2000):
            part = slice(i, i + 2000)
            tx.records(batch(MAP, [0] * len(at[part]), at[part], value[part], status=status[part]))
    reader = store.reader()
    path = f"{PUMP}/Tag0"
    raw = reader.trend(path, T0, T0 + 3600 * S, 60)
    assert raw is not None
    assert (raw.resolution, raw.unit, raw.bucket_ns) == ("raw", "Cel", MINUTE)
    assert sum(point.n for point in raw.points) == 3600
    bad = next(point for point in raw.points if point.n_bad)
    assert (bad.n_bad, bad.n - bad.n_good) == (1, 2)
    assert max(point.max or 0 for point in raw.points) == max(v for i, v in enumerate(value[:3600]) if i != 50)
    first = raw.points[0]
    assert (first.first, first.first_ns) == (value[0], at[0])
    assert first.last_ns == first.at_ns + MINUTE - S
    assert first.last == value[59]
    longer = reader.trend(path, T0, T0 + 3 * 3600 * S, 180)
    assert longer is not None
    assert longer.resolution == "1m"
    assert {point.at_ns: point for point in longer.points}.items() >= {p.at_ns: p for p in raw.points}.items()
    coarse = reader.trend(path, T0, T0 + 3 * 3600 * S, 3)
    assert coarse is not None
    assert coarse.resolution == "1h"
    assert sum(point.n for point in coarse.points) == n
    assert coarse.points[0].first == value[0]
    assert coarse.points[-1].last == value[-1]
    assert reader.trend("no/such/path", T0, T0 + S, 5) is None


@pytest.mark.parametrize("restarts", [set(), {2}])
def test_rows_that_confirm_count_in_no_bucket(store: Store, restarts: set[int]) -> None:
    """They are stored, and neither measured values nor a tag's newest row; over a restart, too."""
    measured = batch(MAP, [0, 0], [T0, T0 + S], [1.0, 3.0])
    word = batch(MAP, [0], [T0 + 30 * S], [3.0], flags=[Flag.NO_CHANGE_CONFIRMED | Flag.ARRIVAL_TIME])
    kept = batch(MAP, [1], [T0 + 30 * S], [5.0], flags=[Flag.NO_CHANGE_CONFIRMED | Flag.CORNER])
    feed(store, [measured, word, kept], {1, 2}, restarts, {0, 1})
    assert rows_of(store, "SELECT count(*) FROM records") == [(4,)]
    assert rows_of(store, "SELECT tag_id, n, sum, last FROM rollup_1m ORDER BY tag_id") == [
        (1, 2, 4.0, 3.0),
        (2, 1, 5.0, 5.0),
    ]
    assert rows_of(store, "SELECT tag_id, source_ts FROM newest ORDER BY tag_id") == [(1, T0 + S), (2, T0 + 30 * S)]
    reader, path = store.reader(), MAP.tags[0].path
    for since_ns, n in ((T0, 2), (T0 + S, 1)):  # from the roll-up, and from the records
        found = reader.summary(path, since_ns, T0 + MINUTE)
        assert (found is not None and found.n, found is not None and found.mean) == (n, 2.0 if n == 2 else 3.0)
    drawn = reader.trend(path, T0, T0 + MINUTE, 1)
    assert drawn is not None
    assert [point.n for point in drawn.points] == [2]
