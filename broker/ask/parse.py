"""
The common forms of a question, parsed by code: why, what happened, max/min/mean/last of, how often, compare, first.

What code cannot read is :class:`NotUnderstood`; a model may then fill in the same form (:mod:`broker.ask.fill`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from pydantic import ValidationError

from broker.ask import left, times
from broker.ask import names as naming
from broker.ask.calendar import DEFAULT, WORDS, Calendar
from broker.ask.conditions import EPISODE, LIMIT, condition_of, happened, state_tag, unit_said
from broker.ask.dates import DAY, MOMENT
from broker.ask.names import Named, Names, last_part
from broker.tagmap.units import ALIASES
from schemas.annotation import symbol
from schemas.errors import Refused
from schemas.question import MAX_NAMES, MAX_QUESTION, Aggregate, Condition, Form, Query, Span

_MOST_RECENT: Final = re.compile(r"\bmost\s+recent\b", re.IGNORECASE)
_COMPARE: Final = re.compile(r"\b(compare[ds]?|comparison|versus|vs)\b")
_DAY_ALONE: Final = rf"(?:{MOMENT}|{DAY})"
_TWO_DAYS: Final = re.compile(rf"\bbetween\s+(?={_DAY_ALONE}\s+and\s+{_DAY_ALONE}(?![\w:]))")
_FORMS: Final[tuple[tuple[Form, re.Pattern[str]], ...]] = (
    ("compare", _COMPARE),
    ("count", re.compile(r"\bhow (often|many times|frequently)\b|\bnumber of times\b")),
    (
        "first",
        re.compile(r"\bfirst( time)?\b(?=.*\b(when|time)\b)|\bwhen\b.*\bfirst\b|^\s*(since )?when (did|was|has)\b"),
    ),
    ("why", re.compile(r"^\s*(and |but |so )?(why|how come|explain|what (caused|made|is the (cause|reason)))\b")),
    ("what", re.compile(r"\bwhat('s| is| was| has| had| did|)?\s*(happened|happen|happens|wrong|going on|abnormal)\b")),
    (
        "what",
        re.compile(
            r"^\s*((show|list|tell|give)( me)?)?\s*((all|any|of|the|what|are|were|latest|recent|open)\s+)*"
            r"(anomalies|episodes|events|problems|alarms|happened)\b"
        ),
    ),
    ("what", re.compile(rf"^\s*(were|was|are|is|have|has) there (been )?(any |an? |some )?{EPISODE}\b")),
)
_AGGREGATES: Final[tuple[tuple[Aggregate, re.Pattern[str]], ...]] = (
    ("max", re.compile(r"\b(max(imum)?|highest|largest|peak|top)\b")),
    ("min", re.compile(r"\b(min(imum)?|lowest|smallest)\b")),
    ("mean", re.compile(r"\b(mean|average|avg)\b")),
    ("last", re.compile(r"\b(last|latest|current|newest|present|now)\b|^\s*(what (is|was)|show|value of)\b")),
)
#: A window ends before its end: the moment itself is in it.
_JUST_AFTER: Final = timedelta(microseconds=1)


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
    asked, question = question, plain(question)
    found = find_times(question, names, calendar, apart=True)
    lower, text = found.rest, without_times(question, found)
    text = re.sub(r"^\s*since (?=when\b)", lambda found: " " * len(found[0]), text, flags=re.IGNORECASE)
    limit = LIMIT.search(lower)
    if limit is not None:
        text = text[: limit.start()] + " " * len(limit[0]) + text[limit.end() :]
    form, aggregate = _form(lower)
    if form == "first" and (last := re.search(r"\b(last|latest)\b", lower)):
        said = "most recent" if question != asked else last[0]
        raise Refused(
            f"{said!r} cannot be asked of when; ask when it was first, in a shorter time, or how often it was"
        )
    named = naming.find(text, names, left.IGNORED)
    if form == "compare":
        _all_have_it(named, names)
    several = form == "compare" and len(named.tags or named.equipment) > 1
    shifts = calendar.shifts and "shift" in question.lower() and names.owners(named)
    if several or shifts:
        found = find_times(question, names, calendar.of(shifts) if shifts else calendar, apart=not several)
    if form is None:
        raise NotUnderstood(
            "this is none of the forms why, what happened, max/min/mean/last of, how often, compare, when … first"
        )
    if not named.equipment and not named.tags:
        raise NotUnderstood(_unknown(named, names))
    units = {unit for path in named.tags for unit in (names.by_path[path].unit, symbol(names.by_path[path].unit))}
    words = left.meaning(named.left, lower, form)
    odd = [word for word in words if word not in units and ALIASES.get(word) not in units]
    if form in ("why", "what"):
        told = left.told(odd, lower, event=happened(lower))
        left.refuse([word for word in odd if word not in told], names, figures=False)
    else:
        left.refuse(odd, names)
    notes = [f"not understood and left out: {word}" for word in words]
    if limit is not None and form not in ("count", "first"):
        if form in ("value", "compare"):
            raise Refused(f"{limit[0].strip()!r} is for how often and when first; {form} takes all of the time named")
        notes.append(f"left out: {limit[0].strip()}")
    if form == "value" and not named.tags:
        raise NotUnderstood(_name_a_tag(named.equipment, names))
    spans = spans_of(found, aggregate)
    if not spans:
        spans = (times.window(WORDS[DEFAULT](calendar), calendar, DEFAULT),)
        notes.append("no time was named: the last 24 hours")
    unit = unit_said(question if len(question) == len(lower) else lower, limit)
    # why it did not start is no question of when it did
    condition = None if left.negated(words) else condition_of(form, limit, unit, lower, named, names)
    if condition is None and form in ("count", "first") and limit is not None:
        more = "" if named.tags else f"; {_name_a_tag(named.equipment, names)}"
        raise Refused(f"a limit needs exactly one tag{more}")
    tags, equipment = _subjects(form, named, names, condition)
    if form != "why" and condition is not None and condition.state and (state := state_tag(named.equipment[0], names)):
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


def plain(question: str) -> str:
    """A question of the same length in which the most recent is the latest."""
    return _MOST_RECENT.sub(lambda match: "latest".rjust(len(match[0])), question)


def find_times(question: str, names: Names, calendar: Calendar, *, apart: bool = False) -> times.Found:
    """
    The times of a question, none of them from the letters of a name.

    *apart*: what is compared between two days are these two, and not all from the one to the other.

    Raises:
        Refused: as :func:`broker.ask.times.find`.
    """
    lower = question.lower()
    mask = naming.masked(lower, names)
    one_by_one = _TWO_DAYS.sub(lambda match: " " * len(match[0]), mask) if apart and _COMPARE.search(mask) else mask
    try:
        found = times.find(one_by_one, calendar)
    except Refused:
        # with a third time, between two days is from the one to the other
        if one_by_one == mask:
            raise
        found = times.find(mask, calendar)
    rest = "".join(a if b == "_" else b for a, b in zip(lower, found.rest, strict=True))
    return replace(found, rest=rest)


def without_times(question: str, found: times.Found) -> str:
    """A question whose times are blank; names keep their letters, where the lower-case text is as long."""
    if len(found.rest) != len(question):
        return found.rest
    return "".join(a if b != " " else " " for a, b in zip(question, found.rest, strict=True))


def _all_have_it(named: Named, names: Names) -> None:
    """Raises Refused where tags are compared and one of the pieces of equipment named has none of them."""
    for one in named.equipment if named.tags else ():
        if not any(names.by_path[path].equipment == one or path.startswith(f"{one}/") for path in named.tags):
            raise Refused(f"{' and '.join(dict.fromkeys(map(last_part, named.tags)))} is not on {last_part(one)}")


def _name_a_tag(equipment: Sequence[str], names: Names) -> str:
    """What can be asked of equipment that was named without one of its tags."""
    told = []
    for one in equipment:
        tags = [last_part(tag.path) for tag in names.of_equipment(one)]
        more = f" and {len(tags) - MAX_NAMES} more" if len(tags) > MAX_NAMES else ""
        told.append(f"{last_part(one)} has {', '.join(tags[:MAX_NAMES])}{more}")
    return f"{'; '.join(told)}; name one of them"


def spans_of(found: times.Found, aggregate: Aggregate | None) -> tuple[Span, ...]:
    """The windows; the last value at a moment is the newest record at or before it."""
    if aggregate != "last":
        return found.spans
    return tuple(
        span if at is None else Span(begin=at - times.AROUND, end=at + _JUST_AFTER)
        for span, at in zip(found.spans, found.moments, strict=True)
    )


def _form(lower: str) -> tuple[Form | None, Aggregate | None]:
    for form, pattern in _FORMS:
        if pattern.search(lower):
            # when was the flow highest: the extreme is told with its time
            extreme = next((name for name, word in _AGGREGATES[:2] if word.search(lower)), None)
            return ("value", extreme) if form == "first" and extreme and " first" not in lower else (form, None)
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
