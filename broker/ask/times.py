"""
Time words of a question as windows: today, last shift, last 3 hours, since 06:00, between two times, a date.

Words mean the site's time zone. A window never reaches beyond now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from schemas.calendar import Window
from schemas.errors import Refused
from schemas.question import Span

_UNITS: Final = {
    "second": timedelta(seconds=1),
    "sec": timedelta(seconds=1),
    "s": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "h": timedelta(hours=1),
    "day": timedelta(days=1),
    "d": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_UNIT: Final = r"(seconds?|sec|s|minutes?|min|hours?|h|days?|d|weeks?)"
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ISO: Final = r"\d{4}-\d{2}-\d{2}(?:[t ]\d{2}:\d{2}(?::\d{2})?(?:z|[+-]\d{2}:\d{2})?)?"
_CLOCK: Final = r"(?:[01]?\d|2[0-3]):[0-5]\d"
_POINT: Final = rf"(?:{_ISO}|(?:(?:today|yesterday)\s+)?{_CLOCK}(?:\s+(?:today|yesterday))?|yesterday|today)"
_MORNING, _NOON, _EVENING = time(0), time(12), time(18)
#: A single moment is asked about with so much before and after it.
_AROUND: Final = timedelta(minutes=15)


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


def _point(text: str, calendar: Calendar, *, day: date | None = None) -> datetime:
    """One moment: ISO, a time of day (of *day*, else the latest that has passed), today or yesterday."""
    text = text.strip()
    if re.fullmatch(_ISO, text):
        found = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=calendar.zone)).astimezone(UTC)
    clock = re.search(_CLOCK, text)
    moment = time.fromisoformat(clock[0].zfill(5)) if clock else time()
    if "yesterday" in text:
        day = calendar.today - timedelta(days=1)
    elif "today" in text:
        day = calendar.today
    if day is None:
        at = calendar.at(calendar.today, moment)
        return at if at <= calendar.now else calendar.at(calendar.today - timedelta(days=1), moment)
    return calendar.at(day, moment)


def _between(match: re.Match[str], calendar: Calendar) -> Pair:
    begin_text, end_text = match[1], match[2]
    day = calendar.today - timedelta(days=1) if "yesterday" in match[0] else None
    if re.match(r"\d{4}-", begin_text) and not re.match(r"\d{4}-", end_text):
        day = date.fromisoformat(begin_text[:10])
    begin = _point(begin_text, calendar, day=day)
    if day is None:
        day = begin.astimezone(calendar.zone).date()
    end = _point(end_text, calendar, day=day)
    # from 22:00 to 06:00 runs over midnight
    return begin, end if end > begin else end + timedelta(days=1)


def _since(match: re.Match[str], calendar: Calendar) -> Pair:
    return _point(match[1], calendar), calendar.now


def _last(match: re.Match[str], calendar: Calendar) -> Pair:
    number = float(match[1] or 1)
    unit = match[2] if match[2] in _UNITS else match[2].removesuffix("s")
    try:
        return calendar.now - number * _UNITS[unit], calendar.now
    except OverflowError:
        raise Refused(f"{match[0]!r} is longer than any store") from None


def _ago(match: re.Match[str], calendar: Calendar) -> Pair:
    begin, _ = _last(match, calendar)
    return begin - _AROUND, begin + _AROUND


def _weekday(match: re.Match[str], calendar: Calendar) -> Pair:
    back = (calendar.today.weekday() - _WEEKDAYS.index(match[1])) % 7 or 7
    return calendar.days(-back, 1 - back)


def _day(match: re.Match[str], calendar: Calendar) -> Pair:
    at = _point(match[1], calendar)
    if len(match[1]) > len("2026-01-01"):
        return at - _AROUND, at + _AROUND
    return at, calendar.at(at.astimezone(calendar.zone).date() + timedelta(days=1))


def _at(match: re.Match[str], calendar: Calendar) -> Pair:
    at = _point(match[1], calendar)
    return at - _AROUND, at + _AROUND


def _word(window: Callable[[Calendar], Pair]) -> Callable[[re.Match[str], Calendar], Pair]:
    return lambda _, calendar: window(calendar)


_LEAD: Final = r"(?:\b(?:in|over|during|within|of|for)\s+)?(?:\bthe\s+)?"
#: In the order in which they are looked for: what could be part of something longer comes later.
_PATTERNS: Final[Sequence[tuple[re.Pattern[str], Callable[[re.Match[str], Calendar], Pair]]]] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (
            rf"\b(?:between|from)\s+({_POINT})\s+(?:and|to|until|till)\s+({_POINT})(?:\s+(?:today|yesterday))?(?![\w:])",
            _between,
        ),
        (rf"\bsince\s+({_POINT})(?![\w:])", _since),
        (rf"\b(\d{{1,6}}(?:\.\d+)?)\s*{_UNIT}\s+ago\b", _ago),
        (rf"{_LEAD}\b(?:last|past|previous)\s+(\d{{1,6}}(?:\.\d+)?)\s*{_UNIT}\b", _last),
        (rf"{_LEAD}\b(?:last|past|previous)\s+()(minute|hour|day)\b", _last),
        (
            rf"\b(?:at|around|about)\s+((?:(?:today|yesterday)\s+)?{_CLOCK}(?:\s+(?:today|yesterday))?|{_ISO})(?![\w:])",
            _at,
        ),
        *((_LEAD + r"\b" + word.replace(" ", r"\s+") + r"\b", _word(window)) for word, window in WORDS.items()),
        (rf"(?:\bon\s+)?\b(?:last\s+)?({'|'.join(_WEEKDAYS)})\b", _weekday),
        (rf"(?:\bon\s+)?\b({_ISO})(?![\w:])", _day),
    )
)


@dataclass(frozen=True, slots=True)
class Found:
    """Windows in the order in which they stand in the text, and the text without them."""

    spans: tuple[Span, ...]
    rest: str


def find(text: str, calendar: Calendar) -> Found:
    """
    Time words of a lower-case text. A window that has not ended ends now. The rest has the length of the text.

    Raises:
        Refused: a time that does not exist, that lies in the future, or more than two windows.
    """
    taken: list[tuple[int, Pair, str]] = []
    for pattern, make in _PATTERNS:
        while (match := pattern.search(text)) is not None:
            words = match[0].strip()
            try:
                taken.append((match.start(), make(match, calendar), words))
            except (ValueError, OverflowError) as error:
                raise Refused(f"{words!r} is not a time: {error}") from None
            text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    if len(taken) > 2:
        raise Refused(f"{len(taken)} times are named; ask about one, or compare two")
    return Found(tuple(window(pair, calendar, words) for _, pair, words in sorted(taken)), text)


def window(pair: Pair, calendar: Calendar, words: str) -> Span:
    """A window cut at the present moment. Raises Refused where nothing is left."""
    begin, end = pair[0].astimezone(UTC), min(pair[1], calendar.now).astimezone(UTC)
    if begin >= end:
        raise Refused(f"{words!r} has not begun yet")
    try:
        return Span(begin=begin, end=end)
    except ValueError as error:
        raise Refused(f"{words!r} is out of range") from error
