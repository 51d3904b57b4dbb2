"""Questions of the common forms as typed queries; what is not understood says why, with the nearest names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.ask.calendar import WORDS, Calendar
from broker.ask.names import Names
from broker.ask.parse import NotUnderstood, parse
from broker.ask.times import find
from broker.store.rows.records import TagRow
from schemas.calendar import Window
from schemas.errors import Refused
from schemas.question import Condition, Query, Span

SKID = "Acme/Lyon/Utilities/Skid1"


def _tag(
    number: int, path: str, unit: str = "1", role: str | None = None, enum: dict[int, str] | None = None
) -> TagRow:
    owner = path.rsplit("/", 1)[0]
    return TagRow(number, f"t{number}", path, "plc", "a", None, unit, role, owner, None, None, enum, "", True)


NAMES = Names(
    [
        _tag(1, f"{SKID}/P101/BearingTemp", "Cel"),
        _tag(2, f"{SKID}/P101/MotorPower", "kW"),
        _tag(3, f"{SKID}/P102/BearingTemp", "Cel"),
        _tag(4, f"{SKID}/P101/Flow", "m3/h"),
        _tag(5, f"{SKID}/P101/State", role="state", enum={1: "Running", 2: "Tripped", 3: "Stopped"}),
        _tag(6, f"{SKID}/M1/Current", "A"),
        _tag(7, f"{SKID}/M1/Leak", "mA"),
        _tag(8, f"{SKID}/M1/Gap", "mm"),
        _tag(9, f"{SKID}/M1/Lag", "s"),
        _tag(10, f"{SKID}/M1/Beam", "mW"),
    ]
)
#: Wednesday, 15:30 in Paris.
CALENDAR = Calendar(ZoneInfo("Europe/Paris"), datetime(2026, 11, 25, 14, 30, tzinfo=UTC))


def _span(begin: str, end: str) -> tuple[Span, ...]:
    zone = CALENDAR.zone
    return (
        Span(
            begin=datetime.fromisoformat(f"2026-11-{begin}").replace(tzinfo=zone).astimezone(UTC),
            end=datetime.fromisoformat(f"2026-11-{end}").replace(tzinfo=zone).astimezone(UTC),
        ),
    )


def ask(question: str) -> Query:
    return parse(question, NAMES, CALENDAR).query


QUESTIONS = {
    "why did P101 trip this morning?": Query(
        form="why",
        equipment=(f"{SKID}/P101",),
        windows=_span("25T00:00", "25T12:00"),
        condition=Condition(comparison="equals", value=2, state="Tripped"),
    ),
    "what happened to P-101 yesterday": Query(
        form="what", equipment=(f"{SKID}/P101",), windows=_span("24T00:00", "25T00:00")
    ),
    "Max bearing temperature of P101 today": Query(
        form="value", aggregate="max", tags=(f"{SKID}/P101/BearingTemp",), windows=_span("25T00:00", "25T15:30")
    ),
    "what was the lowest motor power during the last shift?": Query(
        form="value", aggregate="min", tags=(f"{SKID}/P101/MotorPower",), windows=_span("25T06:00", "25T14:00")
    ),
    "last value of Acme/Lyon/Utilities/Skid1/P102/BearingTemp in the last 2 hours": Query(
        form="value", aggregate="last", tags=(f"{SKID}/P102/BearingTemp",), windows=_span("25T13:30", "25T15:30")
    ),
    "mean Current of M1 since 06:00": Query(
        form="value", aggregate="mean", tags=(f"{SKID}/M1/Current",), windows=_span("25T06:00", "25T15:30")
    ),
    "how often did P101 trip between 22:00 and 06:00": Query(
        form="count",
        tags=(f"{SKID}/P101/State",),
        windows=_span("24T22:00", "25T06:00"),
        condition=Condition(comparison="equals", value=2, state="Tripped"),
    ),
    "how often did the flow of P101 exceed 40.5 m3/h on 2026-11-24?": Query(
        form="count",
        tags=(f"{SKID}/P101/Flow",),
        windows=_span("24T00:00", "25T00:00"),
        condition=Condition(comparison="above", value=40.5),
    ),
    "when did BearingTemp of P102 first go below 20 °C on monday": Query(
        form="first",
        tags=(f"{SKID}/P102/BearingTemp",),
        windows=_span("23T00:00", "24T00:00"),
        condition=Condition(comparison="below", value=20),
    ),
    "compare bearing temp of P101 and P102 from 2026-11-24T10:00 to 2026-11-24T12:00": Query(
        form="compare",
        tags=(f"{SKID}/P101/BearingTemp", f"{SKID}/P102/BearingTemp"),
        windows=_span("24T10:00", "24T12:00"),
    ),
    "compare flow today with yesterday": Query(
        form="compare",
        tags=(f"{SKID}/P101/Flow",),
        windows=(*_span("25T00:00", "25T15:30"), *_span("24T00:00", "25T00:00")),
    ),
    "why did P101 stop 2 hours ago": Query(
        form="why",
        equipment=(f"{SKID}/P101",),
        windows=_span("25T13:15", "25T13:45"),
        condition=Condition(comparison="equals", value=3, state="Stopped"),
    ),
    "explain the bearing temp of P102 at 07:15": Query(
        form="why",
        equipment=(f"{SKID}/P102",),
        tags=(f"{SKID}/P102/BearingTemp",),
        windows=_span("25T07:00", "25T07:30"),
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_common_forms(question: str) -> None:
    """Form, names, window in the site's zone, aggregate and limit are those that a person would mean."""
    assert ask(question) == QUESTIONS[question]


