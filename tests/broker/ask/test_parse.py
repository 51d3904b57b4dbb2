"""Questions of the common forms as typed queries; what is not understood says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.ask.calendar import WORDS
from broker.ask.parse import parse
from schemas.errors import Refused
from schemas.question import Condition, Query
from tests.broker.ask.pump_names import CALENDAR, NAMES, SKID, ask, span

QUESTIONS = {
    "why did P101 trip this morning?": Query(
        form="why",
        equipment=(f"{SKID}/P101",),
        windows=span("25T00:00", "25T12:00"),
        condition=Condition(comparison="equals", value=2, state="Tripped"),
    ),
    "what happened to P-101 yesterday": Query(
        form="what", equipment=(f"{SKID}/P101",), windows=span("24T00:00", "25T00:00")
    ),
    "Max bearing temperature of P101 today": Query(
        form="value", aggregate="max", tags=(f"{SKID}/P101/BearingTemp",), windows=span("25T00:00", "25T15:30")
    ),
    "what was the lowest motor power during the last shift?": Query(
        form="value", aggregate="min", tags=(f"{SKID}/P101/MotorPower",), windows=span("25T06:00", "25T14:00")
    ),
    "last value of Acme/Lyon/Utilities/Skid1/P102/BearingTemp in the last 2 hours": Query(
        form="value", aggregate="last", tags=(f"{SKID}/P102/BearingTemp",), windows=span("25T13:30", "25T15:30")
    ),
    "mean Current of M1 since 06:00": Query(
        form="value", aggregate="mean", tags=(f"{SKID}/M1/Current",), windows=span("25T06:00", "25T15:30")
    ),
    "how often did P101 trip between 22:00 and 06:00": Query(
        form="count",
        tags=(f"{SKID}/P101/State",),
        windows=span("24T22:00", "25T06:00"),
        condition=Condition(comparison="equals", value=2, state="Tripped"),
    ),
    "how often did the flow of P101 exceed 40.5 m3/h on 2026-11-24?": Query(
        form="count",
        tags=(f"{SKID}/P101/Flow",),
        windows=span("24T00:00", "25T00:00"),
        condition=Condition(comparison="above", value=40.5),
    ),
    "when did BearingTemp of P102 first go below 20 °C on monday": Query(
        form="first",
        tags=(f"{SKID}/P102/BearingTemp",),
        windows=span("23T00:00", "24T00:00"),
        condition=Condition(comparison="below", value=20),
    ),
    "compare bearing temp of P101 and P102 from 2026-11-24T10:00 to 2026-11-24T12:00": Query(
        form="compare",
        tags=(f"{SKID}/P101/BearingTemp", f"{SKID}/P102/BearingTemp"),
        windows=span("24T10:00", "24T12:00"),
    ),
    "compare flow today with yesterday": Query(
        form="compare",
        tags=(f"{SKID}/P101/Flow",),
        windows=(*span("25T00:00", "25T15:30"), *span("24T00:00", "25T00:00")),
    ),
    "why did P101 stop 2 hours ago": Query(
        form="why",
        equipment=(f"{SKID}/P101",),
        windows=span("25T13:15", "25T13:45"),
        condition=Condition(comparison="equals", value=3, state="Stopped"),
    ),
    "explain the bearing temp of P102 at 07:15": Query(
        form="why",
        equipment=(f"{SKID}/P102",),
        tags=(f"{SKID}/P102/BearingTemp",),
        windows=span("25T07:00", "25T07:30"),
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_common_forms(question: str) -> None:
    """Form, names, window in the site's zone, aggregate and limit are those that a person would mean."""
    assert ask(question) == QUESTIONS[question]


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
