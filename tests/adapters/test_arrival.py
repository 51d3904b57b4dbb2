"""Times of arrival: rising while our clock goes on, and the new clock's where it was set back."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adapters.arrival import BACK_NS, Arrival
from schemas.status import Flag

S = 1_000_000_000
NOW = 1_790_000_000 * S


class Bench:
    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._arrival = Arrival(self.counters)

    def put(self, *at_s: float) -> tuple[list[int], list[bool]]:
        """Times relative to NOW in ns, and which rows are flagged."""
        flags = np.full(len(at_s), int(Flag.ARRIVAL_TIME), np.uint32)
        at = np.array([NOW + round(at * S) for at in at_s], np.int64)
        found = self._arrival.spread(at, flags)
        return (found - NOW).tolist(), ((flags & int(Flag.CLOCK_SUSPECT)) != 0).tolist()


def test_rows_of_one_instant_and_small_steps_back_rise() -> None:
    """Equal times are spread by a nanosecond; a clock that goes back by less than a second is waited for."""
    bench = Bench()
    assert bench.put(0, 0, 0.5) == ([0, 1, S // 2], [False] * 3)
    assert bench.put(0.2, 0.2) == ([S // 2 + 1, S // 2 + 2], [False] * 2)
    assert bench.put(0.6)[0] == [S * 6 // 10]
    assert bench.counters == {}


def test_a_clock_that_was_set_back_is_believed() -> None:
    """At once, flagged, counted once; in the middle of a batch, too."""
    bench = Bench()
    bench.put(0)
    assert bench.put(-3600, -3600, -3599.9) == ([-3600 * S, -3600 * S + 1, -35_999 * S // 10], [True] * 3)
    assert bench.counters["clock_steps"] == 1
    assert bench.put(-3599) == ([-3599 * S], [False])
    assert bench.put(-3598, -7200, -7199) == ([-3598 * S, -7200 * S, -7199 * S], [False, True, True])
    assert bench.put(0) == ([0], [False])
    assert bench.counters["clock_steps"] == 2


def test_control_held_times_stand_still() -> None:
    """What strictly increasing times would say of the hour behind the step: all of it happened in one second."""
    last, held = NOW, []
    for second in range(3600):
        last = max(NOW - 3600 * S + second * S, last + 1)
        held.append(last)
    assert held[-1] - held[0] < S


@given(st.lists(st.lists(st.integers(-(10**11), 10**11), max_size=6), max_size=8))
def test_never_far_from_the_clock_and_rising_between_steps(batches: list[list[int]]) -> None:
    """Whatever the clock does: a time is never before it nor a second and more behind; only a step goes back."""
    counters: Counter[str] = Counter()
    arrival = Arrival(counters)
    given_ns: list[int] = []
    for batch in batches:
        at = NOW + np.array(batch, np.int64)
        found = arrival.spread(at, np.zeros(len(at), np.uint32))
        assert (found >= at).all()
        assert (found - at <= BACK_NS + 100).all()
        given_ns += found.tolist()
    back = int((np.diff(np.array(given_ns, np.int64)) <= 0).sum()) if len(given_ns) > 1 else 0
    assert back == counters["clock_steps"]