@pytest.mark.parametrize(
    "limit", ["5", "5 A", "5 a", "5a", "5 amps", "5 on M1", "5 in M1", "5 in the last shift", "5 a day", "5 this week"]
)
def test_word_behind_a_limit_that_is_no_other_unit(limit: str) -> None:
    """The tag's own unit however it is written, and words that are no unit where they stand."""
    assert ask(f"how often did Current exceed {limit}").condition == Condition(comparison="above", value=5)


def _at(day: str, clock: str) -> tuple[Span, ...]:
    """The window of a value at a moment: a quarter of an hour before it, and the moment itself."""
    (found,) = _span(f"{day}T{clock}", f"{day}T{clock}:00.000001")
    return (found.model_copy(update={"begin": found.end - timedelta(minutes=15, microseconds=1)}),)


WINDOWS = {
    "max Flow on Nov 24": _span("24T00:00", "25T00:00"),
    "max Flow on 24 November 2026": _span("24T00:00", "25T00:00"),
    "max Flow on the 24th of November": _span("24T00:00", "25T00:00"),
    "max Flow on November 24th, 2026": _span("24T00:00", "25T00:00"),
    "max Flow 24.11.2026": _span("24T00:00", "25T00:00"),
    "max Flow on 25 Nov": _span("25T00:00", "25T15:30"),
    "max Flow last Tuesday evening": _span("24T18:00", "25T00:00"),
    "max Flow on Nov 24 in the morning": _span("24T00:00", "24T12:00"),
    "max Flow in week 47": _span("16T00:00", "23T00:00"),
    "max Flow in week 47 of 2026": _span("16T00:00", "23T00:00"),
    "max Flow at 3 pm": _span("25T14:45", "25T15:15"),
    "max Flow at 3am": _span("25T02:45", "25T03:15"),
    "max Flow at 4:30 p.m.": _span("24T16:15", "24T16:45"),
    "max Flow at noon": _span("25T11:45", "25T12:15"),
    "max Flow on Nov 24 at 3 pm": _span("24T14:45", "24T15:15"),
    "max Flow at 15:00 on Nov 24": _span("24T14:45", "24T15:15"),
    "max Flow yesterday at 23:00": _span("24T22:45", "24T23:15"),
    "max Flow since 3 pm": _span("25T15:00", "25T15:30"),
    "max Flow between 10:00 and 11:00 on Nov 24": _span("24T10:00", "24T11:00"),
    "max Flow from 20 Nov to 22 Nov": _span("20T00:00", "23T00:00"),
    "max Flow from monday to today": _span("23T00:00", "25T15:30"),
    "max Flow from 2026-11-20 to 2026-11-22": _span("20T00:00", "23T00:00"),
    "max Flow from 2026-11-20T00:00 to 2026-11-22T00:00": _span("20T00:00", "22T00:00"),
    "max Flow between 22:00 and 06:00 yesterday": _span("24T22:00", "25T06:00"),
    "max Flow in the last 1,5 hours": _span("25T14:00", "25T15:30"),
    "what was the Flow at 15:10": _at("25", "15:10"),
    "value of Flow yesterday at 23:00": _at("24", "23:00"),
    "what was the Flow 2 hours ago": _at("25", "13:30"),
    "last value of Flow yesterday": _span("24T00:00", "25T00:00"),
    "max Flow since this morning": _span("25T00:00", "25T15:30"),
    "max Flow since this morning at 9 am": _span("25T09:00", "25T15:30"),
    "max Flow since 9 am this morning": _span("25T09:00", "25T15:30"),
    "max Flow since last night": _span("24T18:00", "25T15:30"),
    "max Flow since yesterday evening": _span("24T18:00", "25T15:30"),
    "max Flow since monday morning": _span("23T00:00", "25T15:30"),
    "max Flow since last week": _span("16T00:00", "25T15:30"),
    "max Flow since last shift": _span("25T06:00", "25T15:30"),
    "max Flow yesterday between 10:00 and 12:00": _span("24T10:00", "24T12:00"),
    "max Flow on Nov 24 between 10 am and noon": _span("24T10:00", "24T12:00"),
    "max Flow 24.11.2026, from 10:00 till 12:00": _span("24T10:00", "24T12:00"),
    "max Flow today from 6 am to 8 am": _span("25T06:00", "25T08:00"),
    "max Flow yesterday from 22:00 to 06:00": _span("24T22:00", "25T06:00"),
    "max Flow last night from 23:00 to 04:00": _span("24T23:00", "25T04:00"),
    "max Flow from 1 am to 4 am last night": _span("25T01:00", "25T04:00"),
    "max Flow this morning between 6:00 and 8:00": _span("25T06:00", "25T08:00"),
    "max Flow today since 06:00": _span("25T06:00", "25T15:30"),
    "max Flow yesterday since 06:00": _span("24T06:00", "25T15:30"),
    "max Flow this morning at 9 am": _span("25T08:45", "25T09:15"),
    "max Flow at 9 am this morning": _span("25T08:45", "25T09:15"),
    "max Flow at around 2 am last night": _span("25T01:45", "25T02:15"),
    "max Flow last night at 23:00": _span("24T22:45", "24T23:15"),
    "max Flow yesterday at around 15:00": _span("24T14:45", "24T15:15"),
    "max Flow at about 15:00 yesterday": _span("24T14:45", "24T15:15"),
    "max Flow at around 15:00": _span("25T14:45", "25T15:15"),
    "max Flow at 2026-11-24 10:00+01:00": _span("24T09:45", "24T10:15"),
    "max Flow from monday to today at 10:00": _span("23T00:00", "25T10:00"),
    "max Flow in the last two days": _span("23T15:30", "25T15:30"),
    "max Flow over the past twelve hours": _span("25T03:30", "25T15:30"),
    "max Flow in the last half hour": _span("25T15:00", "25T15:30"),
    "max Flow in the last hour and a half": _span("25T14:00", "25T15:30"),
    "max Flow an hour ago": _span("25T14:15", "25T14:45"),
    "max Flow half an hour ago": _span("25T14:45", "25T15:15"),
    "max Flow three days ago": _span("22T15:15", "22T15:45"),
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
    "question",
    [
        "show me all problems of P101 today",
        "Were there any anomalies on P101 today?",
        "is there an alarm on P101 today",
        "list the episodes of P101 today",
        "show me what happened to P101 today",
        "show me the latest alarms of P101 today",
    ],
)
def test_what_happened_is_asked_in_several_ways(question: str) -> None:
    """Lists of episodes, and whether there are any."""
    found = parse(question, NAMES, CALENDAR)
    assert (found.query.form, found.query.equipment, found.notes) == ("what", (f"{SKID}/P101",), ())


