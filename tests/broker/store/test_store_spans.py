"""Windows of many tags in one pass: the same rows as one by one, and a bounded number where there are too many."""

from __future__ import annotations

import numpy as np
import pytest

from broker.store import Store
from broker.store.reader import values
from broker.store.reader.spans import Spans
from tests.broker.store.plant import PUMP, T0, S, batch, plant

MAP = plant(4)
PATHS = [f"{PUMP}/Tag{i}" for i in range(3)]
ROWS = 4000


def fill(store: Store) -> None:
    """A thousand times of four tags, 10 ms apart, with a late row and one that a replay corrected."""
    with store.transaction() as tx:
        tx.use_map(MAP.revision, MAP)
        at = (T0 + np.arange(ROWS) // 4 * (S // 100)).tolist()
        tx.records(batch(MAP, [i % 4 for i in range(ROWS)], at, np.arange(ROWS, dtype=float).tolist()))
        tx.records(batch(MAP, [0], [T0 + 5], [7.5]))
    with store.transaction() as tx:
        tx.records(batch(MAP, [1], [T0], [99.0]), revision=1)


def test_one_pass_has_the_rows_of_single_windows(store: Store) -> None:
    """Every tag and part of the span, cut to the latest rows, and up to a record in the middle."""
    fill(store)
    with store.transaction() as tx:
        for upto in (ROWS // 2, tx.next_seq - 1):
            spans = Spans(tx._connection, PATHS, T0, T0 + 2 * S, T0 + 9 * S, upto)
            assert not spans.thinned
            for path in PATHS:
                for low, high, limit in ((T0, T0 + 9 * S, 5000), (T0 + S, T0 + 3 * S, 50)):
                    one = values.window(tx._connection, path, low, high, upto, limit)
                    found = spans.window(path, low, high, upto, limit)
                    assert found is not None
                    for name in ("source_ns", "value", "status"):
                        assert getattr(found, name).tolist() == getattr(one, name).tolist()


def test_what_was_not_read_is_not_answered(store: Store) -> None:
    """Another tag, another time or another record up to which it holds is asked of SQL."""
    fill(store)
    with store.transaction() as tx:
        spans = Spans(tx._connection, PATHS, T0, T0 + S, T0 + 2 * S, 100)
        assert spans.window(f"{PUMP}/Tag3", T0, T0 + S, 100, 9) is None
        assert spans.window(PATHS[0], T0 - 1, T0 + S, 100, 9) is None
        assert spans.window(PATHS[0], T0, T0 + 3 * S, 100, 9) is None
        assert spans.window(PATHS[0], T0, T0 + S, 101, 9) is None


def test_a_crowded_span_is_read_in_even_slices(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the rows may be read: every tag keeps about a tenth, spread over all of the span, to its very end."""
    fill(store)
    monkeypatch.setattr("broker.store.reader.spans.SCAN", 400)
    monkeypatch.setattr("broker.store.reader.spans.SLICES", 8)
    with store.transaction() as tx:
        end = T0 + 10 * S
        spans = Spans(tx._connection, PATHS, T0, T0, end, tx.next_seq - 1)
        found = spans.window(PATHS[2], T0, end, tx.next_seq - 1, 5000)
    assert spans.thinned
    assert found is not None
    assert 60 <= len(found.value) <= 140
    assert (np.bincount((found.source_ns - T0) // (10 * S // 8), minlength=8) > 0).all()
    assert found.source_ns[-1] == T0 + (ROWS // 4 - 1) * (S // 100)
