"""Records under a revision: they win in the views, the roll-ups count what is valid, live rows go on joining."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from broker.store import Store
from broker.store.rollups import HOUR_NS, MINUTE_NS
from schemas.status import Flag
from tests.broker.store.plant import T0, S, batch, plant, rows_of

Opener = Callable[..., Store]
MAP = plant()
BAD = 0x80000000


def store_rows(store: Store, *batches: Any, revision: int = 0) -> None:
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        if revision:
            tx.begin_replay("a", "", sources=(), span_ns=(0, 1), tag_map=MAP)
        for one in batches:
            tx.records(one, revision=revision)


def rebuild(store: Store) -> int:
    """Steps until nothing is noted, each in a transaction; how many buckets were left as they are."""
    left = 0
    while True:
        with store.transaction() as tx:
            more, unmade = tx.rebuild(budget_s=0.0)
        left += unmade
        if not more:
            return left


def put(store: Store, *batches: Any, revision: int = 0) -> None:
    store_rows(store, *batches, revision=revision)
    assert rebuild(store) == 0


def rollups(store: Store, table: str) -> list[tuple[Any, ...]]:
    """What the view shows, but the sum, whose last bits depend on the order."""
    columns = "tag, bucket_ns, n, n_good, n_bad, n_value, min, max, mean, first_ns, first, last_ns, last"
    found = rows_of(store, f"SELECT {columns} FROM {table} ORDER BY tag, bucket_ns")
    return [(*row[:8], None if row[8] is None else round(row[8], 9), *row[9:]) for row in found]


def expected(store: Store, width_ns: int) -> list[tuple[Any, ...]]:
    """The same from ``v_records``, row by row."""
    groups: dict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
    query = "SELECT tag, source_ns, value, quality, seq FROM v_records ORDER BY source_ns, seq"
    for tag, source_ns, value, quality, _ in rows_of(store, query):
        groups[tag, source_ns // width_ns * width_ns].append((source_ns, value, quality))
    made = []
    for (tag, bucket), rows in sorted(groups.items()):
        usable = [(at, v) for at, v, quality in rows if v is not None and quality != "bad" and np.isfinite(v)]
        numbers = [v for _, v in usable]
        figures: tuple[Any, ...] = (None,) * 7
        if usable:
            first, last = min(usable, key=lambda row: row[0]), max(usable, key=lambda row: row[0])
            mean = round(float(np.mean(numbers)), 9)
            figures = (min(numbers), max(numbers), mean, first[0], first[1], last[0], last[1])
        good = sum(quality == "good" for _, _, quality in rows)
        bad = sum(quality == "bad" for _, _, quality in rows)
        made.append((tag, bucket, len(rows), good, bad, len(usable), *figures))
    return made


def check(store: Store) -> None:
    assert rollups(store, "v_rollup_1m") == expected(store, MINUTE_NS)
    assert rollups(store, "v_rollup_1h") == expected(store, HOUR_NS)


def times(first: int, count: int, step_s: int = 7) -> list[int]:
    return [T0 + (first + i * step_s) * S for i in range(count)]


def test_rollups_count_what_the_view_shows(store: Store) -> None:
    """A correction of a part of the minutes and tags, across an hour, with bad values and equal times."""
    at = times(3300, 120)
    value = [float(i) for i in range(120)]
    status = [BAD if i % 11 == 0 else 0 for i in range(120)]
    put(store, batch(MAP, [0] * 120, at, value, status=status), batch(MAP, [1] * 120, at, value))
    put(store, batch(MAP, [0, 0], [at[5], at[5]], [1e3, 2e3]))
    check(store)

    put(store, batch(MAP, [0] * 60, at[30:90], [v * 10 for v in value[30:90]], status=status[30:90]), revision=1)

    check(store)
    assert rows_of(store, "SELECT count(*) FROM v_record_history") == [(302,)]
    assert rows_of(store, "SELECT count(*) FROM v_records") == [(242,)]
    put(store, batch(MAP, [0] * 3, at[40:43], [7.0, 8.0, 9.0]), revision=2)
    check(store)


def test_live_rows_go_on_joining_a_corrected_bucket(store: Store) -> None:
    """The bucket that is still filling is corrected, and the next live rows are counted into it, once."""
    at = times(0, 6)
    put(store, batch(MAP, [0] * 3, at[:3], [1.0, 2.0, 3.0]))
    put(store, batch(MAP, [0] * 3, at[:3], [10.0, 20.0, 30.0]), revision=1)
    put(store, batch(MAP, [0] * 3, at[3:], [40.0, 50.0, 60.0]))
    check(store)
    assert rows_of(store, "SELECT n, min, max FROM v_rollup_1h") == [(6, 10.0, 60.0)]
    assert [row.record.value for row in store.reader().current()] == [60.0]


def test_control_buckets_of_their_own_would_hide_live_rows(store: Store) -> None:
    """The negative control: what a bucket under the replay's own revision would show."""
    at = times(0, 6)
    put(store, batch(MAP, [0] * 6, at, [1.0] * 6))
    with store.transaction() as tx:
        for level in tx._memory.rollups:
            state = level._now.bucket[level._now.known].copy()
            state["revision"], state["n"] = 1, 3
            level.put(tx._connection, state)
    with pytest.raises(AssertionError):
        check(store)