def test_when_it_was_highest_asks_for_the_extreme() -> None:
    """The answer to that has the time of the record; when it was first above a limit is another form."""
    assert ask("when was the Flow highest today").aggregate == "max"
    assert ask("when was the Flow first above 5 today").form == "first"
    assert ask("since when has P101 been stopped").form == "first"


def test_the_unit_of_the_tag_may_be_said() -> None:
    """It has a digit, and is no number that was left out."""
    assert ask("what is the Flow in m3/h at 15:10").aggregate == "last"
    assert ask("max Flow today in m³/h").aggregate == "max"


def test_a_deviation_may_have_happened() -> None:
    """What is no figure here is a thing to ask why of."""
    assert ask("why was there a deviation of Flow today").form == "why"


REFUSED = {
    "max Flow in march": "'march' is no time",
    "max Flow on 11/24": "'11/24' is no time .* 25 Nov, 25.11.2026, 2026-11-25, week 47",
    "max Flow at 3 o'clock": "o'clock.? is no time",
    "max Flow on the 24th": "'24th' is no time",
    "max Flow next week": "'next' is no time",
    "max Flow at 15 pm": "'at 15 pm' is not a time: hours before noon",
    "max Flow on 31.11.2026": "is not a time: day",
    "max Flow on 26.11.2026": "has not begun yet",
    "what was Flow today at 15:40": "has not begun yet",
    "max Flow in week 54": "is not a time",
    "max Flow from 24 Nov to 20 Nov": "ends before it begins",
    "max Flow this morning at 15:00": "'this morning at 15:00' is not a time: 15:00 is not in it",
    "max Flow yesterday evening from 8:00 to 22:00": "8:00 is not in it",
    "max Flow since this evening": "'since this evening' has not begun yet",
    "compare Flow today and yesterday between 10:00 and 12:00": "of one day or of both; write it with each",
    "compare Flow today with yesterday at 10:00": "of one day or of both; write it with each",
    "max Flow in the last few hours": "'hours' is no time",
    "max Flow from 10:00 until now": "'10:00' is no time",
    "how often was Flow not above 38": "'not' cannot be asked here",
    "how often was Flow at most 38": "'most' cannot be asked here",
    "How often was Flow between 50 and 60": "'between' cannot be asked here",
    "how often did Flow fall below 50 twice": "Flow is in m³/h; write the limit without a unit",
    "what was the standard deviation of Flow": "'deviation' cannot be asked here",
    "what was the total Flow today": "'total' cannot be asked here",
    "why didn't P101 trip": '"didn\'t" cannot be asked here',
    "how often was Flow above 5 and below 7": "'7' was read as nothing",
    "max Flow of P101 and P109": "no tag and no equipment is called P109; nearest: P1",
    "max Flow above 50 today": "'above 50' is for how often and when first",
    "when was P101 last running": "'last' cannot be asked of when",
    "when was the most recent anomaly on P101": "'most recent' cannot be asked of when",
    "compare the flow between P101 and P102": "Flow is not on P102",
    "what was the max of P101 today?": "P101 has BearingTemp, MotorPower, Flow, State; name one of them",
    "how often was P101 above 5": "exactly one tag; P101 has BearingTemp",
    "why is P1O1 strange": r"no tag and no equipment is called P1O1 .*nearest: P101, P102",
    "max BearingTemp today": "BearingTemp exists on P101, P102; name one of them",
    "max Flow of P102 today": "Flow is not on P102, but on P101",
    "max Flow tomorrow": "'tomorrow' is no time",
    "max Flow at 25:00": "'25:00' is no time",
    "max Flow on 2026-02-30": "'on 2026-02-30' is not a time",
    "max Flow this evening": "'this evening' has not begun yet",
    "how often did Flow exceed 40 bar today": "Flow is in m³/h",
    "how often did P101 or P102 trip today": "named are P101, P102; ask about one",
    "how often did P102 and P101 trip today": "named are P102, P101; ask about one",
    "how often did Leak exceed 5 A today": "Leak is in mA",
    "how often did Leak exceed 5 a on M1 today": "Leak is in mA",
    "how often did Gap of M1 exceed 5 in": "Gap is in mm",
    "how often did Gap of M1 exceed 5 in on monday": "Gap is in mm",
    "how often did Lag of M1 exceed 5 us": "Lag is in s",
    "how often did Lag of M1 exceed 5 min": "Lag is in s",
    "how often did Beam of M1 exceed 5 MW": "Beam is in mW",
    "P101 Flow": "none of the forms",
    "max temperature today": "nearest",
    "why did it trip": "names no tag and no equipment",
    "max Flow today and yesterday": "two times are named",
    "max Flow today and yesterday and on monday": "3 times are named",
    "why " + "x" * 400: "at most 300 characters",
}


