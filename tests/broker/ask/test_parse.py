"""Questions of the common forms as typed queries; what is not understood says why, with the nearest names."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.ask.names import Names
from broker.ask.parse import NotUnderstood, parse
from broker.ask.times import WORDS, Calendar, find
from broker.store.rows import TagRow
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
        form="why", equipment=(f"{SKID}/P101",), windows=_span("25T00:00", "25T12:00")
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
        form="why", equipment=(f"{SKID}/P101",), windows=_span("25T13:15", "25T13:45")
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


REFUSED = {
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


@given(
    text=st.text(max_size=120)
    | st.lists(
        st.sampled_from(["why", "max", "P101", "flow", "at", "since", "between", "and", "31:00", "2026-99-99", *WORDS]),
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
