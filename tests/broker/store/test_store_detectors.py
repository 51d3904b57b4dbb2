"""What each detector opened and what people rejected, counted from anomalies and reviews in both databases."""

from __future__ import annotations

import pytest

from broker.store import Store
from broker.store.reader import detectors
from schemas.annotation import POLICY
from tests.broker.store.found import episode, find
from tests.broker.store.plant import PUMP, T0, S

WEEK = 604_800 * S
BOUNDS = (T0, T0 + WEEK, T0 + 2 * WEEK)


def counted(store: Store, equipment: str | None = None) -> dict[tuple[int, str], tuple[int, ...]]:
    """(opened, suppressed, findings, reviewed, rejected, not abnormal, wrong cause) by span and detector."""
    found = store.reader().detector_counts(BOUNDS, equipment=equipment)
    assert found.complete
    return {(row.place, row.detector): row[2:] for row in found.rows}


def test_an_anomaly_counts_for_who_opened_it(store: Store) -> None:
    """Also where a later finding began before; findings are of all its detectors, and of its own week."""
    with store.transaction() as tx:
        tx.anomaly(episode("a", ["pca"], T0))
        tx.anomaly(episode("a", ["ewma", "pca", "pca"], T0, revision=1))
        tx.anomaly(episode("b", ["pca"], T0 + WEEK))
        tx.anomaly(episode("c", ["spike"], T0 + WEEK, suppressed="shelved"))
        tx.anomaly(episode("d", ["rate"], T0 - 1))
        tx.anomaly(episode("e", ["rate"], T0 + 2 * WEEK))
    assert counted(store) == {
        (0, "ewma"): (0, 0, 1, 0, 0, 0, 0),
        (0, "pca"): (1, 0, 2, 0, 0, 0, 0),
        (1, "pca"): (1, 0, 1, 0, 0, 0, 0),
        (1, "spike"): (0, 1, 1, 0, 0, 0, 0),
    }


def test_the_newest_word_of_a_person_counts(store: Store) -> None:
    """A wrong cause is a fault of the explanation; a policy has looked at nothing."""
    with store.transaction() as tx:
        find(tx, "a", "ewma", T0, "not_abnormal")
        find(tx, "b", "ewma", T0, "approved", "duplicate")
        find(tx, "c", "ewma", T0, "wrong_cause")
        find(tx, "d", "ewma", T0, "edited")
        find(tx, "e", "ewma", T0, "approved", person=f"{POLICY}night")
        find(tx, "f", "ewma", T0)
    assert counted(store) == {(0, "ewma"): (6, 0, 6, 4, 2, 1, 1)}


def test_one_piece_of_equipment(store: Store) -> None:
    """By its path, or by a pattern; a path that only begins alike is another."""
    with store.transaction() as tx:
        find(tx, "a", "ewma", T0, "not_abnormal")
        find(tx, "b", "ewma", T0, equipment=f"{PUMP}0")
        find(tx, "c", "rate", T0, equipment="Acme/Lyon/Filling/F1")
    assert counted(store, PUMP) == {(0, "ewma"): (1, 0, 1, 1, 1, 1, 0)}
    assert counted(store, f"{PUMP}*") == {(0, "ewma"): (2, 0, 2, 1, 1, 1, 0)}
    assert counted(store, "Acme/Lyon/*") == counted(store)
    assert counted(store, "Acme/Lyon") == {}


def test_no_more_than_so_many_are_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest count, and the answer says that there were more; control: exactly so many."""
    with store.transaction() as tx:
        for place in range(4):
            find(tx, f"a{place}", "ewma" if place < 2 else "rate", T0 + place * S)
    monkeypatch.setattr(detectors, "MOST", 4)
    assert store.reader().detector_counts(BOUNDS).complete
    monkeypatch.setattr(detectors, "MOST", 2)
    found = store.reader().detector_counts(BOUNDS)
    assert (found.complete, [(row.detector, row.opened) for row in found.rows]) == (False, [("rate", 2)])
