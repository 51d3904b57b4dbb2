"""Times for people."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from schemas.documents import rfc3339


def moment(ns: int, zone: ZoneInfo) -> dict[str, str]:
    """One time: exact in ``iso``, in the site's zone in ``text`` (and ``short``, without the year)."""
    local = datetime.fromtimestamp(ns // 1_000_000_000, zone)
    return {"iso": rfc3339(ns), "text": f"{local:%Y-%m-%d %H:%M:%S %Z}", "short": f"{local:%d %b %H:%M:%S}"}


def duration(ns: int) -> str:
    """A length of time, rough: ``40 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    seconds = max(0, round(ns / 1e9))
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
