"""One tag over one window: the aggregates and begins that reading every record would give, on both databases."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from broker.store import Store, retention
from broker.store.reader import begins, waiting
from broker.store.reader.begins import Threshold
from broker.store.reader.pieces import pieces
from broker.store.rollups import HOUR_NS, MINUTE_NS
from tests.broker.store.plant import PUMP, T0, S, batch, plant

MAP = plant(2)
PATH = f"{PUMP}/Tag0"
#: Three hours, one row in ten seconds, some bad and one without a number.
N = 1080
BAD = 0x80000000


@pytest.fixture
def rows(store: Store) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Times, values (NaN without a number) and status of what is stored."""
    rng = np.random.default_rng(11)
    at = [T0 + i * 10 * S for i in range(N)]
    value = np.round(np.sin(np.arange(N) / 40) * 20 + rng.normal(0, 4, N), 1)
    status = np.where(rng.random(N) < 0.05, BAD, 0)
    value[7] = np.nan
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0] * N, at, value.tolist(), status=status.tolist()))
        tx.records(batch(MAP, [1] * N, at, [500.0] * N))
    with store.transaction() as tx:  # a replay that corrected the highest value
        top = int(np.nanargmax(np.where(status < BAD, value, np.nan)))
        value[top] = 1.5
        tx.records(batch(MAP, [0], [at[top]], [1.5]), revision=1)
        assert not tx.rebuild(budget_s=60.0).more
    return at, value, status


WINDOWS = [
    (0, 3 * HOUR_NS),
    (17 * S, 2 * HOUR_NS + 31 * S),
    (HOUR_NS - 1, HOUR_NS + 90 * S),
    (5 * MINUTE_NS, 5 * MINUTE_NS + 10 * S),
    (-HOUR_NS, 0),
]


@pytest.mark.parametrize("window", WINDOWS)
def test_summary_is_that_of_all_records(
    store: Store, rows: tuple[list[int], np.ndarray, np.ndarray], window: tuple[int, int]
) -> None:
    """Count, extremes, mean and the records of the extremes are those of the rows themselves."""
    at, value, status = rows
    low, high = T0 + window[0], T0 + window[1]
    inside = np.array([low <= t < high for t in at])
    usable = inside & (status < BAD) & np.isfinite(value)
    found = store.reader().summary(PATH, low, high)

    assert found is not None
    assert (found.n, found.n_value) == (int(inside.sum()), int(usable.sum()))
    assert found.n_bad == int((inside & (status >= BAD)).sum())
    if not usable.any():
        assert (found.min, found.max, found.mean, found.at_min, found.at_max) == (None,) * 5
        return
    assert (found.min, found.max) == (value[usable].min(), value[usable].max())
    assert found.mean == pytest.approx(value[usable].mean())
    assert found.at_max is not None
    assert found.at_min is not None
    assert found.at_max.source_ns == at[int(np.flatnonzero(usable & (value == found.max))[0])]
    assert found.at_min.source_ns == at[int(np.flatnonzero(usable & (value == found.min))[0])]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("test", [Threshold("above", 10.0), Threshold("below", -15.0), Threshold("equals", 1.5)])
def test_begins_are_those_of_all_records(
    store: Store, rows: tuple[list[int], np.ndarray, np.ndarray], window: tuple[int, int], test: Threshold
) -> None:
    """Each crossing into the condition is found once, whether the roll-ups or the records say it."""
    at, value, status = rows
    low, high = T0 + window[0], T0 + window[1]
    expected, state = [], False
    for t, number, code in zip(at, value, status, strict=True):
        usable = code < BAD and np.isfinite(number)
        if t < low:  # the newest record before the window, good or bad
            state = bool(usable and test.holds(float(number)))
        elif t < high and usable:
            if test.holds(float(number)) and not state:
                expected.append(t)
            state = test.holds(float(number))
    found = store.reader().begins(PATH, low, high, test, most=1000, raw_minutes=1000)

    assert found is not None
    assert found.complete
    assert [row.source_ns for row in found.records] == expected


