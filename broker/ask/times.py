"""
Time words of a question as windows: today, last shift, last 3 hours, since 06:00, between two times, a day.

Words mean the site's time zone. A window never reaches beyond now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from broker.ask import dates
from broker.ask.calendar import PARTS, WORDS, Calendar, Pair, named
from broker.ask.dates import DAY, MOMENT, POINT, TIME
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
_WORDS_OF_NUMBERS: Final = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_NUMBER: Final = rf"(?:\d{{1,6}}(?:[.,]\d+)?\s*|(?:half(?:\s+an?)?|an?|{'|'.join(_WORDS_OF_NUMBERS)})\s+)"
#: A single moment is asked about with so much before and after it.
AROUND: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Moment:
    """A single moment, UTC; what happened is asked about so much before and after it."""

    at: datetime


def _point(text: str, calendar: Calendar, *, day: date | None = None) -> datetime:
    return dates.point(text, calendar.zone, calendar.now, calendar.at, day=day)


def _between(match: re.Match[str], calendar: Calendar) -> Pair:
    begin_text, end_text = match[1], match[2]
    own = dates.day_of(end_text, calendar.today)
    begins_on = dates.day_of(begin_text, calendar.today)
    # from 22:00 to 06:00 today has begun yesterday
    day = own if own != calendar.today and begins_on is None else None
    begin = _point(begin_text, calendar, day=day)
    end = _point(end_text, calendar, day=begin.astimezone(calendar.zone).date())
    if own is not None and dates.clock_of(end_text) is None:  # a day alone: all of it
        end = calendar.at(own + timedelta(days=1))
    if end <= begin and own is not None and begins_on is not None:
        raise ValueError("it ends before it begins; write the year where it is not this one")
    # from 22:00 to 06:00 runs over midnight
    return begin, end if end > begin else _next_day(end, calendar)


def _next_day(at: datetime, calendar: Calendar) -> datetime:
    """The same time of day at the site a day later, which is not 24 hours where the clock changes."""
    local = at.astimezone(calendar.zone)
    return calendar.at(local.date() + timedelta(days=1), local.time())


def _since(match: re.Match[str], calendar: Calendar) -> Pair:
    return _point(match[1], calendar), calendar.now


def _since_begin(match: re.Match[str], calendar: Calendar) -> Pair:
    return named(match["named"], calendar)[0], calendar.now


def _inside(clock: str, window_words: str, calendar: Calendar) -> datetime:
    """
    The time of day within a window of a day at most.

    Raises:
        ValueError: it is not in it.
    """
    begin, end = named(window_words, calendar)
    day = begin.astimezone(calendar.zone).date()
    for one in (day, day + timedelta(days=1)):
        if begin <= (found := _point(clock, calendar, day=one)) < end:
            return found
    raise ValueError(f"{clock.strip()} is not in it")


def _between_inside(match: re.Match[str], calendar: Calendar) -> Pair:
    begin = _inside(match["begin"], match["named"], calendar)
    end = _point(match["end"], calendar, day=begin.astimezone(calendar.zone).date())
    return begin, end if end > begin else _next_day(end, calendar)


def _since_inside(match: re.Match[str], calendar: Calendar) -> Pair:
    return _inside(match["begin"], match["named"], calendar), calendar.now


def _at_inside(match: re.Match[str], calendar: Calendar) -> Moment:
    return Moment(_inside(match["begin"], match["named"], calendar))


def _of_which_day(_match: re.Match[str], _calendar: Calendar) -> Pair:
    raise ValueError("the time may be of one day or of both; write it with each")


def _number(text: str) -> float:
    if text.startswith("half"):
        return 0.5
    if text in _WORDS_OF_NUMBERS:
        return _WORDS_OF_NUMBERS.index(text) + 1
    return float(text.replace(",", ".")) if text[:1].isdigit() else 1


def _last(match: re.Match[str], calendar: Calendar) -> Pair:
    number = _number(match[1].strip()) + (0.5 if match[3] else 0)
    unit = match[2] if match[2] in _UNITS else match[2].removesuffix("s")
    try:
        return calendar.now - number * _UNITS[unit], calendar.now
    except OverflowError:
        raise Refused(f"{match[0]!r} is longer than any store") from None


def _ago(match: re.Match[str], calendar: Calendar) -> Moment:
    return Moment(_last(match, calendar)[0])


def _at(match: re.Match[str], calendar: Calendar) -> Moment:
    return Moment(_point(match[1], calendar))


def _day(match: re.Match[str], calendar: Calendar) -> Pair:
    return named(match["named"], calendar)


def _week(match: re.Match[str], calendar: Calendar) -> Pair:
    begin, end = dates.week(int(match[1]), int(match[2]) if match[2] else None, calendar.today)
    return calendar.at(begin), calendar.at(end)


def _word(window: Callable[[Calendar], Pair]) -> Callable[[re.Match[str], Calendar], Pair]:
    return lambda _, calendar: window(calendar)


_LEAD: Final = r"(?:\b(?:in|over|during|within|of|for)\s+)?(?:\bthe\s+)?"
#: Windows in which a time of day is one moment, beside the whole day.
_PART: Final = (
    rf"(?:{DAY}\s+(?:in\s+the\s+)?(?:{'|'.join(PARTS)})"
    r"|this\s+(?:morning|afternoon|evening)|tonight|last\s+night)"
)
_NAMED: Final = rf"(?:\bon\s+)?(?<![\w.:-])(?P<named>{_PART}|{DAY})"
_OF_A_PART: Final = rf"\s+(?:(?:on|of|in|during)\s+)?(?P<named>{_PART})\b"
_FROM_TO: Final = rf"(?:between|from)\s+(?P<begin>{TIME})\s+(?:and|to|until|till)\s+(?P<end>{TIME})"
_AT: Final = r"(?:\b(?:at|around|about)\s+)"
_DAYS: Final = rf"{_NAMED},?\s+(?:and|or|with|vs\.?|versus)\s+(?:{_PART}|{DAY}),?\s+"
#: In the order in which they are looked for: what could be part of something longer comes later.
_WRITTEN: Final[Sequence[tuple[str, Callable[[re.Match[str], Calendar], Pair | Moment]]]] = (
    (rf"{_DAYS}(?:{_FROM_TO}|since\s+{TIME})(?![\w:])", _of_which_day),
    (rf"{_NAMED},?\s+{_FROM_TO}(?![\w:])", _between_inside),
    (rf"\b{_FROM_TO}{_OF_A_PART}", _between_inside),
    (rf"{_NAMED},?\s+since\s+(?P<begin>{TIME})(?![\w:])", _since_inside),
    (rf"\bsince\s+(?P<begin>{TIME}){_OF_A_PART}", _since_inside),
    (rf"\b(?:between|from)\s+({POINT})\s+(?:and|to|until|till)\s+({POINT})(?![\w:])", _between),
    (rf"\bsince\s+(?P<named>{_PART}),?\s+{_AT}*(?P<begin>{TIME})(?![\w:])", _since_inside),
    (rf"\bsince\s+(?:the\s+)?(?P<named>{_PART}|(?:this|last)\s+week|(?:this|last|previous)\s+shift)\b", _since_begin),
    (rf"\bsince\s+({POINT})(?![\w:])", _since),
    (rf"\b({_NUMBER}){_UNIT}()\s+ago\b", _ago),
    (rf"{_LEAD}\b(?:last|past|previous)\s+({_NUMBER}){_UNIT}(\s+and\s+a\s+half)?\b", _last),
    (rf"{_LEAD}\b(?:last|past|previous)\s+()(minute|hour|day)(\s+and\s+a\s+half)?\b", _last),
    (rf"{_DAYS}{_AT}+{TIME}(?![\w:])", _of_which_day),
    (rf"(?:\bon\s+)?\b(?P<named>{_PART}),?\s+{_AT}*(?P<begin>{TIME})(?![\w:])", _at_inside),
    (rf"{_AT}*(?<![\w.:-])(?P<begin>{TIME}){_OF_A_PART}", _at_inside),
    (rf"(?:\b(?:on|at|around|about)\s+)*(?<![\w.:-])({MOMENT})(?![\w:])", _at),
    (rf"\b{_AT}+({TIME})(?![\w:])", _at),
    (rf"(?:\bon\s+)?\b(?P<named>{DAY}\s+(?:in\s+the\s+)?(?:{'|'.join(PARTS)}))\b", _day),
    *((_LEAD + r"\b" + word.replace(" ", r"\s+") + r"\b", _word(window)) for word, window in WORDS.items()),
    (rf"(?:\b(?:on|at)\s+)?(?<![\w.:-])(?P<named>{DAY})(?![\w:])", _day),
    (
        rf"{_LEAD}(?<![\w/])(?:calendar\s+)?(?:week\s*|cw\s+)(\d{{1,2}})(?:\s+(?:of\s+)?(\d{{4}}))?(?![\w:/])",
        _week,
    ),
)
_PATTERNS: Final = tuple((re.compile(pattern), make) for pattern, make in _WRITTEN)


@dataclass(frozen=True, slots=True)
class Found:
    """
    Windows in the order in which they stand in the text, and the text without them.

    ``moments`` has, for each window around a single moment, that moment, else None.
    """

    spans: tuple[Span, ...]
    moments: tuple[datetime | None, ...]
    rest: str


def find(text: str, calendar: Calendar) -> Found:
    """
    Time words of a lower-case text. A window that has not ended ends now. The rest has the length of the text.

    Raises:
        Refused: a time that does not exist, that lies in the future, or more than two windows.
    """
    taken: list[tuple[int, Span, datetime | None]] = []
    for pattern, make in _PATTERNS:
        while (match := pattern.search(text)) is not None:
            words = match[0].strip()
            try:
                made = make(match, calendar)
            except (ValueError, OverflowError) as error:
                raise Refused(f"{words!r} is not a time: {error}") from None
            at = made.at if isinstance(made, Moment) else None
            if at is not None and at > calendar.now:
                raise Refused(f"{words!r} has not begun yet")
            pair = made if not isinstance(made, Moment) else (made.at - AROUND, made.at + AROUND)
            taken.append((match.start(), window(pair, calendar, words), at))
            text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    if len(taken) > 2:
        raise Refused(f"{len(taken)} times are named; ask about one, or compare two")
    taken.sort(key=lambda one: one[0])
    return Found(tuple(span for _, span, _ in taken), tuple(at for _, _, at in taken), text)


def window(pair: Pair, calendar: Calendar, words: str) -> Span:
    """A window cut at the present moment. Raises Refused where nothing is left."""
    begin, end = pair[0].astimezone(UTC), min(pair[1], calendar.now).astimezone(UTC)
    if begin >= end:
        raise Refused(f"{words!r} has not begun yet")
    try:
        return Span(begin=begin, end=end)
    except ValueError as error:
        raise Refused(f"{words!r} is out of range") from error
