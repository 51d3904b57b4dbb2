"""What the servers themselves said of the equipment while an episode went on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

from broker.store.rows.alarms import EventRow
from broker.web.moments import moment

#: Events that are shown with an anomaly: the last ones of its window.
MAX_EVENTS: Final = 20


def event_rows(events: Sequence[EventRow], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Context of the table of events."""
    return [
        {
            "at": moment(row.time_ns, zone),
            "severity": row.severity,
            "source": row.source_name or row.source,
            "message": row.message or row.type_name or row.event_type,
            "condition": row.condition_name or "",
            "state": ", ".join(_states(row)),
        }
        for row in events
    ]


def _states(row: EventRow) -> list[str]:
    """The states of an alarm that the server told."""
    told = (
        (row.active, "active", "inactive"),
        (row.acked, "acknowledged", "not acknowledged"),
        (row.confirmed, "confirmed", "not confirmed"),
    )
    words = [yes if state else no for state, yes, no in told if state is not None]
    return [*words, "disabled"] if row.enabled is False else words