def test_begins_stop_at_the_limits(store: Store, rows: tuple[list[int], np.ndarray, np.ndarray]) -> None:
    """A limit of begins or of minutes leaves a part that is told, not a wrong count."""
    for most, minutes in ((1, 1000), (1000, 3)):
        found = store.reader().begins(
            PATH, T0, T0 + 3 * HOUR_NS, Threshold("above", 10.0), most=most, raw_minutes=minutes
        )
        assert found is not None
        assert not found.complete
        assert T0 < found.until_ns < T0 + 3 * HOUR_NS
        assert all(row.source_ns < found.until_ns for row in found.records)


def test_begins_end_within_a_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of many pages of rows is read whole, and left where the begins are enough or the time is up."""
    monkeypatch.setattr(begins, "PAGE", 7)
    n = 100
    at = [T0 + i // 2 * S for i in range(n)]  # two rows of each time, so that pages end between them
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0] * n, at, [float(i % 2 * 100 + i / 1000) for i in range(n)]))
    above = Threshold("above", 50.0)
    reader = store.reader()

    found = reader.begins(PATH, T0, T0 + MINUTE_NS, above, most=1000, raw_minutes=9)
    assert found is not None
    assert (found.complete, len(found.records)) == (True, n // 2)
    found = reader.begins(PATH, T0, T0 + MINUTE_NS, above, most=3, raw_minutes=9)
    assert found is not None
    assert (found.complete, len(found.records), found.until_ns) == (False, 3, found.records[-1].source_ns + 1)

    turns = iter([True, True, False])
    with store._read.connect() as connection:
        found = begins.begins(
            connection, PATH, T0, T0 + MINUTE_NS, above, most=99, raw_minutes=9, in_time=lambda: next(turns)
        )
    assert found is not None
    assert (found.complete, found.removed, len(found.records)) == (False, False, 7)
    assert T0 < found.until_ns < T0 + MINUTE_NS


@pytest.fixture
def removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, int]:
    """A store that has lost the records of the day before a midnight, and that midnight; 100 above 50, then 0."""
    monkeypatch.setattr(retention, "STEP_NS", 1000 * retention.DAY_NS)
    midnight = T0 // retention.DAY_NS * retention.DAY_NS + retention.DAY_NS
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        for start in (midnight - HOUR_NS, midnight):
            at = [start + i * 10 * S for i in range(360)]
            value = [100.0 if i % 180 >= 90 else 0.0 for i in range(360)]
            tx.records(batch(MAP, [0] * 360, at, value, received_ns=start + HOUR_NS // 2))
    store.maintain(midnight + 90 * retention.DAY_NS, budget_s=60.0)
    assert store.reader().span() == (361, 720)
    return store, midnight


def test_a_summary_counts_what_only_roll_ups_have_left(removed: tuple[Store, int]) -> None:
    """Whole minutes are all in it, the last one too. A part of a minute without its records is told as missing."""
    store, midnight = removed
    reader = store.reader()
    for low, high in ((-HOUR_NS, 0), (-HOUR_NS, HOUR_NS), (-5 * MINUTE_NS, -3 * MINUTE_NS), (0, HOUR_NS)):
        found = reader.summary(PATH, midnight + low, midnight + high)
        assert found is not None
        assert (found.complete, found.n) == (True, (high - low) // (10 * S))
        assert found.max == 100.0
    for low, high in ((-HOUR_NS + S, HOUR_NS), (-HOUR_NS, -30 * S), (-30 * S, 5 * S)):
        found = reader.summary(PATH, midnight + low, midnight + high)
        assert found is not None
        assert not found.complete

    store.maintain(midnight + 400 * retention.DAY_NS, budget_s=60.0)
    found = reader.summary(PATH, midnight - HOUR_NS + MINUTE_NS, midnight + HOUR_NS)
    assert found is not None
    assert not found.complete
    found = reader.summary(PATH, midnight - HOUR_NS, midnight + HOUR_NS)
    assert found is not None
    assert (found.complete, found.n) == (True, 720)


def test_begins_without_their_records_are_told(removed: tuple[Store, int]) -> None:
    """What the minutes say is used; where only removed records could say, the answer ends and says so."""
    store, midnight = removed
    above, below = Threshold("above", 50.0), Threshold("below", 50.0)

    def begun(test: Threshold, low: int, high: int) -> tuple[int, bool, bool, bool, int]:
        found = store.reader().begins(PATH, midnight + low, midnight + high, test, most=99, raw_minutes=99)
        assert found is not None
        return len(found.records), found.held_before, found.complete, found.removed, found.until_ns - midnight

    quarter = 15 * MINUTE_NS
    assert begun(above, -HOUR_NS, HOUR_NS) == (0, False, False, True, -HOUR_NS + quarter)
    assert begun(above, 0, HOUR_NS) == (2, True, True, False, HOUR_NS)
    assert begun(below, 0, HOUR_NS) == (2, False, True, False, HOUR_NS)
    assert begun(below, -quarter + MINUTE_NS, -MINUTE_NS) == (0, False, True, False, -MINUTE_NS)
    assert begun(above, -quarter + MINUTE_NS + S, -MINUTE_NS)[2:4] == (False, True)


def test_what_the_writer_still_counts_is_read_from_the_records(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that no roll-up in SQL counts yet are in every answer. Of too many minutes of them the answer says so."""
    late = T0 + 75 * MINUTE_NS
    at = [t for i in range(3 * 190) if not late <= (t := T0 + i * 20 * S) < late + MINUTE_NS]

    def ask() -> tuple[bool, int, float | None, int]:
        found = store.reader().summary(PATH, T0, T0 + 3 * HOUR_NS)
        begun = store.reader().begins(PATH, T0, T0 + 3 * HOUR_NS, Threshold("above", 50.0), most=9, raw_minutes=9)
        assert found is not None
        assert begun is not None
        assert begun.complete == found.complete
        return found.complete, found.n, found.max, len(begun.records)

    with store.transaction(later=True) as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0] * len(at), at, [1.0] * len(at)))
        tx.roll_up(everything=True)
    with store.transaction(later=True) as tx:
        tx.records(batch(MAP, [0], [late], [100.0]))
    assert ask() == (True, 538, 100.0, 1)
    row = store.reader().last_before(PATH, late + 1)
    assert row is not None
    assert row.source_ns == late
    monkeypatch.setattr(waiting, "MOST", 0)
    assert ask() == (False, 537, 1.0, 0)


