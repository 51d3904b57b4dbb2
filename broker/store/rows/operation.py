"""Rows about the working of the house: gaps, quarantine, sources, replays, and the figures of the whole store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class GapRow(NamedTuple):
    """
    A hole in the data; ``path`` None: every tag of the source. ``source`` empty: every source. ``to_ns`` None: still
    open. ``scope`` is ``samples``, or ``events`` where events of the source are missing and no sample. ``tag`` is the
    stable id, ``changed`` the place of its last change among those of all gaps.
    """

    gap_id: int
    source: str
    path: str | None
    cause: str
    from_ns: int
    to_ns: int | None
    backfilled: bool
    detail: str
    scope: str = "samples"
    tag: str | None = None
    changed: int = 0


@dataclass(frozen=True, slots=True)
class GapPage:
    """Gaps in the order of their changes; go on after ``next_after``, which may lie behind the last row."""

    rows: list[GapRow]
    next_after: int
    has_more: bool


class QuarantineRow(NamedTuple):
    """What could not become a record, and why."""

    quarantine_id: int
    source: str
    place: str
    reason: str
    raw: bytes
    received_ns: int


class SourceRow(NamedTuple):
    """
    A source as the stream last saw it; ``up`` None: no link message yet.

    ``rows``, ``events`` and ``rejected`` count what ever came, ``quarantined`` the rejects that are still kept.
    """

    source: str
    up: bool | None
    reason: str
    since_ns: int | None
    rows: int
    last_received_ns: int | None
    rejected: int
    quarantined: int
    events: int = 0


class ReplayRow(NamedTuple):
    """
    A replay; ``state`` is running, done, failed or interrupted.

    ``from_ns`` and ``to_ns`` are times of reception, ``at_ns`` how far in it the journal was read; ``sources`` empty:
    all. ``entries`` were looked at, ``rows`` written under this revision.
    """

    revision: int
    state: str
    actor: str
    reason: str
    sources: tuple[str, ...]
    from_ns: int
    to_ns: int
    map_revision: bytes
    started_ns: int
    ended_ns: int | None
    at_ns: int | None
    entries: int
    rows: int
    detail: str


@dataclass(frozen=True, slots=True)
class Counts:
    """
    Figures of the whole store; ``records`` counts rows ever stored, the others what is there now.

    ``anomalies_open`` are those that ask for attention, ``anomalies_suppressed`` those open ones that do not;
    ``suppressions`` of people are in force.
    """

    records: int
    first_seq: int | None
    gaps_open: int
    quarantine: int
    anomalies_open: int
    anomalies_suppressed: int
    suppressions: int
    pending_review: int
    documents: int
    tags: int
    epoch: int
    seq: int
    bytes: int
    wal_bytes: int
