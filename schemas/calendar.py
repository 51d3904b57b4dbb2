"""
The plant's week: shifts, times in which nothing is produced, planned maintenance.

Windows recur weekly in a time zone, as a weekly RRULE of RFC 5545 does (BYDAY, INTERVAL, DTSTART, UNTIL, EXDATE). They
are part of the tag map, so that they come into force at an exact place of the stream. Whether one is open at a moment
depends on that moment and the time-zone rules alone.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from schemas.suppression import under

#: shift: a name for the evidence. off: nothing is produced, detectors do not look. maintenance: people work there.
WindowKind = Literal["shift", "off", "maintenance"]
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MIN: Final = 24 * 60


class Window(BaseModel):
    """
    A time that comes back each week; it begins on ``days`` at ``start_min`` and lasts ``minutes``, across midnight too.

    Times are those of the wall in ``timezone``: a window of eight hours over a change to summer time lasts seven.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: WindowKind
    paths: tuple[str, ...] = Field((), description="Equipment or anything above it; none: the whole site.")
    days: tuple[int, ...] = Field(description="0 Monday to 6 Sunday, on which it begins.")
    start_min: int = Field(ge=0, lt=_DAY_MIN, description="Minutes after midnight.")
    minutes: int = Field(gt=0, le=_DAY_MIN, description="Length.")
    timezone: str = "UTC"
    every: int = Field(1, ge=1, le=52, description="Each so many weeks, counted from the week of `first`.")
    first: date | None = Field(None, description="No window begins before this day.")
    last: date | None = Field(None, description="No window begins after this day.")
    without: tuple[date, ...] = Field((), description="Days on which it does not begin.")

    def open_at(self, wall_ns: int) -> bool:
        """Whether *wall_ns* (UTC) lies in one of its recurrences."""
        local = local_time(wall_ns, self.timezone)
        return any(self._from(local, local.date() - timedelta(days=back)) for back in (0, 1))

    def covers(self, equipment: str) -> bool:
        """Whether it is about *equipment*."""
        return not self.paths or any(under(equipment, path) for path in self.paths)

    def recurrence(self, day: date) -> tuple[datetime, datetime] | None:
        """Begin and end (UTC) of the recurrence that begins on *day*; None where none does."""
        if not self._begins(day):
            return None
        begin = datetime.combine(day, time(), _zone(self.timezone)) + timedelta(minutes=self.start_min)
        return begin.astimezone(UTC), (begin + timedelta(minutes=self.minutes)).astimezone(UTC)

    def _from(self, local: datetime, day: date) -> bool:
        """Whether the recurrence that would begin on *day* does, and holds *local*."""
        begin = datetime.combine(day, time()) + timedelta(minutes=self.start_min)
        return self._begins(day) and begin <= local < begin + timedelta(minutes=self.minutes)

    def _begins(self, day: date) -> bool:
        if day.weekday() not in self.days or day in self.without:
            return False
        if (self.first is not None and day < self.first) or (self.last is not None and day > self.last):
            return False
        if self.every > 1:
            anchor = self.first or date(1970, 1, 5)
            weeks = ((day - timedelta(days=day.weekday())) - (anchor - timedelta(days=anchor.weekday()))).days // 7
            return weeks % self.every == 0
        return True


def local_time(wall_ns: int, timezone: str) -> datetime:
    """The time of the wall at *wall_ns* (UTC), without an offset."""
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, _zone(timezone)).replace(tzinfo=None)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
