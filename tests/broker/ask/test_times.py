"""Times that people write: days, shifts, weeks, and the nights in which the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from broker.ask.calendar import Calendar
from broker.ask.parse import parse
from broker.ask.times import find
from schemas.calendar import Window
from schemas.errors import Refused
from schemas.question import Condition, Span
from tests.broker.ask.pump_names import CALENDAR, NAMES, SKID, ask, span


def _at(day: str, clock: str) -> tuple[Span, ...]:
    """The window of a value at a moment: a quarter of an hour before it, and the moment itself."""
    (found,) = span(f"{day}T{clock}", f"{day}T{clock}:00.000001")
    return (found.model_copy(update={"begin": found.end - timedelta(minutes=15, microseconds=1)}),)


WINDOWS = {
    "max Flow on Nov 24": span("24T00:00", "25T00:00"),
    "max Flow on 24 November 2026": span("24T00:00", "25T00:00"),
    "max Flow on the 24th of November": span("24T00:00", "25T00:00"),
    "max Flow on November 24th, 2026": span("24T00:00", "25T00:00"),
    "max Flow 24.11.2026": span("24T00:00", "25T00:00"),
    "max Flow on 25 Nov": span("25T00:00", "25T15:30"),
    "max Flow last Tuesday evening": span("24T18:00", "25T00:00"),
    "max Flow on Nov 24 in the morning": span("24T00:00", "24T12:00"),
    "max Flow in week 47": span("16T00:00", "23T00:00"),
    "max Flow in week 47 of 2026": span("16T00:00", "23T00:00"),
    "max Flow at 3 pm": span("25T14:45", "25T15:15"),
    "max Flow at 3am": span("25T02:45", "25T03:15"),
    "max Flow at 4:30 p.m.": span("24T16:15", "24T16:45"),
    "max Flow at noon": span("25T11:45", "25T12:15"),
    "max Flow on Nov 24 at 3 pm": span("24T14:45", "24T15:15"),
    "max Flow at 15:00 on Nov 24": span("24T14:45", "24T15:15"),
    "max Flow yesterday at 23:00": span("24T22:45", "24T23:15"),
    "max Flow since 3 pm": span("25T15:00", "25T15:30"),
    "max Flow between 10:00 and 11:00 on Nov 24": span("24T10:00", "24T11:00"),
    "max Flow from 20 Nov to 22 Nov": span("20T00:00", "23T00:00"),
    "max Flow from monday to today": span("23T00:00", "25T15:30"),
    "max Flow from 2026-11-20 to 2026-11-22": span("20T00:00", "23T00:00"),
    "max Flow from 2026-11-20T00:00 to 2026-11-22T00:00": span("20T00:00", "22T00:00"),
    "max Flow between 22:00 and 06:00 yesterday": span("24T22:00", "25T06:00"),
    "max Flow in the last 1,5 hours": span("25T14:00", "25T15:30"),
    "what was the Flow at 15:10": _at("25", "15:10"),
    "value of Flow yesterday at 23:00": _at("24", "23:00"),
    "what was the Flow 2 hours ago": _at("25", "13:30"),
    "last value of Flow yesterday": span("24T00:00", "25T00:00"),
    "max Flow since this morning": span("25T00:00", "25T15:30"),
    "max Flow since this morning at 9 am": span("25T09:00", "25T15:30"),
    "max Flow since 9 am this morning": span("25T09:00", "25T15:30"),
    "max Flow since last night": span("24T18:00", "25T15:30"),
    "max Flow since yesterday evening": span("24T18:00", "25T15:30"),
    "max Flow since monday morning": span("23T00:00", "25T15:30"),
    "max Flow since last week": span("16T00:00", "25T15:30"),
    "max Flow since last shift": span("25T06:00", "25T15:30"),
    "max Flow yesterday between 10:00 and 12:00": span("24T10:00", "24T12:00"),
    "max Flow on Nov 24 between 10 am and noon": span("24T10:00", "24T12:00"),
    "max Flow 24.11.2026, from 10:00 till 12:00": span("24T10:00", "24T12:00"),
    "max Flow today from 6 am to 8 am": span("25T06:00", "25T08:00"),
    "max Flow yesterday from 22:00 to 06:00": span("24T22:00", "25T06:00"),
    "max Flow last night from 23:00 to 04:00": span("24T23:00", "25T04:00"),
    "max Flow from 1 am to 4 am last night": span("25T01:00", "25T04:00"),
    "max Flow this morning between 6:00 and 8:00": span("25T06:00", "25T08:00"),
    "max Flow today since 06:00": span("25T06:00", "25T15:30"),
    "max Flow yesterday since 06:00": span("24T06:00", "25T15:30"),
    "max Flow this morning at 9 am": span("25T08:45", "25T09:15"),
    "max Flow at 9 am this morning": span("25T08:45", "25T09:15"),
    "max Flow at around 2 am last night": span("25T01:45", "25T02:15"),
    "max Flow last night at 23:00": span("24T22:45", "24T23:15"),
    "max Flow yesterday at around 15:00": span("24T14:45", "24T15:15"),
    "max Flow at about 15:00 yesterday": span("24T14:45", "24T15:15"),
    "max Flow at around 15:00": span("25T14:45", "25T15:15"),
    "max Flow at 2026-11-24 10:00+01:00": span("24T09:45", "24T10:15"),
    "max Flow from monday to today at 10:00": span("23T00:00", "25T10:00"),
    "max Flow in the last two days": span("23T15:30", "25T15:30"),
    "max Flow over the past twelve hours": span("25T03:30", "25T15:30"),
    "max Flow in the last half hour": span("25T15:00", "25T15:30"),
    "max Flow in the last hour and a half": span("25T14:00", "25T15:30"),
    "max Flow an hour ago": span("25T14:15", "25T14:45"),
    "max Flow half an hour ago": span("25T14:45", "25T15:15"),
    "max Flow three days ago": span("22T15:15", "22T15:45"),
}


@pytest.mark.parametrize("question", WINDOWS)
def test_times_that_people_write(question: str) -> None:
    """Days and times of day in the usual spellings; without a year the last one that has begun."""
    found = parse(question, NAMES, CALENDAR)
    assert found.query.windows == WINDOWS[question]
    assert found.notes == ()


def test_a_date_without_a_year_has_passed() -> None:
    """What would lie ahead is that of the year before; 29 February that of the last leap year."""
    calendar = Calendar(ZoneInfo("UTC"), datetime(2027, 2, 1, tzinfo=UTC))
    for words, want in (("30 nov", (2026, 11, 30)), ("feb 1", (2027, 2, 1)), ("29 february", (2024, 2, 29))):
        assert find(f"max flow on {words}", Calendar(calendar.zone, calendar.now + timedelta(hours=1))).spans[
            0
        ].begin == datetime(*want, tzinfo=UTC)
    assert find("in week 50", calendar).spans[0].begin == datetime(2026, 12, 7, tzinfo=UTC)


def test_a_decimal_comma_is_one() -> None:
    """60,5 is between 60 and 61; what may be a thousand is refused."""
    assert ask("how often did Flow exceed 60,5 today").condition == Condition(comparison="above", value=60.5)
    with pytest.raises(Refused, match="1,000 can be read in two ways"):
        ask("how often did Flow exceed 1,000 today")


@pytest.mark.parametrize(
    ("day", "hours"), [(datetime(2026, 3, 29, 20, tzinfo=UTC), 23), (datetime(2026, 10, 25, 20, tzinfo=UTC), 25)]
)
def test_a_day_on_which_the_clock_changes(day: datetime, hours: int) -> None:
    """The day before such a day's end is as long as it was at the site."""
    calendar = Calendar(ZoneInfo("Europe/Paris"), day.replace(day=day.day + 1))
    (span,) = find("yesterday", calendar).spans
    assert (span.end - span.begin).total_seconds() == hours * 3600


