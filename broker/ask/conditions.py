"""Limits and events of a question as conditions on a tag: above 60.5 °C, tripped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from broker.ask.left import IGNORED
from broker.ask.names import Named, Names, last_part, split_words
from broker.store.rows.records import TagRow
from broker.tagmap.units import ALIASES
from schemas.annotation import symbol
from schemas.errors import Refused
from schemas.question import Comparison, Condition, Form

_COMPARISONS: Final[tuple[tuple[Comparison, str], ...]] = (
    ("above", r"exceed(?:s|ed)?|above|over|(?:greater|higher|more|larger) than|>=?"),
    ("below", r"below|under|(?:less|lower|smaller) than|<=?"),
    ("equals", r"equals?|equal to|="),
)
LIMIT: Final = re.compile(
    r"(?:\b(?:go(?:es)?|went|rise|rose|fall|fell|drop(?:s|ped)?|get|got|be|is|was)\s+)?"
    + "(?:"
    + "|".join(rf"(?P<{name}>(?<![a-z])(?:{words}))" for name, words in _COMPARISONS)
    + r")\s*(?P<number>-?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)(?P<unit>\s*[^\s\d,;?!][^\s,;?!]*)?"
)
_TRIP: Final = r"trip(?:s|ped|ping)?"
_STOP: Final = r"(?:stop|halt)(?:s|ped|ping)?|shut down"
_START: Final = r"(?:start|restart)(?:s|ed|ing)?"
#: What people say of equipment, and the words of state names that mean it.
_EVENTS: Final = {
    _TRIP: ("trip", "tripped", "fault", "faulted", "aborted", "aborting"),
    _STOP: ("stopped", "stop", "off", "halted"),
    _START: ("running", "execute", "on", "starting"),
    r"fail(?:s|ed|ing)?": ("failed", "fault", "faulted", "failure", "aborted"),
}
#: An anomaly starts, and stops; the machine need not.
EPISODE: Final = r"(?:anomaly|anomalies|episodes?|events?|problems?|alarms?)"
#: Behind start and stop, none of the words by which something else than the machine's run was begun or ended.
_ITSELF: Final = r"(?!\s+(?:to\b|(?!(?:runn|work|operat|dur|follow|even|morn)ing\b)[a-z]+ing\b))"
_FAIL_TO: Final = re.compile(r"\bfail(?:s|ed|ing)?\s+to\s+\w+")
#: Of the words that name nothing, what is a unit right behind a limit: always, or by the word that follows it.
_UNITS: Final = frozenset({"A", "us", "min", "to"})
_PER: Final = frozenset(["second", "minute", "hour", "shift", "day", "week", "month", "year", "time"])
_BEHIND_A_UNIT: Final = frozenset(["on", "of", "at", "by", "for", "with", "and", "or", "during", "while", "when"])


def unit_said(question: str, limit: re.Match[str] | None) -> str:
    """The unit of a limit in the question's own letters; empty where the word behind the number is none."""
    if limit is None or limit["unit"] is None:
        return ""
    word = question[limit.start("unit") : limit.end("unit")].strip().rstrip(".")
    rest = limit.string[limit.end() :].split()
    then = rest[0] if rest else ""
    if word.lower() not in IGNORED or word in _UNITS or (word == "a" and then not in _PER):
        return word
    return word if word == "in" and (not then or then in _BEHIND_A_UNIT) else ""


def condition_of(
    form: Form, limit: re.Match[str] | None, said: str, lower: str, named: Named, names: Names
) -> Condition | None:
    """
    The limit or the event that a question is about; None where there is none.

    Raises:
        Refused: another unit than the tag's, a number that can be read in two ways, an event of several machines.
    """
    if form == "why":
        return _event(lower, named, names)
    if form not in ("count", "first"):
        return None
    if limit is not None and len(named.tags) == 1:
        tag = names.by_path[named.tags[0]]
        _same_unit(said, tag)
        comparison = next(name for name, _ in _COMPARISONS if limit[name])
        if re.search(r",\d{3}(?!\d)", limit["number"]):
            raise Refused(f"{limit['number']} can be read in two ways; write it without the comma, or with a point")
        return Condition(comparison=comparison, value=float(limit["number"].replace(",", ".")))
    if limit is not None or named.tags:
        return None
    event = event_of(lower)
    return _state(named, names, _EVENTS[event]) if event else None


def event_of(lower: str) -> str | None:
    """The event of a machine that a lower-case text is about, a key of the table; None of an anomaly's begin."""
    if re.search(rf"\b{EPISODE}\b", lower):
        return None
    text = _FAIL_TO.sub(" ", lower)
    for event in _EVENTS:
        if re.search(rf"\b(?:{event})\b{_ITSELF if event in (_START, _STOP) else ''}", text):
            return event
    return None


def happened(lower: str) -> bool:
    """Whether a trip, a stop, a failure or an episode is spoken of; a start is what does not happen to a machine."""
    return event_of(lower) not in (None, _START) or re.search(rf"\b{EPISODE}\b", lower) is not None


def _event(lower: str, named: Named, names: Names) -> Condition | None:
    """What is said to have happened to the one piece of equipment named, as its state; a trip may be any stop."""
    if named.tags or len(named.equipment) != 1:
        return None
    event = event_of(lower)
    if event is None:
        return None
    return _state(named, names, (*_EVENTS[event], *(_EVENTS[_STOP] if event == _TRIP else ())))


def _state(named: Named, names: Names, states: Sequence[str]) -> Condition | None:
    """
    The first state of the equipment's own list that means the event; None where it has none.

    Raises:
        Refused: several pieces of equipment are named, and one of them has such a list.
    """
    tag = next((tag for path in named.equipment if (tag := state_tag(path, names))), None)
    if tag is None or tag.enum is None:
        return None
    for wanted in states:
        for number, name in sorted(tag.enum.items()):
            if wanted not in split_words(name):
                continue
            if len(named.equipment) > 1:
                raise Refused(
                    f"named are {', '.join(map(last_part, named.equipment))}; ask about one of them at a time"
                )
            return Condition(comparison="equals", value=float(number), state=name)
    return None


def state_tag(equipment: str, names: Names) -> TagRow | None:
    """The tag that tells the equipment's state by name; None where it has none."""
    return next((tag for tag in names.of_equipment(equipment) if tag.role == "state" and tag.enum), None)


def _same_unit(said: str, tag: TagRow) -> None:
    """Raises Refused where a limit carries another unit than the tag."""
    shown = symbol(tag.unit)
    if not said or ALIASES.get(said, said) == tag.unit:
        return
    # mW is not MW, while kw is kW
    other = len(shown) > 1 and {said[0], shown[0]} == {"m", "M"}
    if other or said.lower() not in {tag.unit.lower(), shown.lower(), shown.lower().lstrip("°")}:
        unit = shown or "a number without unit"
        raise Refused(f"{last_part(tag.path)} is in {unit}; write the limit without a unit, or in this one")
