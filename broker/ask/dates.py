"""
Days, times of day and moments of a question: today, a weekday, 25 Nov, 25.11.2026, 2026-11-25, 15:30, 3 pm, noon.

What people read in two ways (11/25, 3 o'clock) is none of them. Patterns are for lower-case text.
"""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_ORDINAL: Final = r"(?:st|nd|rd|th)?"
_YEAR: Final = r"(?:,?\s+\d{4}(?![\d:]))?"
#: A date of the calendar.
DATE: Final = (
    r"(?:\d{4}-\d{2}-\d{2}|\d{1,2}\.\d{1,2}\.\d{4}"
    rf"|{MONTH}\.?\s+\d{{1,2}}{_ORDINAL}(?!\d|[:.]\d){_YEAR}"
    rf"|\d{{1,2}}{_ORDINAL}\s+(?:of\s+)?{MONTH}(?![a-z]){_YEAR})"
)
DAY: Final = rf"(?:the\s+)?(?:today|yesterday|(?:last\s+)?(?:{'|'.join(WEEKDAYS)})|{DATE})"
_HALF: Final = r"(?:[ap]m|[ap]\.m\.?)"
TIME: Final = rf"(?:(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:\s*{_HALF})?|\d{{1,2}}\s*{_HALF}|noon)"
_ISO: Final = r"\d{4}-\d{2}-\d{2}[t ]\d{2}:\d{2}(?::\d{2})?(?:z|[+-]\d{2}:\d{2})?"
#: A day with a time of day, in either order, or both as ISO writes them.
MOMENT: Final = rf"(?:{_ISO}|{DAY},?\s+(?:(?:at|around|about)\s+)*{TIME}|{TIME}\s+(?:on\s+)?{DAY})"
#: A moment, a time of day, or a day, which is its begin.
POINT: Final = rf"(?:{MOMENT}|{TIME}|{DAY})"

_DATES: Final = (
    re.compile(r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})"),
    re.compile(r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})"),
    re.compile(rf"(?P<name>{MONTH})\.?\s+(?P<day>\d{{1,2}}){_ORDINAL}(?!\d)(?:,?\s+(?P<year>\d{{4}})(?![\d:]))?"),
    re.compile(
        rf"(?P<day>\d{{1,2}}){_ORDINAL}\s+(?:of\s+)?(?P<name>{MONTH})(?![a-z])(?:,?\s+(?P<year>\d{{4}})(?![\d:]))?"
    ),
)
_CLOCK: Final = re.compile(
    rf"(?<![\d:])(?P<hour>\d{{1,2}})(?::(?P<minute>\d\d)(?::(?P<second>\d\d))?\s*(?P<half>{_HALF})?|\s*(?P<only>{_HALF}))"
)


def day_of(text: str, today: date) -> date | None:
    """
    The day that a text names; None where it names none. A weekday, and a date without a year, is the last one.

    Raises:
        ValueError: there is no such day.
    """
    if "yesterday" in text:
        return today - timedelta(days=1)
    if "today" in text:
        return today
    for place, name in enumerate(WEEKDAYS):
        if name in text:
            return today - timedelta(days=(today.weekday() - place) % 7 or 7)
    match = next((one for pattern in _DATES if (one := pattern.search(text))), None)
    if match is None:
        return None
    told = match.groupdict()
    month = _MONTHS.index(told["name"][:3]) + 1 if told.get("name") else int(told["month"])
    if told["year"]:
        return date(int(told["year"]), month, int(told["day"]))
    day = date(2024, month, int(told["day"]))  # a leap year: 29 February is a day
    year = today.year if (day.month, day.day) <= (today.month, today.day) else today.year - 1
    while (day.month, day.day) == (2, 29) and not isleap(year):
        year -= 1
    return day.replace(year=year)


def clock_of(text: str) -> time | None:
    """
    The time of day that a text names; None where it names none.

    Raises:
        ValueError: there is no such time.
    """
    if "noon" in text:
        return time(12)
    match = _CLOCK.search(text)
    if match is None:
        return None
    hour, minute, second = int(match["hour"]), int(match["minute"] or 0), int(match["second"] or 0)
    half = match["half"] or match["only"]
    if half:
        if not 1 <= hour <= 12:
            raise ValueError("hours before noon and after it go from 1 to 12")
        hour = hour % 12 + (12 if half[0] == "p" else 0)
    return time(hour, minute, second)


def point(
    text: str, zone: ZoneInfo, now: datetime, at: Callable[[date, time], datetime], *, day: date | None = None
) -> datetime:
    """
    One moment, UTC: of a text's own day, else of *day*, else the latest time of day that has passed.

    Raises:
        ValueError: there is no such day or time.
    """
    text = text.strip()
    if re.fullmatch(_ISO, text):
        found = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    today = now.astimezone(zone).date()
    day, clock = day_of(text, today) or day, clock_of(text) or time()
    if day is not None:
        return at(day, clock)
    found = at(today, clock)
    return found if found <= now else at(today - timedelta(days=1), clock)


def week(number: int, year: int | None, today: date) -> tuple[date, date]:
    """
    First day of an ISO week and of the next; without a year the last one that has begun.

    Raises:
        ValueError: the year has no such week.
    """
    begin = date.fromisocalendar(year or today.isocalendar().year, number, 1)
    if year is None and begin > today:
        begin = date.fromisocalendar(today.isocalendar().year - 1, number, 1)
    return begin, begin + timedelta(days=7)