def test_the_last_record_needs_no_roll_up(store: Store) -> None:
    """Of a tag whose minutes are all in the writer's memory, too."""
    with store.transaction(later=True) as tx:
        tx.use_map(MAP.revision, MAP)
        tx.records(batch(MAP, [0, 0], [T0, T0 + 90 * S], [1.0, 2.0]))
    reader = store.reader()
    found = [reader.last_before(PATH, T0 + n * S) for n in (0, 60, 91)]
    assert [None if row is None else row.value for row in found] == [None, 1.0, 2.0]


def test_unknown_path(store: Store, rows: object) -> None:
    """A path that no map had is None."""
    assert store.reader().summary("a/b", T0, T0 + S) is None
    assert store.reader().begins("a/b", T0, T0 + S, Threshold("above", 1), most=1, raw_minutes=1) is None


@pytest.mark.parametrize(
    "window", [(0, 1), (1, 3 * MINUTE_NS), (59, 5 * HOUR_NS + 7), (HOUR_NS, 2 * HOUR_NS), (1, 26 * HOUR_NS)]
)
def test_pieces_cover_a_window_once(window: tuple[int, int]) -> None:
    """No hole, no overlap, the last two minutes from the records."""
    found = pieces(*window)
    assert found[0].from_ns == window[0]
    assert found[-1].to_ns == window[1]
    assert found[-1].level == "raw"
    assert all(a.to_ns == b.from_ns for a, b in pairwise(found))
