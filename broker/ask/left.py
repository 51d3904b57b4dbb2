"""Words of a question that name nothing, and those that cannot be left out without asking another question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from broker.ask.dates import MONTH, WEEKDAYS
from broker.ask.names import Names
from schemas.errors import Refused
from schemas.question import Form

#: Words that name nothing, whatever tags are called.
_IGNORED: Final = """
    a abnormal about again alarm alarms all an and anomalies anomaly any are at average avg be been but by cause
    caused change changed come compare compared comparison could current decrease decreased did do does down
    drop dropped during episode episodes equal equals equipment event events exceed exceeded exceeds explain
    fail failed fall fell first for frequently from get go goes going got had happen happened happens has have
    high higher highest how i in increase increased is it its jump jumped largest last latest less list low
    lower lowest machine made many max maximum me mean min minimum much newest now number of off often on or
    over peak please present problem problems reached reason restart rise rose sensor shift show shut smallest so start
    started stop stopped tag tags tell than that the their then there these this time times to today top trip
    tripped until up us value values versus vs was we went were what what's when where which while who why will
    with wrong yesterday you
"""
IGNORED: Final = frozenset(_IGNORED.split())
#: Meant as a time.
_TIME: Final = re.compile(
    r"\d+:\d.*|\d+[/.-]\d+[/.-]?\d*|\d{4}-\d.*|\d{1,2}(?:st|nd|rd|th)|\d{1,2}[ap]\.?m|[ap]\.?m|o['’]?clock|noon|midnight"
    r"|tomorrow|next|since|before|after|ago|weekend|mornings?|afternoons?|evenings?|nights?"
    rf"|minutes|hours|days|weeks?|cw|months?|years?|quarter|{MONTH}|{'|'.join(WEEKDAYS)}"
)
#: Turns a question round.
_TURNS: Final = re.compile(r"except|without|excluding|most|least|between|within")
_NEGATION: Final = re.compile(r"not|never|cannot|\w+n['’]t")
_HOW_OFTEN: Final = re.compile(r"once|twice|thrice")
_COUNT: Final = re.compile(r"\d+(?:[.,]\d+)?")
#: A number right behind, or right before, one of these is a time or a limit that was not read.
_BEFORE_A_TIME: Final = re.compile(
    r"about|after|and|around|at|before|between|by|day|for|from|hour|in|last|month|next|of|on|or|past|previous|quarter"
    r"|shift|since|till|to|until|week|year"
)
_BEHIND_A_TIME: Final = re.compile(r"and|or|till|to|until")
#: May is a month right behind one of these or a number, before a number, and at the end.
_MONTH_MAY: Final = re.compile(
    r"(?:\d|\b(?:after|all|and|before|between|by|during|early|for|from|in|last|late|next|of|or|since|than|this|till|to"
    r"|until|versus|vs|whole|with)),?\s+may\b|\bmay(?:['’]s|,?\s+\d|[\s.?!]*$)"
)
#: Another figure than can be given.
_FIGURE: Final = re.compile(
    r"totals?|sums?|deviation|std|stdev|sigma|variance|median|percentile|quantile|range|spread|integral|duration|long"
    r"|trend|difference|ratio|percent|percentage|inside|outside|half|double"
)
TIMES: Final = "last 3 hours, since 06:00, at 15:30, at 3 pm, yesterday, 25 Nov, 25.11.2026, 2026-11-25, week 47"
LIMITS: Final = "above 60.5, below 60.5, equal to 2"


def meaning(left: Sequence[str], lower: str, form: Form | None) -> list[str]:
    """Left-over words without those that mean nothing: between, in a comparison, and may, where it is no month."""
    nothing = {"between"} if form == "compare" else set()
    if not _MONTH_MAY.search(lower):
        nothing.add("may")
    return [word for word in left if word.lower() not in nothing]


def negated(left: Sequence[str]) -> bool:
    """Whether something is said not to be so."""
    return any(_NEGATION.fullmatch(word.lower()) for word in left)


def told(left: Sequence[str], lower: str, *, event: bool) -> frozenset[str]:
    """
    Words without which why and what happened are still the same question: how often it was, a number, a negation.

    Where an *event* is said not to have happened, another one would be explained.
    """
    found = {word for word in left if _HOW_OFTEN.fullmatch(word.lower())}
    if not event:
        found |= {word for word in left if _NEGATION.fullmatch(word.lower())}
    words = ["", *(word.strip(",;?!.") for word in lower.split()), ""]
    around = [*zip(words, words[1:], words[2:], strict=False)]
    for number in {word for word in left if _COUNT.fullmatch(word)}:
        if all(
            behind == "times" or not (_BEFORE_A_TIME.fullmatch(before) or _BEHIND_A_TIME.fullmatch(behind))
            for before, word, behind in around
            if word == number
        ):
            found.add(number)
    return frozenset(found)


def refuse(left: Sequence[str], names: Names, *, figures: bool = True) -> None:
    """
    Raises Refused for a left-over word without which another question would be answered.

    *figures*: whether a number is asked for; of why and what, a deviation is something that happens.
    """
    for word in left:
        plain = word.lower()
        if _TIME.fullmatch(plain):
            raise Refused(f"{word!r} is no time that is known here; write {TIMES}")
        turns = any(pattern.fullmatch(plain) for pattern in (_TURNS, _NEGATION, _HOW_OFTEN))
        if turns or (figures and _FIGURE.fullmatch(plain)):
            raise Refused(
                f"{word!r} cannot be asked here, and without it this is another question; what can: max, min, mean or "
                f"last of a tag, how often or when first it is {LIMITS}"
            )
    for word in left:
        if not any(ch.isdigit() for ch in word):
            continue
        if any(ch.isalpha() for ch in word) and (near := names.nearest(word)):
            raise Refused(f"no tag and no equipment is called {word}; nearest: {', '.join(near)}")
        raise Refused(f"{word!r} was read as nothing; write a limit as {LIMITS}, a time as {TIMES}")