@pytest.mark.parametrize(
    ("words", "now", "hours"),
    [
        ("from 22:00 on 24 oct to 06:00", datetime(2026, 10, 26, tzinfo=UTC), 9),
        ("24 oct from 22:00 to 06:00", datetime(2026, 10, 26, tzinfo=UTC), 9),
        ("between 22:00 and 06:00", datetime(2026, 10, 25, 8, tzinfo=UTC), 9),
        ("from 22:00 on 28 mar to 06:00", datetime(2026, 3, 30, tzinfo=UTC), 7),
    ],
)
def test_a_night_in_which_the_clock_changes(words: str, now: datetime, hours: int) -> None:
    """It ends at six at the site."""
    (span,) = find(words, Calendar(ZoneInfo("Europe/Paris"), now)).spans
    assert span.end.astimezone(CALENDAR.zone).hour == 6
    assert (span.end - span.begin).total_seconds() == hours * 3600


def _shift(name: str, start_h: int, hours: int, days: tuple[int, ...], *paths: str) -> Window:
    return Window(
        name=name,
        kind="shift",
        paths=paths,
        days=days,
        start_min=60 * start_h,
        minutes=60 * hours,
        timezone="Europe/Paris",
    )


WEEK = (
    _shift("pump house", 5, 12, (0, 1, 2, 3, 4), f"{SKID}/P101"),
    _shift("early", 7, 8, (0, 1, 2, 3, 4), f"{SKID}/M1"),
    _shift("late", 15, 8, (0, 1, 2), f"{SKID}/M1"),
)


@pytest.mark.parametrize(
    ("question", "now", "want"),
    [
        ("max Flow of P101 this shift", "25T15:30", ("25T05:00", "25T15:30")),
        ("max Flow of P101 last shift", "25T15:30", ("24T05:00", "24T17:00")),
        ("max Current this shift", "25T15:30", ("25T15:00", "25T15:30")),
        ("max Current last shift", "25T15:30", ("25T07:00", "25T15:00")),
        ("max Current last shift", "28T12:00", ("27T07:00", "27T15:00")),
        ("max Current this shift", "28T12:00", "no shift of the map's calendar runs now"),
        ("max BearingTemp of P102 last shift", "25T15:30", "no shift of the map's calendar covers"),
    ],
)
def test_shifts_are_those_of_the_map(question: str, now: str, want: tuple[str, str] | str) -> None:
    """The equipment's own windows of the calendar; the last one before a weekend; none is said."""
    at = datetime.fromisoformat(f"2026-11-{now}").replace(tzinfo=CALENDAR.zone)
    calendar = Calendar(CALENDAR.zone, at, WEEK)
    if isinstance(want, str):
        with pytest.raises(Refused, match=want):
            parse(question, NAMES, calendar)
    else:
        assert parse(question, NAMES, calendar).query.windows == span(*want)


def test_a_calendar_week_has_a_blank() -> None:
    """What is written together is a name, known or not."""
    assert ask("max Flow in cw 47").windows == span("16T00:00", "23T00:00")
    with pytest.raises(Refused, match="'CW47' was read as nothing"):
        ask("max Flow of P101 on CW47")