@pytest.mark.parametrize("question", REFUSED)
def test_what_cannot_be_asked_says_why(question: str) -> None:
    """Another unit, an ambiguous or unknown name and an odd time are told, never answered as something else."""
    with pytest.raises(Refused, match=REFUSED[question]):
        ask(question)


def test_assumptions_are_told() -> None:
    """A window that was not named and a word that was left out stand in the notes."""
    found = parse("max Flow of skidded P101", NAMES, CALENDAR)
    assert found.notes == ("not understood and left out: skidded", "no time was named: the last 24 hours")


def test_a_name_that_is_a_common_word_is_found_by_its_letters() -> None:
    """``Current`` is the tag, ``current`` asks for the last value."""
    assert ask("max Current today").tags == (f"{SKID}/M1/Current",)
    assert ask("current flow").aggregate == "last"


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


FRAGMENTS = (
    *("why", "did", "max", "min", "last", "P101", "flow", "trip", "at", "on", "since", "between", "and", "of", "to"),
    *("31:00", "2026-99-99", "2026-11-20", "nov", "31", "30", "29", "feb", "pm", "am", "3", "12", "noon", "week", "53"),
    *("54", "2026", "9999", "0000", "1,5", "60,500", "above", "not", "hours", "ago", "evening", "monday"),
    *("31.12.1969", "25.11.2026", "11/25", "this", "morning", "from", "22:00", "half", "an", "hour", "two", "night"),
    *("may", "compare", "most", "recent", "CW12", "twice", "start", "alarm", "won't"),
)