def test_steps_are_small_and_outlive_a_kill(open_store: Opener, url: str | None) -> None:
    """
    A correction over four hours: each step makes one minute, or an hour of it, and a new process goes on where the
    old one died. Live rows come in between and are counted once.
    """
    store = open_store(url)
    at = times(0, 240, step_s=60)
    store_rows(store, batch(MAP, [0] * 240, at, [1.0] * 240), batch(MAP, [1] * 240, at, [1.0] * 240))
    store_rows(store, batch(MAP, [0] * 240, at, [10.0] * 240), batch(MAP, [1] * 240, at, [10.0] * 240), revision=1)
    with pytest.raises(AssertionError):  # the control: nothing is made in the transaction of the rows
        check(store)
    wrong = []
    for turn in range(100):
        if turn == 60:
            store_rows(store, batch(MAP, [0], [at[-1] + S], [4.0]), batch(MAP, [1], [at[70] + S], [5.0]))
        with store.transaction() as tx:
            assert tx.rebuild(budget_s=0.0) == (True, 0)
        wrong.append(240 - rows_of(store, "SELECT count(*) FROM rollup_1m WHERE max >= 10 AND tag_id = 1")[0][0])
    assert set(-np.diff(wrong)) <= {0, 1}
    assert wrong[-1] >= 140
    store.close()

    again = open_store(url)
    assert rebuild(again) == 0
    check(again)
    assert not again.has_stale_rollups
    assert rows_of(again, "SELECT count(*) FROM stale_buckets") == [(0,)]


