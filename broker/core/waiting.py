"""
The queue of evidence that waits for the model: the most severe first, of equals the oldest.

SQL holds what waits (``Reader.annotations_pending``, at most 500 anomalies), so that a restart loses nothing; here is
its order, since when each waits, and which of it would be explained too late.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.store.rows.episodes import PendingRow

#: Weight of the newest answer in the expected time of the next one.
_NEWEST: Final = 0.3


@dataclass(slots=True)
class WaitingQueue:
    """
    Times are seconds of one clock that never goes back.

    Attributes:
        patience_s: longest wait for a turn.
        expected_s: time of one answer as the last ones took; None before the first.
        rows: what waits, in order.
    """

    patience_s: float
    expected_s: float | None = None
    rows: list[PendingRow] = field(default_factory=list)
    _since_s: dict[str, float] = field(default_factory=dict)
    _likeness: dict[str, str] = field(default_factory=dict)

    def fill(self, rows: Sequence[PendingRow], now_s: float) -> list[str]:
        """Take over what SQL says; ids of the evidence whose likeness is not known yet."""
        self.rows = sorted(rows, key=lambda row: (row.severity, row.ordinal))
        there = {row.evidence_id for row in rows}
        self._since_s = {row.evidence_id: self._since_s.get(row.evidence_id, now_s) for row in rows}
        self._likeness = {key: value for key, value in self._likeness.items() if key in there}
        return [row.evidence_id for row in self.rows if row.evidence_id not in self._likeness]

    def learn(self, evidence_id: str, likeness: str) -> None:
        """Note to which others an evidence is alike: those share one answer, and the wait for it."""
        self._likeness[evidence_id] = likeness

    def answered(self, seconds: float) -> None:
        """Note how long the model took for an answer, or for none."""
        known = seconds if self.expected_s is None else self.expected_s
        self.expected_s = known + _NEWEST * (seconds - known)

    def late(self, now_s: float, shared: Collection[str], slots: int = 1) -> Iterator[tuple[PendingRow, str]]:
        """
        What would be explained too late, with the reason for a person; it leaves the queue.

        *shared* are likenesses of which an answer is at hand, and costs nothing; *slots* answers are made side by side.
        """
        if self.expected_s is None:
            return
        kept: list[PendingRow] = []
        asked: set[str] = set()
        for row in self.rows:
            likeness = self._likeness.get(row.evidence_id, row.evidence_id)
            asks = likeness not in shared and likeness not in asked
            waited_s = now_s - self._since_s[row.evidence_id]
            ahead = len(asked)
            comes_s = waited_s + math.ceil((ahead + asks) / slots) * self.expected_s
            if asks and comes_s > self.patience_s:
                told = f"{ahead} {'question waits' if ahead == 1 else 'questions wait'} before it"
                yield (
                    row,
                    f"skipped: the answer would come after {comes_s:.0f} s, later than {self.patience_s:g} s "
                    f"({told}, and the model takes about {self.expected_s:.2g} s for one)",
                )
                continue
            if asks:
                asked.add(likeness)
            kept.append(row)
        self.rows = kept

    def take(self, most: int) -> list[PendingRow]:
        """The next ones, at most so many and no two alike; they leave the queue. What is alike waits for the answer."""
        taken: list[PendingRow] = []
        kept: list[PendingRow] = []
        asked: set[str] = set()
        for place, row in enumerate(self.rows):
            if len(taken) == most:
                kept += self.rows[place:]
                break
            likeness = self._likeness.get(row.evidence_id, row.evidence_id)
            (kept if likeness in asked else taken).append(row)
            asked.add(likeness)
        self.rows = kept
        return taken
