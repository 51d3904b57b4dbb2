"""Rows of events and alarms of servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class EventRow(NamedTuple):
    """
    One event of a server as :class:`schemas.alarms.Event` describes it; ``event_id`` is hexadecimal.

    ``revision`` above 0: a correction of the row with the same source, time and ``fingerprint``.

    ``condition_id`` None: it is no alarm, and everything behind it is None, too. ``fields`` are JSON-like.
    """

    seq: int
    source: str
    equipment: str
    time_ns: int
    server_ts: int | None
    received_ts: int
    notifier: str
    event_id: str
    event_type: str
    type_name: str
    source_node: str
    source_name: str
    severity: int
    message: str
    flags: int
    condition_id: str | None
    condition_name: str | None
    branch_id: str | None
    retain: bool | None
    enabled: bool | None
    acked: bool | None
    confirmed: bool | None
    active: bool | None
    state: str | None
    last_severity: int | None
    quality: int | None
    comment: str | None
    user_name: str | None
    fields: dict[str, Any]
    fingerprint: int
    revision: int


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order of ``seq``; go on after ``next_after``, which may lie behind the last row of a filtered page."""

    rows: list[EventRow]
    next_after: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class EventTail:
    """The last events, oldest first; ``looked_from``: none before that ``seq`` was looked at, None: enough were."""

    rows: list[EventRow]
    looked_from: int | None
