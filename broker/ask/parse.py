"""
The common forms of a question, parsed by code: why, what happened, max/min/mean/last of, how often, compare, first.

What code cannot read is :class:`NotUnderstood`; a model may then fill in the same form (:mod:`broker.ask.fill`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from broker.ask import names as naming
from broker.ask import times
from broker.ask.names import Named, Names, last_part, split_words
from broker.ask.times import Calendar
from broker.store.rows import TagRow
from broker.tagmap.units import ALIASES
from schemas.annotation import symbol
from schemas.errors import Refused
from schemas.question import MAX_QUESTION, Aggregate, Comparison, Condition, Form, Query, Span

_FORMS: Final[tuple[tuple[Form, re.Pattern[str]], ...]] = (
    ("compare", re.compile(r"\b(compare[ds]?|comparison|versus|vs)\b")),
    ("count", re.compile(r"\bhow (often|many times|frequently)\b|\bnumber of times\b")),
    (
        "first",
        re.compile(r"\bfirst( time)?\b(?=.*\b(when|time)\b)|\bwhen\b.*\bfirst\b|^\s*(since )?when (did|was|has)\b"),
    ),
    ("why", re.compile(r"^\s*(and |but |so )?(why|how come|explain|what (caused|made|is the (cause|reason)))\b")),
    ("what", re.compile(r"\bwhat('s| is| was| has| had| did|)?\s*(happened|happen|happens|wrong|going on|abnormal)\b")),
    ("what", re.compile(r"^\s*(show|list)?\s*(the |all )?(anomalies|episodes|events|problems|what happened)\b")),
)
_AGGREGATES: Final[tuple[tuple[Aggregate, re.Pattern[str]], ...]] = (
    ("max", re.compile(r"\b(max(imum)?|highest|largest|peak|top)\b")),
    ("min", re.compile(r"\b(min(imum)?|lowest|smallest)\b")),
    ("mean", re.compile(r"\b(mean|average|avg)\b")),
    ("last", re.compile(r"\b(last|latest|current|newest|present|now)\b|^\s*(what (is|was)|show|value of)\b")),
)
_COMPARISONS: Final[tuple[tuple[Comparison, str], ...]] = (
    ("above", r"exceed(?:s|ed)?|above|over|(?:greater|higher|more|larger) than|>=?"),
    ("below", r"below|under|(?:less|lower|smaller) than|<=?"),
    ("equals", r"equals?|equal to|="),
)
_LIMIT: Final = re.compile(
    r"(?:\b(?:go(?:es)?|went|rise|rose|fall|fell|drop(?:s|ped)?|get|got|be|is|was)\s+)?"
    + "(?:"
    + "|".join(rf"(?P<{name}>(?<![a-z])(?:{words}))" for name, words in _COMPARISONS)
    + r")\s*(?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?P<unit>\s*[^\s\d,;?!][^\s,;?!]*)?"
)
#: A left-over word that was meant as a time: to leave it out would answer another question.
_TIME_LIKE: Final = re.compile(r"^\d+:\d|^\d{4}-\d|^(tomorrow|next|months?|years?|quarter|noon|midnight|o'?clock)$")
#: What people say of equipment, and the words of state names that mean it.
_EVENTS: Final = {
    r"trip(?:s|ped|ping)?": ("trip", "tripped", "fault", "faulted", "aborted", "aborting"),
    r"(?:stop|halt)(?:s|ped|ping)?|shut down": ("stopped", "stop", "off", "halted"),
    r"(?:start|restart)(?:s|ed|ing)?": ("running", "execute", "on", "starting"),
    r"fail(?:s|ed|ing)?": ("failed", "fault", "faulted", "failure", "aborted"),
}
#: Words that name nothing, whatever tags are called.
_IGNORED: Final = """
    a abnormal about again all an and anomalies anomaly any are at average avg be been between but by cause
    caused change changed come compare compared comparison could current decrease decreased did do does down
    drop dropped during episode episodes equal equals equipment event events exceed exceeded exceeds explain
    fail failed fall fell first for frequently from get go goes going got had happen happened happens has have
    high higher highest how i in increase increased is it its jump jumped largest last latest less list low
    lower lowest machine made many max maximum me mean min minimum much newest now number of off often on or
    over peak please present problems reached reason restart rise rose sensor shift show shut smallest so start
    started stop stopped tag tags tell than that the their then there these this time times to today top trip
    tripped until up us value values versus vs was we went were what what's when where which while who why will
    with wrong yesterday you