def test_a_step_reads_no_more_than_it_may(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tags of one minute are made in turns; of one tag all rows are read, however many there are."""
    monkeypatch.setattr("broker.store.rebuild.MOST_ROWS", 100)
    at = times(0, 50, step_s=1)
    tags = [batch(MAP, [tag] * 50, at, [float(tag)] * 50) for tag in range(3)]
    more = batch(MAP, [3] * 250, [T0 + i * S // 5 for i in range(250)], [1.0] * 250)
    store_rows(store, *tags, more)
    corrected = [batch(MAP, [tag] * 50, at, [tag + 1.0] * 50) for tag in range(3)]
    store_rows(store, *corrected, batch(MAP, [3], [T0], [9.0]), revision=1)
    steps = []
    while not steps or steps[-1]:
        with store.transaction() as tx:
            tx.rebuild(hours=False, budget_s=0.0)
        steps.append(rows_of(store, "SELECT count(*) FROM stale_buckets WHERE level = 0")[0][0])
    assert steps == [3, 2, 1, 0]
    assert rebuild(store) == 0
    check(store)


def test_live_rows_behind_a_replay_are_hidden_everywhere(store: Store) -> None:
    """What is delivered again with another value is kept in the history, and counted nowhere; nor after a restart."""
    at = times(0, 6)
    put(store, batch(MAP, [0] * 3, at[:3], [1.0, 2.0, 3.0]))
    put(store, batch(MAP, [0] * 3, at[:3], [10.0, 20.0, 30.0]), revision=1)
    store_rows(store, batch(MAP, [0] * 4, at[:4], [11.0, 21.0, 31.0, 41.0]))
    check(store)
    assert [row.record.value for row in store.reader().current()] == [41.0]
    with store.transaction(later=True) as tx:
        tx.records(batch(MAP, [0] * 3, [*at[1:3], at[4]], [12.0, 22.0, 42.0]))
    store._memory = None  # the process ends before the roll-ups are written
    put(store, batch(MAP, [1], at[:1], [1.0]))
    check(store)
    assert rows_of(store, "SELECT count(*) FROM v_record_history") == [(14,)]


def test_the_corrected_row_is_current_at_once(store: Store) -> None:
    """Also while the roll-ups have still to be made, and where the live row is not counted yet."""
    at = times(0, 3)
    with store.transaction(later=True) as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0] * 3, at, [1.0, 2.0, 3.0]))
    store_rows(store, batch(MAP, [0] * 3, at, [10.0, 20.0, 30.0]), revision=1)
    assert [row.record.value for row in store.reader().current()] == [30.0]
    assert rows_of(store, "SELECT value FROM v_current") == [(30.0,)]
    with store.transaction() as tx:
        tx.roll_up(everything=True)
    assert [row.record.value for row in store.reader().current()] == [30.0]
    assert rebuild(store) == 0
    check(store)


DAY = 86_400 * S


def test_buckets_whose_rows_are_gone_stay_as_they_are(open_store: Opener, url: str | None) -> None:
    """A minute that lost rows to retention, and an hour that lost its minutes, would shrink: left, and counted."""
    store = open_store(url, keep={"records": "2d", "rollups_1m": "6d"})
    late, old = T0 + 4 * DAY, T0 - 10 * DAY
    # of the first minute two rows came days before the third; that of tag 1 is whole; that of tag 2 is of long ago
    store_rows(store, batch(MAP, [0] * 2, [T0, T0 + 3 * S], [1.0, 2.0], received_ns=T0 + 5))
    store_rows(store, batch(MAP, [0, 1, 1, 2], [T0 + 6 * S, T0, T0 + S, old], [3.0, 5.0, 6.0, 7.0], received_ns=late))
    store.maintain(late)
    assert rows_of(store, "SELECT count(*) FROM v_records") == [(4,)]
    assert rows_of(store, "SELECT count(*) FROM v_rollup_1m") == [(2,)]

    right = batch(MAP, [0, 1, 1, 2], [T0 + 6 * S, T0, T0 + S, old], [30.0, 50.0, 60.0, 70.0], received_ns=late)
    store_rows(store, right, revision=1)

    assert rebuild(store) == 2
    hours = rows_of(store, "SELECT tag, n, max FROM v_rollup_1h ORDER BY tag")
    assert hours == [("t0", 3, 3.0), ("t1", 2, 60.0), ("t2", 1, 7.0)]
    assert rows_of(store, "SELECT tag, n, max FROM v_rollup_1m ORDER BY tag") == hours[:2]


def test_a_held_back_row_that_replaces_one_is_stored(store: Store) -> None:
    """With another deadband the corrected row would be held back; the wrong one must not go on being shown."""
    at = times(0, 4)
    put(store, batch(MAP, [0, 0, 0], [at[0], at[1], at[3]], [1.0, 2.0, 4.0]))
    held = [0, int(Flag.DEADBAND), int(Flag.DEADBAND), 0]
    put(store, batch(MAP, [0] * 4, at, [10.0, 20.0, 30.0, 40.0], flags=held), revision=1)

    shown = rows_of(store, "SELECT source_ns, value, revision FROM v_records ORDER BY source_ns")
    assert shown == [(at[0], 10.0, 1), (at[1], 20.0, 1), (at[3], 40.0, 1)]
    assert rows_of(store, "SELECT count(*) FROM records WHERE flags & 4096 <> 0") == [(0,)]
    check(store)


def test_the_ledger_of_replays(store: Store) -> None:
    """Revisions rise, progress is kept, and what a dead process left running is interrupted by the next."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        first = tx.begin_replay("a", "wrong factor", sources=("plc",), span_ns=(1, 9), tag_map=MAP)
        tx.note_replay(first, at_ns=5, entries=3, rows=2)
    with store.transaction() as tx:
        second = tx.begin_replay("b", "", sources=(), span_ns=(2, 4), tag_map=MAP)
        tx.end_replay(second, "done", "4 rows")
    assert (first, second) == (1, 2)
    rows = store.reader().replays()
    assert [(row.revision, row.state, row.rows, row.sources) for row in rows] == [
        (2, "done", 0, ()),
        (1, "interrupted", 2, ("plc",)),
    ]
    assert store.reader().replay_maps(8, 20) == [MAP.body]
    assert store.reader().replay_maps(9, 20) == []
    assert rows_of(store, "SELECT revision, state, records FROM v_replays ORDER BY revision") == [
        (1, "interrupted", 2),
        (2, "done", 0),
    ]
