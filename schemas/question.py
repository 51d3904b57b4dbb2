"""
Questions as a typed form, and their answers.

A question in words becomes a :class:`Query`; code runs it read-only. There is no free text in it that a program would
interpret: forms, aggregates and conditions come from closed lists, tags and equipment from the map in force.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

#: why: episodes with what explains them. what: episodes and gaps in order. value: one aggregate of tags.
#: count: how often a condition (or an episode) began. compare: aggregates side by side. first: when it began first.
Form = Literal["why", "what", "value", "count", "compare", "first"]
FORMS: Final[tuple[Form, ...]] = ("why", "what", "value", "count", "compare", "first")
Aggregate = Literal["max", "min", "mean", "last"]
Comparison = Literal["above", "below", "equals"]

#: Longest path or name, and most tags or pieces of equipment of one query.
MAX_NAME: Final = 500
MAX_NAMES: Final = 8
MAX_QUESTION: Final = 300


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _in_range(at: datetime) -> datetime:
    if not 1970 < at.year < 2100:
        raise ValueError("is not between 1971 and 2099")
    return at


#: A time with its offset.
Moment = Annotated[AwareDatetime, AfterValidator(_in_range)]


class Span(_Frozen):
    """A window of device time, ``begin <= t < end``."""

    begin: Moment
    end: Moment

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.begin:
            raise ValueError("a window ends after it begins")
        return self

    @property
    def from_ns(self) -> int:
        """Begin, UTC ns."""
        return _ns(self.begin)

    @property
    def to_ns(self) -> int:
        """End, UTC ns."""
        return _ns(self.end)


def _ns(at: datetime) -> int:
    # a float of seconds does not hold microseconds exactly
    return int(at.replace(microsecond=0).timestamp()) * 1_000_000_000 + at.microsecond * 1000


class Condition(_Frozen):
    """What a tag's number does; ``value`` is in the tag's unit, ``state`` the name of it where the tag has names."""

    comparison: Comparison
    value: float = Field(allow_inf_nan=False)
    state: str = Field("", max_length=100)


Names = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=MAX_NAME)], ...], Field(max_length=MAX_NAMES)]


class Query(_Frozen):
    """
    One question, typed. Where no ``condition`` is given, ``count`` and ``first`` are about episodes.

    With form ``why`` it is the state that the equipment is said to have entered, and is looked for first.
    ``equipment`` and ``tags`` are paths of the map in force. Two ``windows`` are for ``compare`` only.
    """

    form: Form
    equipment: Names = ()
    tags: Names = ()
    windows: tuple[Span, ...] = Field(min_length=1, max_length=2)
    aggregate: Aggregate | None = None
    condition: Condition | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.equipment and not self.tags:
            raise ValueError("a query names at least one tag or piece of equipment")
        if self.form == "value" and (self.aggregate is None or not self.tags):
            raise ValueError("form value needs tags and an aggregate: max, min, mean or last")
        if self.condition is not None and self.form == "why":
            if not self.condition.state or self.condition.comparison != "equals" or len(self.equipment) != 1:
                raise ValueError("the condition of form why is a state of exactly one piece of equipment")
        elif self.condition is not None and (self.form not in ("count", "first") or len(self.tags) != 1):
            raise ValueError("a condition belongs to form count or first, with exactly one tag")
        if len(self.windows) == 2 and self.form != "compare":
            raise ValueError("two windows are for form compare")
        return self


CitationKind = Literal["record", "aggregate", "episode", "gap"]


class Citation(_Frozen):
    """
    One thing an answer rests on; ``id`` stands in its text as ``[R1]`` (record), ``[S1]`` (aggregate), ``[A1]``
    (episode) or ``[G1]`` (gap). ``text`` is written by code; ``body`` has the fields of the kind.
    """

    id: str = Field(pattern=r"^[RSAG][1-9][0-9]{0,2}$")
    kind: CitationKind
    text: str
    body: dict[str, Any]


class Answer(_Frozen):
    """
    What was found: ``lines`` cite ``citations``.

    ``query`` is what was run; it can be changed and run again. ``parsed_by`` says who filled it in: code, model or a
    person. ``reasons`` say why the answer may be incomplete, ``notes`` what was assumed.
    """

    question: str
    query: Query
    parsed_by: Literal["code", "model", "person"]
    lines: tuple[str, ...]
    citations: tuple[Citation, ...]
    complete: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
