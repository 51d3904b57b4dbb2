"""The site's calendar: its days and shifts, and the windows that have a name (today, this morning, last shift)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from broker.ask.dates import day_of
from schemas.calendar import Window
from schemas.errors import Refused

_MORNING, _NOON, _EVENING = time(0), time(12), time(18)
#: Parts of a day.
PARTS: Final = {"morning": (_MORNING, _NOON), "afternoon": (_NOON, _EVENING), "evening": (_EVENING, None)}
#: Shifts of a site whose map has none: begin in minutes after midnight, and length.
_SHIFT_BEGINS: Final = (6 * 60, 14 * 60, 22 * 60)
_SHIFT_MINUTES: Final = 8 * 60
#: Weeks in which the last shift is looked for; it was a works holiday until then.
_SHIFT_WEEKS: Final = 6


@dataclass(frozen=True, slots=True)
class Calendar:
    """
    The site's zone, the present moment (with an offset), and the shifts of the map in force.

    Without any the shifts are three a day, from 06:00 in the site's zone.
    """

    zone: ZoneInfo
    now: datetime
    shifts: tuple[Window, ...] = ()

    def of(self, equipment: Sequence[str]) -> Calendar:
        """
        The calendar of this equipment: only the shifts that cover all of it.

        Raises:
            Refused: the map has shifts, and none of them does.
        """
        mine = tuple(one for one in self.shifts if all(one.covers(path) for path in equipment))
        if self.shifts and not mine:
            raise Refused(f"no shift of the map's calendar covers {', '.join(equipment)}; write from when to when")
        return replace(self, shifts=mine)

    @property
    def today(self) -> date:
        """The site's date."""
        return self.now.astimezone(self.zone).date()

    def at(self, day: date, clock: time = time()) -> datetime:
        """A time of day at the site, as UTC."""
        return datetime.combine(day, clock, self.zone).astimezone(UTC)

    def days(self, begin: int, end: int) -> tuple[datetime, datetime]:
        """Whole days counted from today: (0, 1) is today."""
        return self.at(self.today + timedelta(days=begin)), self.at(self.today + timedelta(days=end))

    def shift(self, back: int) -> tuple[datetime, datetime]:
        """
        The running shift (0) or the one that began before it (1); between shifts that is the last one.

        Raises:
            Refused: no shift runs now, or none began in the last weeks.
        """
        shifts = self.shifts or tuple(
            Window(
                name="shift",
                kind="shift",
                days=tuple(range(7)),
                start_min=begin,
                minutes=_SHIFT_MINUTES,
                timezone=self.zone.key,
            )
            for begin in _SHIFT_BEGINS
        )
        weeks = max(_SHIFT_WEEKS, 2 * max(one.every for one in shifts))
        days = [self.today - timedelta(days=day) for day in range(-1, 7 * weeks)]
        found = {span for one in shifts for day in days if (span := one.recurrence(day)) and span[0] <= self.now}
        begun = sorted(found, reverse=True)
        running = next((place for place, span in enumerate(begun) if self.now < span[1]), -1)
        if back == 0 and running < 0:
            raise Refused("no shift of the map's calendar runs now; write from when to when")
        place = running + back
        if place >= len(begun):
            raise Refused(f"no earlier shift of the map's calendar in the last {weeks} weeks; write from when to when")
        return begun[place]


Pair = tuple[datetime, datetime]


def _part(calendar: Calendar, day: int, begin: time, end: time | None) -> Pair:
    when = calendar.today + timedelta(days=day)
    return calendar.at(when, begin), calendar.at(when, end) if end else calendar.at(when + timedelta(days=1))


#: Time words without a number; the closed list that a model chooses from, too.
WORDS: Final[dict[str, Callable[[Calendar], Pair]]] = {
    "this morning": lambda c: _part(c, 0, _MORNING, _NOON),
    "this afternoon": lambda c: _part(c, 0, _NOON, _EVENING),
    "this evening": lambda c: _part(c, 0, _EVENING, None),
    "tonight": lambda c: _part(c, 0, _EVENING, None),
    "yesterday morning": lambda c: _part(c, -1, _MORNING, _NOON),
    "yesterday afternoon": lambda c: _part(c, -1, _NOON, _EVENING),
    "yesterday evening": lambda c: _part(c, -1, _EVENING, None),
    "last night": lambda c: (_part(c, -1, _EVENING, None)[0], _part(c, 0, time(6), None)[0]),
    "this shift": lambda c: c.shift(0),
    "last shift": lambda c: c.shift(1),
    "previous shift": lambda c: c.shift(1),
    "this week": lambda c: c.days(-c.today.weekday(), 1),
    "last week": lambda c: c.days(-c.today.weekday() - 7, -c.today.weekday()),
    "today": lambda c: c.days(0, 1),
    "yesterday": lambda c: c.days(-1, 0),
    "last hour": lambda c: (c.now - timedelta(hours=1), c.now),
    "last day": lambda c: (c.now - timedelta(days=1), c.now),
    "last 7 days": lambda c: (c.now - timedelta(days=7), c.now),
}
DEFAULT: Final = "last day"


def named(text: str, calendar: Calendar) -> Pair:
    """A day, a part of one, or another window that has a name."""
    words = " ".join(text.split())
    if words in WORDS:
        return WORDS[words](calendar)
    day = day_of(words, calendar.today) or calendar.today
    part = next((hours for name, hours in PARTS.items() if words.endswith(name)), (time(), None))
    return _part(calendar, (day - calendar.today).days, *part)