@given(
    text=st.text(max_size=120)
    | st.lists(
        st.sampled_from([*FRAGMENTS, *WORDS]),
        max_size=12,
    ).map(" ".join)
)
def test_any_text_is_a_query_or_refused(text: str) -> None:
    """Nothing but Refused comes out of any text, and every query is about names of the map."""
    try:
        query = ask(text)
    except Refused:
        return
    NAMES.check(query.equipment, query.tags)
    assert all(span.end <= CALENDAR.now for span in query.windows)


def test_nearest_names_are_sought_for_few_words() -> None:
    """A question of a hundred unknown words costs as much as one of five."""
    sought: list[str] = []

    class Counted(Names):
        def nearest(self, word: str) -> list[str]:
            sought.append(word)
            return []

    with pytest.raises(NotUnderstood):
        parse("why " + "q9 " * 90, Counted(NAMES.tags), CALENDAR)
    assert len(sought) == 5


def test_not_understood_is_told_apart() -> None:
    """Only what a model might read better is NotUnderstood."""
    with pytest.raises(NotUnderstood):
        ask("P101 Flow")
    with pytest.raises(Refused) as other:
        ask("max BearingTemp today")
    assert not isinstance(other.value, NotUnderstood)


@pytest.mark.parametrize(
    "change",
    [
        {"windows": []},
        {"form": "drop table"},
        {"tags": [], "equipment": []},
        {"aggregate": "sum"},
        {"condition": {"comparison": "above", "value": float("nan")}},
        {"windows": [{"begin": "2026-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"}]},
        {"windows": [{"begin": "2026-01-01T00:00:00", "end": "2026-01-02T00:00:00"}]},
        {"sql": "SELECT 1"},
        {"form": "why", "aggregate": None, "condition": {"comparison": "equals", "value": 2, "state": "Tripped"}},
    ],
)
def test_a_query_is_closed(change: dict[str, object]) -> None:
    """What is not in the lists, or is incomplete, is no query."""
    good = {
        "form": "value",
        "aggregate": "max",
        "tags": ["a"],
        "windows": [{"begin": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}],
    }
    Query.model_validate(good)
    with pytest.raises(ValidationError):
        Query.model_validate(good | change)


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
        assert parse(question, NAMES, calendar).query.windows == _span(*want)


@pytest.mark.parametrize("words", ["Temperature", "temperature", "U/Temperature", f"{SKID}/U/Temperature"])
def test_a_tag_called_so_is_not_one_that_begins_alike(words: str) -> None:
    """Where one tag is Temperature, those called Temp are not meant; where none is, they are, and have to be told."""
    short = [_tag(1, f"{SKID}/M/Temp"), _tag(2, f"{SKID}/S/Temp")]
    named = Names([*short, _tag(3, f"{SKID}/U/Temperature")])

    assert parse(f"max of {words} today", named, CALENDAR).query.tags == (f"{SKID}/U/Temperature",)
    with pytest.raises(Refused, match="Temp exists on M, S"):
        parse("max of Temperature today", Names(short), CALENDAR)


