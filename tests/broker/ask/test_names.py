"""Which tag, machine or unit a question names, and the nearest names where it names none."""

from __future__ import annotations

import pytest

from broker.ask.names import Names
from broker.ask.parse import NotUnderstood, parse
from schemas.errors import Refused
from schemas.question import Condition
from tests.broker.ask.pump_names import CALENDAR, NAMES, SKID, ask, span, tag_row


@pytest.mark.parametrize(
    "limit", ["5", "5 A", "5 a", "5a", "5 amps", "5 on M1", "5 in M1", "5 in the last shift", "5 a day", "5 this week"]
)
def test_word_behind_a_limit_that_is_no_other_unit(limit: str) -> None:
    """The tag's own unit however it is written, and words that are no unit where they stand."""
    assert ask(f"how often did Current exceed {limit}").condition == Condition(comparison="above", value=5)


def test_a_name_that_is_a_common_word_is_found_by_its_letters() -> None:
    """``Current`` is the tag, ``current`` asks for the last value."""
    assert ask("max Current today").tags == (f"{SKID}/M1/Current",)
    assert ask("current flow").aggregate == "last"


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


@pytest.mark.parametrize("words", ["Temperature", "temperature", "U/Temperature", f"{SKID}/U/Temperature"])
def test_a_tag_called_so_is_not_one_that_begins_alike(words: str) -> None:
    """Where one tag is Temperature, those called Temp are not meant; where none is, they are, and have to be told."""
    short = [tag_row(1, f"{SKID}/M/Temp"), tag_row(2, f"{SKID}/S/Temp")]
    named = Names([*short, tag_row(3, f"{SKID}/U/Temperature")])

    assert parse(f"max of {words} today", named, CALENDAR).query.tags == (f"{SKID}/U/Temperature",)
    with pytest.raises(Refused, match="Temp exists on M, S"):
        parse("max of Temperature today", Names(short), CALENDAR)


UTIL = "Acme/Lyon/Util"
COOLING = Names(
    [
        tag_row(1, f"{UTIL}/CW12/Flow", "m3/h"),
        tag_row(2, f"{UTIL}/CW12/State", role="state", enum={1: "Running", 2: "Tripped"}),
        tag_row(3, f"{UTIL}/CW13/Flow", "m3/h"),
        tag_row(4, f"{UTIL}/Today/Speed"),
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
    assert found.query.windows == span("25T00:00", "25T15:30")
    assert found.notes == ()
