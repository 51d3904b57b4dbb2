"""
When which tags are due: each scan period on its own fixed grid of the loop's clock, so that polls do not drift.

Pure: the time comes in, seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

#: Polls due within so many seconds of each other are made together.
_TOGETHER_S: Final = 0.001


class Missed(NamedTuple):
    """Polls of one period that never happened: from the first that was due to the one that comes next."""

    period_ms: int
    from_s: float
    to_s: float
    polls: int


class Schedule:
    """The grids of all periods; they begin together at :meth:`start`."""

    def __init__(self, periods_ms: Iterable[int]) -> None:
        self._start_s = 0.0
        self._step = dict.fromkeys(sorted(periods_ms), 0)

    def start(self, now_s: float) -> None:
        """Everything is due now, and from now on the grid."""
        self._start_s = now_s
        self._step = dict.fromkeys(self._step, 0)

    def _due_s(self, period_ms: int) -> float:
        return self._start_s + self._step[period_ms] * period_ms / 1000

    def wait_s(self, now_s: float) -> float:
        """Seconds until something is due; zero or less when something is."""
        return min(self._due_s(period) for period in self._step) - now_s

    def missed(self, now_s: float) -> Missed | None:
        """The polls of one period that were due more than a period ago; they are passed over."""
        for period_ms, step in self._step.items():
            due_s = self._due_s(period_ms)
            polls = int((now_s - due_s) * 1000 / period_ms)
            if polls >= 1 and now_s - due_s > period_ms / 1000:
                self._step[period_ms] = step + polls
                return Missed(period_ms, due_s, self._due_s(period_ms), polls)
        return None

    def take(self, now_s: float) -> tuple[int, ...]:
        """The periods that are due, each moved on to its next point."""
        due = tuple(period for period in self._step if self._due_s(period) <= now_s + _TOGETHER_S)
        for period in due:
            self._step[period] += 1
        return due