UTIL = "Acme/Lyon/Util"
COOLING = Names(
    [
        _tag(1, f"{UTIL}/CW12/Flow", "m3/h"),
        _tag(2, f"{UTIL}/CW12/State", role="state", enum={1: "Running", 2: "Tripped"}),
        _tag(3, f"{UTIL}/CW13/Flow", "m3/h"),
        _tag(4, f"{UTIL}/Today/Speed"),
    ]
)


@pytest.mark.parametrize(
    ("question", "equipment", "tags"),
    [
        ("Why did CW12 trip today?", ["CW12"], []),
        ("what happened on CW-12 today", ["CW12"], []),
        ("max CW12's Flow today", [], ["CW12/Flow"]),
        (f"max {UTIL}/CW12/Flow today", [], ["CW12/Flow"]),
        (f"max {UTIL}/Today/Speed today", [], ["Today/Speed"]),
        ("Compare CW12 and CW13 today", ["CW12", "CW13"], []),
        ("Compare Flow of CW12 and CW13 today", [], ["CW12/Flow", "CW13/Flow"]),
    ],
)
def test_the_letters_of_a_name_are_no_time(question: str, equipment: list[str], tags: list[str]) -> None:
    """Cooling water is no calendar week, and a path is no day."""
    found = parse(question, COOLING, CALENDAR)
    assert found.query.equipment == tuple(f"{UTIL}/{one}" for one in equipment)
    assert found.query.tags == tuple(f"{UTIL}/{one}" for one in tags)
    assert found.query.windows == _span("25T00:00", "25T15:30")
    assert found.notes == ()


def test_a_calendar_week_has_a_blank() -> None:
    """What is written together is a name, known or not."""
    assert ask("max Flow in cw 47").windows == _span("16T00:00", "23T00:00")
    with pytest.raises(Refused, match="'CW47' was read as nothing"):
        ask("max Flow of P101 on CW47")


TODAY, YESTERDAY = _span("25T00:00", "25T15:30"), _span("24T00:00", "25T00:00")


@pytest.mark.parametrize(
    ("question", "tags", "windows"),
    [
        ("Compare BearingTemp between P101 and P102 today", ("P101/BearingTemp", "P102/BearingTemp"), TODAY),
        ("Compare Flow between today and yesterday", ("P101/Flow",), TODAY + YESTERDAY),
        ("Compare Flow between yesterday and today", ("P101/Flow",), YESTERDAY + TODAY),
        (
            "Compare Flow between yesterday 10:00 and today 10:00",
            ("P101/Flow",),
            _span("24T09:45", "24T10:15") + _span("25T09:45", "25T10:15"),
        ),
        ("Compare Flow between this week and yesterday", ("P101/Flow",), _span("23T00:00", "25T15:30") + YESTERDAY),
        (
            "Compare Flow between 10:00 and 12:00 with yesterday",
            ("P101/Flow",),
            _span("25T10:00", "25T12:00") + YESTERDAY,
        ),
        (
            "Compare Flow between 20 Nov and 22 Nov with yesterday",
            ("P101/Flow",),
            _span("20T00:00", "23T00:00") + YESTERDAY,
        ),
        (
            "Compare BearingTemp of P101 and P102 between monday and yesterday",
            ("P101/BearingTemp", "P102/BearingTemp"),
            _span("23T00:00", "25T00:00"),
        ),
    ],
)
def test_compare_between(question: str, tags: tuple[str, ...], windows: tuple[Span, ...]) -> None:
    """Two things or, of one thing, two days; of two things the days are begin and end."""
    found = parse(question, NAMES, CALENDAR)
    assert (found.query.form, found.query.windows, found.notes) == ("compare", windows, ())
    assert found.query.tags == tuple(f"{SKID}/{one}" for one in tags)


def test_compare_between_machines() -> None:
    """The words between name nothing; a number there is still refused."""
    assert ask("Compare between P101 and P102").equipment == (f"{SKID}/P101", f"{SKID}/P102")
    with pytest.raises(Refused, match="'40' was read as nothing"):
        ask("Compare Flow between 40 and 50")
    with pytest.raises(Refused, match="ends before it begins"):
        ask("Compare BearingTemp of P101 and P102 between today and yesterday")


