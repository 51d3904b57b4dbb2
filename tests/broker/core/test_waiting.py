"""The queue of evidence that waits for the model: order, age, what is late, what is shared."""

from __future__ import annotations

from broker.core.waiting import WaitingQueue
from broker.store.rows.episodes import PendingRow


def row(number: int, severity: int = 3) -> PendingRow:
    return PendingRow(f"e{number}", severity, number, 2.0)


def order(queue: WaitingQueue) -> list[str]:
    return [one.evidence_id for one in queue.rows]


def test_the_most_severe_goes_first_then_the_oldest() -> None:
    """However rows come, the order is severity and then age; each is taken once."""
    queue = WaitingQueue(60.0)
    queue.fill([row(4, 2), row(3, 1), row(1, 2), row(2, 4)], 0.0)
    assert [one.evidence_id for _ in range(4) for one in queue.take(1)] == ["e3", "e1", "e4", "e2"]
    assert queue.take(1) == []


def test_nothing_is_late_before_the_first_answer() -> None:
    """Without a measured answer nobody knows; the first ones are asked."""
    queue = WaitingQueue(1.0)
    queue.fill([row(i) for i in range(500)], 0.0)
    assert list(queue.late(0.0, ())) == []
    assert len(queue.rows) == 500


def test_what_would_come_too_late_is_named_with_its_figures() -> None:
    """Ten seconds an answer and a minute of patience: six are asked, the rest is skipped, the least severe of them."""
    queue = WaitingQueue(60.0)
    queue.answered(10.0)
    queue.fill([*(row(i) for i in range(10)), row(10, 1)], 0.0)
    late = list(queue.late(0.0, ()))
    assert order(queue) == ["e10", "e0", "e1", "e2", "e3", "e4"]
    assert [one.evidence_id for one, _ in late] == ["e5", "e6", "e7", "e8", "e9"]
    assert late[0][1] == (
        "skipped: the answer would come after 70 s, later than 60 s (6 questions wait before it, and the model takes "
        "about 10 s for one)"
    )


def test_waiting_counts_and_what_is_gone_is_forgotten() -> None:
    """The wait so far is part of it; one that left the store and came back begins anew."""
    queue = WaitingQueue(60.0)
    queue.answered(10.0)
    queue.fill([row(1)], 0.0)
    queue.fill([row(1)], 49.0)
    assert list(queue.late(49.0, ())) == []
    queue.fill([row(1)], 51.0)
    assert [one.evidence_id for one, _ in queue.late(51.0, ())] == ["e1"]
    queue.fill([], 52.0)
    queue.fill([row(1)], 53.0)
    assert list(queue.late(53.0, ())) == []


def test_alike_ones_cost_one_answer() -> None:
    """A hundred that share an answer are not late where a hundred different ones are."""
    queue = WaitingQueue(60.0)
    queue.answered(10.0)
    assert queue.fill([row(i) for i in range(100)], 0.0) == [f"e{i}" for i in range(100)]
    for i in range(100):
        queue.learn(f"e{i}", "same")
    assert list(queue.late(0.0, ())) == []
    assert queue.fill([row(i) for i in range(101)], 1.0) == ["e100"]
    queue.learn("e100", "other")
    assert list(queue.late(1.0, ())) == []
    queue = WaitingQueue(5.0, expected_s=10.0)
    queue.fill([row(1)], 0.0)
    queue.learn("e1", "at hand")
    assert list(queue.late(0.0, {"at hand"})) == []
    assert [one.evidence_id for one, _ in queue.late(0.0, ())] == ["e1"]


def test_the_expected_time_follows_the_answers() -> None:
    """Newer answers weigh more, one slow answer does not decide."""
    queue = WaitingQueue(60.0)
    for seconds in (1.0, 1.0, 11.0):
        queue.answered(seconds)
    assert queue.expected_s == 4.0


def test_side_by_side_no_two_alike_are_asked() -> None:
    """Four answers at once: of alike ones the first is asked, the others wait for its answer."""
    queue = WaitingQueue(60.0)
    for evidence_id in queue.fill([row(i) for i in range(6)], 0.0):
        queue.learn(evidence_id, "one" if evidence_id in ("e0", "e1", "e2") else evidence_id)
    assert [one.evidence_id for one in queue.take(4)] == ["e0", "e3", "e4", "e5"]
    assert order(queue) == ["e1", "e2"]


def test_side_by_side_more_come_in_time() -> None:
    """Ten seconds an answer, four at once, a minute of patience: 24 are asked (one by one: six)."""
    queue = WaitingQueue(60.0)
    queue.answered(10.0)
    queue.fill([row(i) for i in range(30)], 0.0)
    assert len(list(queue.late(0.0, (), 4))) == 6
    assert len(queue.rows) == 24
