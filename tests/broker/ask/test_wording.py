"""Words that ask for the same in another way, and those that may mean two things."""

from __future__ import annotations

import pytest

from broker.ask.parse import parse
from schemas.errors import Refused
from schemas.question import Span
from tests.broker.ask.pump_names import CALENDAR, NAMES, SKID, ask, span


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


TODAY, YESTERDAY = span("25T00:00", "25T15:30"), span("24T00:00", "25T00:00")


@pytest.mark.parametrize(
    ("question", "tags", "windows"),
    [
        ("Compare BearingTemp between P101 and P102 today", ("P101/BearingTemp", "P102/BearingTemp"), TODAY),
        ("Compare Flow between today and yesterday", ("P101/Flow",), TODAY + YESTERDAY),
        ("Compare Flow between yesterday and today", ("P101/Flow",), YESTERDAY + TODAY),
        (
            "Compare Flow between yesterday 10:00 and today 10:00",
            ("P101/Flow",),
            span("24T09:45", "24T10:15") + span("25T09:45", "25T10:15"),
        ),
        ("Compare Flow between this week and yesterday", ("P101/Flow",), span("23T00:00", "25T15:30") + YESTERDAY),
        (
            "Compare Flow between 10:00 and 12:00 with yesterday",
            ("P101/Flow",),
            span("25T10:00", "25T12:00") + YESTERDAY,
        ),
        (
            "Compare Flow between 20 Nov and 22 Nov with yesterday",
            ("P101/Flow",),
            span("20T00:00", "23T00:00") + YESTERDAY,
        ),
        (
            "Compare BearingTemp of P101 and P102 between monday and yesterday",
            ("P101/BearingTemp", "P102/BearingTemp"),
            span("23T00:00", "25T00:00"),
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