@pytest.mark.parametrize(
    "question",
    [
        "Why did the temperature on P101 start to rise today?",
        "Why did P101 start to vibrate today?",
        "Why did P101 stop vibrating today?",
        "Why did P101 fail to start today?",
        "Why did the anomaly on P101 start at 10:00",
        "Why did the alarms on P101 stop today?",
        "How often did an alarm start on P101 today?",
        "How often did P101 fail to stop today?",
        "When did the anomaly on P101 start",
        "When did P101 start to vibrate",
    ],
)
def test_what_starts_may_be_something_else(question: str) -> None:
    """A vibration, or an anomaly: the machine's state is not asked about, the episodes are."""
    query = ask(question)
    assert (query.equipment, query.tags, query.condition) == ((f"{SKID}/P101",), (), None)


@pytest.mark.parametrize(
    ("question", "state"),
    [
        ("Why did P101 start running today?", "Running"),
        ("Why did P101 start during the last shift", "Running"),
        ("Why did P101 stop working today", "Stopped"),
        ("Why did P101 trip and start to vibrate today", "Tripped"),
        ("How often did P101 trip to standby today", "Tripped"),
        ("When did P101 start", "Running"),
        ("How often did P101 stop yesterday", "Stopped"),
    ],
)
def test_what_starts_may_be_the_machine(question: str, state: str) -> None:
    """With words behind it that say nothing else."""
    condition = ask(question).condition
    assert condition is not None
    assert condition.state == state


@pytest.mark.parametrize(
    ("question", "form", "aggregate"),
    [
        ("What is the most recent value of P101 Flow today", "value", "last"),
        ("Show the most recent anomalies of P101 today", "what", None),
        ("What were the most  recent problems on P101 today?", "what", None),
        ("Explain the most recent anomaly on P101 today", "why", None),
        ("May I get the max of P101 flow today", "value", "max"),
        ("What may the max of P101 flow be today", "value", "max"),
    ],
)
def test_recent_and_may(question: str, form: str, aggregate: str | None) -> None:
    """Most recent is latest, and may is a month beside a number or behind in; nothing is left out."""
    found = parse(question, NAMES, CALENDAR)
    assert (found.query.form, found.query.aggregate, found.notes) == (form, aggregate, ())


@pytest.mark.parametrize(
    ("question", "word", "state"),
    [
        ("Why did P101 trip 3 times today?", "3", "Tripped"),
        ("Why did P101 trip twice today?", "twice", "Tripped"),
        ("What happened to pump 2 P101 today", "2", None),
        ("Why isn't P101 running today?", "isn't", None),
        ("Why won't P101 start today?", "won't", None),
        ("Why doesn’t P101 start today?", "doesn’t", None),
        ("Why is the flow not stable today?", "not", None),
        ("Why was P101 Flow 30 m3/h today", "30", None),
    ],
)
def test_why_and_what_go_without_a_number_and_a_negation(question: str, word: str, state: str | None) -> None:
    """The episodes of the time are told either way; a note says what was left out."""
    found = parse(question, NAMES, CALENDAR)
    assert f"not understood and left out: {word}" in found.notes
    assert (found.query.condition and found.query.condition.state) == state


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("why didn't P101 trip", '"didn\'t" cannot be asked'),
        ("why has P101 never stopped", "'never' cannot be asked"),
        ("why was there not an alarm on P101", "'not' cannot be asked"),
        ("how often did P101 trip twice", "'twice' cannot be asked"),
        ("how often was P101 not running", "'not' cannot be asked"),
        ("why did P101 trip on 24 November at 9", "'9' was read as nothing"),
        ("why did P101 trip from 1 to 3 Nov", "'1' was read as nothing"),
        ("what happened to P101 in shift 2", "'2' was read as nothing"),
        ("what happened to P101 in May", "'May' is no time"),
        ("max Flow of may 2026", "'may' is no time"),
        ("what happened to P101 last May?", "'May' is no time"),
        ("show the most common problems of P101", "'most' cannot be asked"),
        ("why does P101 trip the most", "'most' cannot be asked"),
    ],
)
def test_what_would_be_another_question_is_still_refused(question: str, says: str) -> None:
    """An event that did not happen, a time that was not read, a figure."""
    with pytest.raises(Refused, match=says):
        ask(question)
