"""What a source is doing, and what ``acquire.json`` says of the process."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from broker.journal.writer import JournalStatus
from schemas.documents import rfc3339

#: pending: nothing came yet. active: samples come, or the peer says that nothing is new. failing: no connection, with
#: the reason. ended: the input is over.
Condition = Literal["pending", "active", "failing", "ended", "disabled"]
#: Seconds over which the journal's rate is taken.
RATE_WINDOW: Final = 60


@dataclass(slots=True)
class SourceState:
    """
    State of one source; times are UTC ns. ``since_ns`` is when the condition began.

    ``received`` counts rows, rejects and events as they came: each is then ``waiting`` for its commit, journalled as a
    sample (``samples``), as an event (``events``), as a reject (``unusable``), or ``refused`` and not acknowledged.
    ``acknowledged`` counts those whose source was told that we have them.
    """

    condition: Condition
    since_ns: int
    error: str = ""
    last_batch_ns: int | None = None
    samples: int = 0
    events: int = 0
    rejects: int = 0
    reconnects: int = 0
    in_flight: int = 0
    received: int = 0
    unusable: int = 0
    refused: int = 0
    waiting: int = 0
    acknowledged: int = 0
    violated: bool = False
    counters: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def turn(self, condition: Condition, now_ns: int, error: str = "") -> None:
        """Enter a condition; the time moves only when it is another one."""
        if condition != self.condition:
            self.condition, self.since_ns = condition, now_ns
        self.error = error

    def check(self) -> dict[str, str]:
        """What must hold of the counters and does not, by name; said once."""
        found = {}
        durable = self.samples + self.events + self.unusable
        known = durable + self.refused + self.waiting
        if self.received != known:
            found["received"] = f"{self.received} rows were received, {known} are accounted for"
        if self.acknowledged > durable:
            found["acknowledged"] = f"{self.acknowledged} rows were acknowledged, {durable} are durable"
        said, self.violated = self.violated, bool(found)
        return {} if said else found

    def publish(self, counters: Counter[str], facts: dict[str, str]) -> None:
        """Take over what the adapter says of itself."""
        self.counters = dict(counters)
        self.facts = dict(facts)

    def as_json(self) -> dict[str, Any]:
        """Members of ``sources.<name>`` in ``acquire.json``; times as RFC 3339 text."""
        return {
            "state": self.condition,
            "since": rfc3339(self.since_ns),
            "error": self.error,
            "last_batch": None if self.last_batch_ns is None else rfc3339(self.last_batch_ns),
            "samples": self.samples,
            "events": self.events,
            "rejects": self.rejects,
            "reconnects": self.reconnects,
            "in_flight": self.in_flight,
            "received": self.received,
            "refused": self.refused,
            "acknowledged": self.acknowledged,
            "counters": self.counters,
            "facts": self.facts,
        }


class JournalFigures:
    """Size, what core has still to read, and how many hours fit at the rate of the last minute."""

    def __init__(self, stop_ack: float) -> None:
        self._stop_ack = stop_ack
        self._sizes: deque[tuple[int, int]] = deque(maxlen=RATE_WINDOW)

    def as_json(self, status: JournalStatus, mono_ns: int) -> dict[str, Any]:
        """
        Members of ``journal`` in ``acquire.json``; sizes in bytes.

        ``capacity_h`` is for how long samples are accepted if core reads nothing from now on; None while nothing flows.
        """
        self._sizes.append((mono_ns, status.written))
        (first_ns, first), (last_ns, last) = self._sizes[0], self._sizes[-1]
        rate = (last - first) / ((last_ns - first_ns) / 1e9) if last_ns > first_ns else 0.0
        room = max(0.0, self._stop_ack * status.budget - status.used)
        return {
            "epoch": status.position.epoch,
            "seq": status.position.seq,
            "read_epoch": status.read.epoch,
            "read_seq": status.read.seq,
            "bytes": status.used,
            "budget_bytes": status.budget,
            "waiting_bytes": status.waiting,
            "refusing": status.refusing,
            "unread_bytes": status.unread,
            "reserve_bytes": status.reserve,
            "steps": list(status.steps),
            "bytes_per_s": round(rate, 1),
            "capacity_h": round(room / rate / 3600, 2) if rate > 0 else None,
        }


def acquire_json(
    pid: int, now_ns: int, started_ns: int, revision: bytes, journal: dict[str, Any], sources: Mapping[str, SourceState]
) -> dict[str, Any]:
    """Content of ``acquire.json``, replaced each second."""
    return {
        "pid": pid,
        "at": rfc3339(now_ns),
        "started": rfc3339(started_ns),
        "map_revision": revision.hex(),
        "journal": journal,
        "sources": {name: state.as_json() for name, state in sources.items()},
    }
