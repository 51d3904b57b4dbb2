"""
What keeps findings from asking for attention, and who decided it.

Three causes, the words of ISA-18.2 / IEC 62682: a person shelves for a time; a rule of the tag map suppresses by
design; equipment is out of service while people work on it (maintenance). What is suppressed is stored and counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.anomaly import Kind

#: A shelf is forgotten sooner than it is reviewed: it ends after this time at the latest.
LONGEST_SHELF_NS: Final = 30 * 86_400 * 1_000_000_000
#: An end further ahead than ten years is a slip of the hand; without an end a maintenance says the same.
LONGEST_NS: Final = 3653 * 86_400 * 1_000_000_000
#: Times are signed 64-bit numbers wherever they are stored.
LATEST_NS: Final = 2**63 - 1

Action = Literal["shelve", "maintenance", "end"]
Mode = Literal["shelf", "maintenance"]


@dataclass(frozen=True, slots=True)
class Command:
    """
    What a person asked for; it takes effect at its place in the stream, like a sample.

    Attributes:
        command_id: 32 hex digits; a command that comes twice is taken once.
        action: ``shelve``, ``maintenance``, or ``end`` one of those.
        actor: who asked.
        target: path of a tag, of equipment or of anything above; with ``end`` the id of the command that it ends.
        kind: shelve findings of this kind only; empty for all.
        until_ns: when it ends by itself, UTC; None: when a person ends it.
        reason: why, in the person's words.
        asked_ns: when the person asked, for people; the stream's own time counts.
    """

    command_id: str
    action: Action
    actor: str
    target: str
    kind: str = ""
    until_ns: int | None = None
    reason: str = ""
    asked_ns: int = 0


@dataclass(frozen=True, slots=True)
class Suppression:
    """A shelf or a maintenance mode in force; ``suppression_id`` is the id of the command that made it."""

    suppression_id: str
    mode: Mode
    target: str
    kind: str
    actor: str
    reason: str
    from_ns: int
    until_ns: int | None

    def covers(self, path: str, equipment: str, kind: str) -> bool:
        """Whether a finding of *kind* on the tag *path* of *equipment* is meant."""
        if self.kind and self.kind != kind:
            return False
        return under(equipment, self.target) or (self.mode == "shelf" and under(path, self.target))


@dataclass(frozen=True, slots=True)
class SuppressionEvent:
    """
    What became of a command or a suppression.

    ``what``: ``began`` and ``ended`` concern ``suppression``; ``refused`` is a command that had no effect, ``detail``
    says why. ``actor`` is empty where time ended it.
    """

    what: Literal["began", "ended", "refused"]
    suppression_id: str
    actor: str
    at_ns: int
    suppression: Suppression | None = None
    detail: str = ""


class Rule(BaseModel):
    """
    Suppression by design: findings that mean nothing while a tag says something.

    It holds while the tag ``when`` (a path) is one of ``values``, above ``above`` or below ``below``; what is unknown
    suppresses nothing: no value yet, one that cannot be used, a source that is down, a tag that is silent for longer
    than the map allows. ``tags`` are full paths.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str
    values: tuple[float, ...] = ()
    above: float | None = None
    below: float | None = None
    tags: tuple[str, ...] = Field((), description="Paths of the tags; none: every tag of the equipment.")
    kinds: tuple[Kind, ...] = Field((), description="Kinds of finding; none: all.")
    reason: str = ""

    def holds(self, value: float | None) -> bool:
        """Whether the condition is true of the latest value."""
        if value is None or math.isnan(value):
            return False
        above = self.above is not None and value > self.above
        below = self.below is not None and value < self.below
        return value in self.values or above or below

    def covers(self, path: str, kind: str) -> bool:
        """Whether a finding of *kind* on the tag *path* is meant."""
        return (not self.tags or path in self.tags) and (not self.kinds or kind in self.kinds)


def under(path: str, top: str) -> bool:
    """Whether *path* is *top* or lies below it."""
    return path == top or path.startswith(top + "/")
