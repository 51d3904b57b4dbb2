"""Suppressions, and episodes that ask nobody for attention, in both databases."""

from __future__ import annotations

from broker.store import Store
from schemas.suppression import Suppression, SuppressionEvent
from tests.broker.store.plant import T0, S, anomaly, rows_of


def one(number: int, until_ns: int | None = None) -> Suppression:
    return Suppression(f"s{number}", "shelf", "Acme/P1", "", "a.moreau", "kn\x00own", T0 + number * S, until_ns)


def test_life_of_a_suppression(store: Store) -> None:
    """It begins once, counts what it holds, ends with who ended it, and stays to be read."""
    began = SuppressionEvent("began", "s1", "a.moreau", T0, one(1, T0 + 9 * S))
    with store.transaction() as tx:
        tx.suppression(began)
        tx.suppression(began)
        tx.suppression(SuppressionEvent("began", "s2", "a.moreau", T0, one(2)))
        tx.suppression(SuppressionEvent("refused", "s3", "a.moreau", T0, None, "too late"))
        tx.suppressed_findings({"s1": 7, "gone": 1})
    reader = store.reader()
    assert [row.suppression_id for row in reader.suppressions(active=True)] == ["s2", "s1"]
    assert reader.counts().suppressions == 2

    with store.transaction() as tx:
        tx.suppression(SuppressionEvent("ended", "s1", "", T0 + 9 * S, one(1, T0 + 9 * S)))
    (row,) = reader.suppressions(active=False)
    assert (row.ended_ns, row.ended_by, row.findings, row.reason) == (T0 + 9 * S, "", 7, "kn\ufffdown")
    assert reader.suppression("s2") == reader.suppressions(active=True)[0]
    assert reader.suppression("s3") is None
    assert rows_of(store, "SELECT suppression_id, ended_by, findings FROM v_suppressions ORDER BY from_ns") == [
        ("s1", "", 7),
        ("s2", None, 0),
    ]


def test_suppressed_episodes_are_found_where_one_asks(store: Store) -> None:
    """They are no open anomalies, wait for no review, and the view says why."""
    quiet = anomaly(anomaly_id="quiet").model_copy(update={"suppressed": "shelved"})
    with store.transaction() as tx:
        tx.anomaly(anomaly(anomaly_id="loud"))
        tx.anomaly(quiet)
    reader = store.reader()

    def ids(**which: object) -> list[str]:
        return [row.anomaly.anomaly_id for row in reader.anomalies(**which)]  # type: ignore[arg-type]

    assert (ids(suppressed=False), ids(suppressed=True), ids()) == (["loud"], ["quiet"], ["quiet", "loud"])
    assert ids(review="pending") == ["loud"]
    counts = reader.counts()
    assert (counts.anomalies_open, counts.anomalies_suppressed) == (1, 1)
    assert rows_of(store, "SELECT anomaly_id FROM v_anomalies WHERE suppressed = 'shelved'") == [("quiet",)]
