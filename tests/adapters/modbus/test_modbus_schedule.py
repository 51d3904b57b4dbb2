"""The grid of polls, with times given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.schedule import Missed, Schedule


def test_polls_stay_on_the_grid() -> None:
    """However late each poll is made, the next stays on the grid that began at the start: no drift."""
    schedule = Schedule([100])
    schedule.start(50.0)
    for k in range(1000):
        due = 50.0 + k * 0.1
        assert abs(schedule.wait_s(due)) < 1e-9
        assert schedule.take(due + 0.03) == (100,)


def test_periods_that_meet_are_polled_together() -> None:
    """Different periods share a poll where their grids meet."""
    schedule = Schedule([1000, 500])
    schedule.start(0.0)
    assert [schedule.take(t) for t in (0.0, 0.5, 1.0)] == [(500, 1000), (500,), (500, 1000)]


def test_missed_polls_are_told_once() -> None:
    """Polls overdue by more than a period are told with their times and passed over; the last one is still made."""
    schedule = Schedule([100])
    schedule.start(0.0)
    assert schedule.missed(0.09) is None
    schedule.take(0.0)
    assert schedule.missed(0.19) is None
    assert schedule.missed(0.45) == Missed(100, 0.1, 0.4, 3)
    assert schedule.missed(0.45) is None
    assert schedule.wait_s(0.45) < 0
    assert schedule.take(0.45) == (100,)


@given(st.lists(st.floats(0.0, 0.5), max_size=100))
def test_each_point_of_the_grid_is_polled_or_told(pauses: list[float]) -> None:
    """Whatever the delays, polls made plus polls told missed are exactly the points of the grid gone by."""
    schedule = Schedule([100])
    schedule.start(0.0)
    now, done = 0.0, 0
    for pause in pauses:
        now += pause
        missed = schedule.missed(now)
        done += missed.polls if missed else 0
        if schedule.wait_s(now) <= 0:
            done += len(schedule.take(now))
        assert abs(schedule.wait_s(0.0) - done * 0.1) < 1e-9
    assert done * 0.1 >= now - 0.1 - 1e-9
