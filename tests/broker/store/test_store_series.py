"""One tag over one window: the aggregates and begins that reading every record would give, on both databases."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from broker.store import Store
from broker.store.reader.series import Threshold, pieces
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