"""
IGNORED: Final = frozenset(_IGNORED.split())


#: Of these, what is a unit right behind a limit: always, or by the word that follows it.
_UNITS: Final = frozenset({"A", "us", "min", "to"})
_PER: Final = frozenset(["second", "minute", "hour", "shift", "day", "week", "month", "year", "time"])
_BEHIND_A_UNIT: Final = frozenset(["on", "of", "at", "by", "for", "with", "and", "or", "during", "while", "when"])


class NotUnderstood(Refused):
    """Neither a common form nor known names; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A query and what was assumed to get it."""

    query: Query
    notes: tuple[str, ...]


def parse(question: str, names: Names, calendar: Calendar) -> Parsed:
    """
    The query a question means.

    Raises:
        NotUnderstood: no common form, or no name of the map in force; with the nearest names.
        Refused: it is understood and cannot be asked (a time in the future, another unit, an ambiguous name).
    """
    if len(question) > MAX_QUESTION:
        raise Refused(f"a question has at most {MAX_QUESTION} characters")
    found = times.find(question.lower(), calendar)
    # the names keep their letters: a time that was found is blank in the lower-case text, which is as long
    lower = found.rest
    text = (
        "".join(a if b != " " else " " for a, b in zip(question, lower, strict=False))
        if len(lower) == len(question)
        else lower
    )
    limit = _LIMIT.search(lower)
    if limit is not None:
        text = text[: limit.start()] + " " * len(limit[0]) + text[limit.end() :]
    form, aggregate = _form(lower)
    named = naming.find(text, names, IGNORED)
    if calendar.shifts and "shift" in question.lower() and (owners := names.owners(named)):
        found = times.find(question.lower(), calendar.of(owners))
    if form is None:
        raise NotUnderstood(
            "this is none of the forms why, what happened, max/min/mean/last of, how often, compare, when … first"
        )
    if not named.equipment and not named.tags:
        raise NotUnderstood(_unknown(named, names))
    if odd := [word for word in named.left if _TIME_LIKE.search(word.lower())]:
        raise Refused(
            f"{odd[0]!r} is no time that is known here; write last 3 hours, since 06:00, yesterday, 2026-03-01"
        )
    notes = [f"not understood and left out: {word}" for word in named.left]
    spans = found.spans
    if not spans:
        spans = (times.window(times.WORDS[times.DEFAULT](calendar), calendar, times.DEFAULT),)
        notes.append("no time was named: the last 24 hours")
    said = _unit_said(question if len(question) == len(lower) else lower, limit)
    condition = _condition(form, limit, said, lower, named, names)
    if condition is None and form in ("count", "first") and limit is not None:
        raise Refused("a limit needs exactly one tag")
    tags, equipment = _subjects(form, named, names, condition)
    if condition is not None and condition.state and (state := _state_tag(named.equipment[0], names)):
        tags = (state.path,)
    try:
        query = Query(
            form=form,
            equipment=equipment,
            tags=tags,
            windows=_windows(form, spans),
            aggregate=aggregate,
            condition=condition,
        )
    except ValidationError as error:
        raise NotUnderstood(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
    if form in ("count", "first") and condition is None:
        notes.append("no limit and no state was named: counted are the episodes that detectors found")
    return Parsed(query, tuple(notes))


def _form(lower: str) -> tuple[Form | None, Aggregate | None]:
    for form, pattern in _FORMS:
        if pattern.search(lower):
            return form, None
    for aggregate, pattern in _AGGREGATES:
        if pattern.search(lower):
            return "value", aggregate
    return None, None


def _unknown(named: Named, names: Names) -> str:
    if not named.left:
        return "the question names no tag and no equipment"
    nearest = list(dict.fromkeys(name for word in named.left[:5] for name in names.nearest(word)))[:5]
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    return f"no tag and no equipment is called {' or '.join(named.left[:5])}{hint}"


def _windows(form: Form, spans: Sequence[Span]) -> tuple[Span, ...]:
    if form != "compare" and len(spans) > 1:
        raise Refused("two times are named; compare can take two, the other forms one")
    return tuple(spans)


def _subjects(
    form: Form, named: Named, names: Names, condition: Condition | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tags and equipment of the query: numbers are asked of tags, episodes of equipment."""
    if form in ("why", "what") or (form in ("count", "first") and condition is None):
        owners = [names.by_path[path].equipment for path in named.tags]
        return named.tags, named.equipment or tuple(dict.fromkeys(owner for owner in owners if owner))
    if named.tags or form != "compare":
        return named.tags, ()
    return (), named.equipment


def _unit_said(question: str, limit: re.Match[str] | None) -> str:
    """The unit of a limit in the question's own letters; empty where the word behind the number is none."""
    if limit is None or limit["unit"] is None:
        return ""
    word = question[limit.start("unit") : limit.end("unit")].strip().rstrip(".")
    rest = limit.string[limit.end() :].split()
    then = rest[0] if rest else ""
    if word.lower() not in IGNORED or word in _UNITS or (word == "a" and then not in _PER):
        return word
    return word if word == "in" and (not then or then in _BEHIND_A_UNIT) else ""


def _condition(
    form: Form, limit: re.Match[str] | None, said: str, lower: str, named: Named, names: Names
) -> Condition | None:
    if form not in ("count", "first"):
        return None
    if limit is not None and len(named.tags) == 1:
        tag = names.by_path[named.tags[0]]
        _same_unit(said, tag)
        comparison = next(name for name, _ in _COMPARISONS if limit[name])
        return Condition(comparison=comparison, value=float(limit["number"]))
    if limit is not None or named.tags:
        return None
    for event, states in _EVENTS.items():
        if re.search(rf"\b(?:{event})\b", lower):
            return _state(named, names, states)
    return None


def _state(named: Named, names: Names, states: Sequence[str]) -> Condition | None:
    """
    The first state of the equipment's own list that means the event; None where it has none.

    Raises:
        Refused: several pieces of equipment are named, and one of them has such a list.
    """
    tag = next((tag for path in named.equipment if (tag := _state_tag(path, names))), None)
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


def _state_tag(equipment: str, names: Names) -> TagRow | None:
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
