"""
Evidence: the numbered facts an annotation may cite, and the causes it may choose from.

Facts are computed from records (``broker/evidence/``); every number, unit and tag name that a person reads is
rendered from them by code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import cached_property
from typing import Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from schemas.anomaly import Direction, Kind, Ne107, Severity

FactKind = Literal["deviation", "neighbour", "state", "gap", "setpoint", "history", "passage"]
#: What a person said of a past episode.
Verdict = Literal["approved", "rejected", "edited"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fact(_Frozen):
    """
    One fact E1…En. Numbers are in ``unit``, times UTC ns.

    * deviation: ``path`` left ``low``..``high``: ``value`` is the peak, ``baseline`` the mean before, ``sigmas`` the
      distance in standard deviations of the baseline, ``rank`` the place in the order of onset (1 moved first),
      ``contribution`` its share of all that deviates, 0 to 1.
    * neighbour: ``path`` on the same equipment stayed normal (direction None).
    * state: equipment state, ``text`` is the state's name; where ``path`` is "shift", the shift that works.
    * gap: samples are missing, ``text`` is the cause.
    * setpoint: ``path`` (role sp) was changed from ``baseline`` to ``value``, last at ``from_ns``.
    * history: ``text`` names a similar past episode and the verdict on it; ``samples`` such episodes are kept. Where a
      person decided, ``verdict`` says how and ``cause`` is the cause it is about (rejected: that does not hold; edited:
      that the person named), ``comment`` what the person wrote.
    * passage: ``text`` stands in the site's own manual or maintenance log ``source``, on ``page`` or from ``line`` on.
      It is a quotation of what somebody wrote, no measurement.
    """

    id: str = Field(pattern=r"^E[1-9][0-9]?$")
    kind: FactKind
    path: str | None = None
    role: str | None = None
    unit: str = "1"
    detected: Kind | None = None
    direction: Direction | None = None
    value: float | None = None
    baseline: float | None = None
    low: float | None = None
    high: float | None = None
    sigmas: float | None = None
    rank: int | None = None
    contribution: float | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    samples: int = 0
    text: str = ""
    source: str = ""
    page: int | None = None
    line: int | None = None
    cause: str | None = None
    verdict: Verdict | None = None
    comment: str = ""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return (self.path or "").rsplit("/", 1)[-1]


#: What a tag does where a cause is at work.
Sign = Literal["rose", "fell", "flat", "silent", "jumped", "normal"]


class Expect(_Frozen):
    """One sign of a cause: a tag whose name matches ``name`` (lower-case words, ``*`` allowed) moves in a direction."""

    name: str
    direction: Sign


class Action(_Frozen):
    """Something a person can do about a cause."""

    id: str
    text: str


class CauseOption(_Frozen):
    """
    One candidate cause from the fault catalogue of the equipment's class.

    ``mechanism`` is the ISO 14224 failure mechanism or mode word; ``signs`` is what it usually looks like.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    text: str
    mechanism: str
    signs: tuple[Expect, ...]
    actions: tuple[str, ...] = Field(description="Ids of the actions that help, most useful first.")


#: Members of a fact that older evidence does not have.
_LATER: Final = ("contribution", "source", "page", "line", "cause", "verdict", "comment")


class Evidence(_Frozen):
    """Immutable snapshot of one anomaly revision; ``evidence_id`` is the hash of everything else."""

    anomaly_id: str
    anomaly_revision: int
    equipment: str
    equipment_class: str | None
    kind: Kind
    severity: Severity
    ne107: Ne107
    at_ns: int
    record_seq: int = Field(description="Records up to this seq were looked at.")
    facts: tuple[Fact, ...]
    causes: tuple[CauseOption, ...] = Field(description="`unknown` is always allowed and not listed.")
    actions: tuple[Action, ...]

    @cached_property
    def body(self) -> bytes:
        """Canonical JSON; a member that came later stands in it only where it says something, so that ids stay."""
        plain = self.model_dump(mode="json")
        for fact in plain["facts"]:
            for name in _LATER:
                if fact[name] in (None, ""):
                    del fact[name]
        return msgspec.json.encode(plain, order="sorted")

    @cached_property
    def evidence_id(self) -> str:
        """32 hex digits that name this content."""
        return hashlib.sha256(self.body).hexdigest()[:32]

    def with_facts(self, facts: tuple[Fact, ...]) -> Evidence:
        """The same snapshot with other facts and its own id; a copy would keep the id of what it was copied from."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(kept | {"facts": facts}))

    def fact(self, fact_id: str) -> Fact | None:
        """The fact with this id, if there is one."""
        return next((fact for fact in self.facts if fact.id == fact_id), None)

    def only(self, kinds: Collection[str]) -> Evidence:
        """The same with facts of these kinds alone; ids stay."""
        facts = tuple(fact for fact in self.facts if fact.kind in kinds)
        if len(facts) == len(self.facts):
            return self
        return self.with_facts(facts)
