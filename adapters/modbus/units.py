"""
How each unit behind a connection is doing: a dead one must not slow the others down.

Pure: times come in as seconds of the loop's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Final

from schemas import status

#: A unit whose pause is over proves itself with one request.
_PROBES: Final = 1


class Units:
    """
    Failures in a row of each unit, within a poll and over polls.

    A unit without a usable reply to ``fail_after`` requests in a row is given up for the rest of the poll. One that
    gave nothing in ``degrade_after`` polls in a row, while another unit answered, is not asked at all for ``pause_s``;
    then one request decides. Alone on its connection a unit is never paused: nobody is slowed down, and it must be
    found as soon as it is back.

    Units may be asked at different times. So one is alive when it answered in the last poll that asked it, and what
    counts against a unit is an answer of another one in the same poll, or behind its first empty poll: before that
    the gateway itself may have been away.

    Attributes:
        given_up: unit to the status its blocks get without being asked, in this poll.
        heard: whether any unit answered in this poll.
        reason: what went wrong last.
        degraded: unit to the time of its next try.
        alive: units that answered in the last poll that asked them.
        answered_now: units that replied in this poll.
        missed_now: units that owe a reply of this poll, or were not asked.
    """

    def __init__(self, fail_after: int, degrade_after: int, pause_s: float, counters: Counter[str]) -> None:
        self.given_up: dict[int, int] = {}
        self.heard = False
        self.reason = ""
        self.degraded: dict[int, float] = {}
        self.alive: set[int] = set()
        self._fail_after = fail_after
        self._degrade_after = degrade_after
        self._pause_s = pause_s
        self._counters = counters
        self._failures: Counter[int] = Counter()
        self._empty_polls: Counter[int] = Counter()
        self._empty_since: dict[int, int] = {}
        self._poll = 0
        self._last_answer = 0
        self.answered_now: set[int] = set()
        self.missed_now: set[int] = set()

    def restart(self) -> None:
        """
        Begin with a new connection.

        Who is degraded stays so, or a dead unit that costs its neighbours the connection would never be left alone;
        but one request finds out at once whether it is back, for all may have been away.
        """
        self.given_up.clear()
        self.degraded = dict.fromkeys(self.degraded, 0.0)
        self._failures.clear()

    def begin(self, now_s: float) -> None:
        """A poll begins."""
        self._poll += 1
        self.heard = False
        self.reason = ""
        self.answered_now.clear()
        self.missed_now.clear()
        self.given_up.clear()
        for unit, until_s in self.degraded.items():
            if now_s < until_s:
                self.given_up[unit] = status.BAD_NO_COMMUNICATION
                self.missed_now.add(unit)
            else:
                self._failures[unit] = self._fail_after - _PROBES

    def answered(self, unit: int) -> None:
        """The unit itself replied, be it with an exception."""
        self.heard = True
        self.answered_now.add(unit)
        if self._failures:
            self._failures.pop(unit, None)

    def unreachable(self, unit: int, condition: int, reason: str) -> None:
        """The gateway replied that the unit does not; the connection is alive."""
        self.heard = True
        self._count(unit, condition, reason)

    def failed(self, unit: int, condition: int, reason: str) -> None:
        """No usable reply."""
        self._count(unit, condition, reason)

    def _count(self, unit: int, condition: int, reason: str) -> None:
        self._failures[unit] += 1
        self.missed_now.add(unit)
        self.reason = reason
        if self._failures[unit] >= self._fail_after:
            self.given_up[unit] = condition

    def end(self, asked: Collection[int], now_s: float) -> None:
        """A poll that asked these units is over: count who gave nothing, pause who did so too often."""
        for unit in self.answered_now:
            self._last_answer = self._poll
            self._empty_polls.pop(unit, None)
            self._empty_since.pop(unit, None)
            self.degraded.pop(unit, None)
        silent = [unit for unit in asked if unit in self.missed_now and unit not in self.answered_now]
        self.alive |= self.answered_now
        self.alive.difference_update(silent)
        for unit in silent:
            if unit in self.degraded and now_s < self.degraded[unit]:
                continue
            self._empty_polls[unit] += 1
            since = self._empty_since.setdefault(unit, self._poll)
            others = self._last_answer == self._poll or self._last_answer > since
            if self._empty_polls[unit] >= self._degrade_after and others:
                self._counters["degraded_units"] += unit not in self.degraded
                self.degraded[unit] = now_s + self._pause_s
