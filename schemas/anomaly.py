"""
Findings of single detectors, and the anomalies (episodes) they become.

Kind, severity and NE 107 class are computed here and in ``detectors``, never chosen by a model.
Source of the class: NAMUR NE 107; of the words: docs/glossary.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Kind(StrEnum):
    """What a detector saw."""

    MISSING = "missing"
    FLATLINE = "flatline"
    OUT_OF_RANGE = "out_of_range"
    RATE = "rate"
    MEAN_SHIFT = "mean_shift"
    PATTERN = "pattern"  #: tags no longer move together as they did
    LATE = "late"
    STALE = "stale"
    CLOCK = "clock"
    SPIKE = "spike"
    SATURATION = "saturation"
    QUANTIZATION = "quantization"
    RUN = "run"  #: a run rule (Nelson)
    LEVEL_SHIFT = "level_shift"
    TREND = "trend"
    VARIANCE = "variance"
    OSCILLATION = "oscillation"
    DEVIATION = "deviation"  #: process value away from its set point
    WINDUP = "windup"  #: output at its limit, the deviation stays
    STICTION = "stiction"
    SLOW_TREND = "slow_trend"  #: over weeks
    EXTREME = "extreme"  #: further out than ever


class Severity(IntEnum):
    """1 is the most urgent, as on the pages."""

    CRITICAL = 1
    HIGH = 2
    MEDIUM = 3
    LOW = 4


#: NAMUR NE 107: failure, check function, out of specification, maintenance required.
Ne107 = Literal["F", "C", "S", "M"]
#: ``silent``: no samples come, or none with a time that counts; ``bad``: samples come, and none carries a good value.
Direction = Literal["rose", "fell", "flat", "silent", "jumped", "bad"]
#: Why findings do not ask for attention; see ``schemas.suppression``.
Cause = Literal["shelved", "by_design", "maintenance"]


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One detector on one tag: the condition began, goes on, or is over.

    Attributes:
        detector: name of the detector (docs/detectors.md has them all).
        kind: what it saw.
        tag: tag number in the map revision in force.
        onset_ns: when the condition began, device time (tick time for ``missing``).
        at_ns: when it was seen, same clock.
        active: False when the condition is over.
        value: the observed value in the tag's unit; None for ``missing``.
        low, high: expected band, either may be None.
        score: how far outside, in sigmas or in multiples of the limit; 1 is the limit itself.
        direction: which way the value went.
        samples: number of samples behind the statement.
        contribution: part of a statement about several tags that is this tag's, 0 to 1; None for one about it alone.
        reason: the statement for a person, with its numbers in the tag's unit; "" where there is none.
    """

    detector: str
    kind: Kind
    tag: int
    onset_ns: int
    at_ns: int
    active: bool
    value: float | None
    low: float | None
    high: float | None
    score: float
    direction: Direction
    samples: int = 1
    contribution: float | None = None
    reason: str = ""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Frozen):
    """One tag and detector within an episode; numbers in the tag's unit, times UTC ns."""

    tag_id: str
    path: str
    unit: str
    detector: str
    kind: Kind
    direction: Direction
    onset_ns: int
    last_ns: int
    active: bool
    value: float | None
    peak: float | None
    low: float | None
    high: float | None
    score: float
    contribution: float | None = None
    reason: str = ""


class Anomaly(_Frozen):
    """
    One revision of an episode on one piece of equipment.

    ``anomaly_id`` is made from the equipment and the first finding, so that a retry cannot create a second one.
    ``members`` are in order of onset; the first one moved first. ``detector_score`` is the largest score of a member.
    ``suppressed`` says why it asks nobody for attention; such an episode is stored and counted, and not explained.
    """

    anomaly_id: str
    revision: int
    equipment: str
    state: Literal["open", "closed"]
    kind: Kind
    severity: Severity
    ne107: Ne107
    onset_ns: int
    updated_ns: int
    closed_ns: int | None
    detector_score: float
    members: tuple[Member, ...]
    suppressed: Cause | None = None

    @property
    def title(self) -> str:
        """One line for lists, e.g. ``mean_shift on BearingTemp (+2 tags)``."""
        first = self.members[0].path.rsplit("/", 1)[-1]
        paths = {m.path for m in self.members}
        more = f" (+{len(paths) - 1} tags)" if len(paths) > 1 else ""
        return f"{self.kind.value.replace('_', ' ')} on {first}{more}"
