"""
Severity and NE 107 class of an episode: computed from its members, never chosen.

| kind         | severity | NE 107 | why |
|--------------|----------|--------|-----|
| missing      | medium   | F | the signal is not there (NE 107: output invalid) |
| flatline     | medium   | F | the signal does not follow the process |
| out_of_range | high     | S | outside the limits that a person declared |
| rate         | low      | S | moved faster than is believable; over at once |
| mean_shift   | low; medium from twice the limit on | M | still inside its range, but not where it was |
| pattern      | low; medium from twice the limit on | M | tags no longer move together as they did |
| late, clock  | low      | S | the values may be right, their times are not to be trusted |
| stale, saturation, quantization | medium | F | the signal does not follow the process, or only partly |
| spike        | low      | S | a sample that is not believable; over at once |
| level_shift, trend, variance, run, extreme | low | M | the process, or the sensor, behaves otherwise than learned |
| oscillation  | medium   | M | wears valves and drives |
| deviation, windup | medium | S | the loop does not hold what it was told to hold |
| stiction     | medium   | M | the valve needs care |
| slow_trend   | low      | M | there is time |

Three tags or more make the episode one step more urgent. The class is the gravest of the members', F before S
before M; C (function check) is never concluded from data, only a person's work makes it: an episode of equipment in
maintenance.

Source of the classes: NAMUR NE 107.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from schemas.anomaly import Kind, Ne107, Severity


class Judged(Protocol):
    """What severity depends on: a member of an episode."""

    @property
    def tag_id(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> Kind: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102


_BASE: Final[dict[Kind, Severity]] = {
    Kind.MISSING: Severity.MEDIUM,
    Kind.FLATLINE: Severity.MEDIUM,
    Kind.OUT_OF_RANGE: Severity.HIGH,
    Kind.RATE: Severity.LOW,
    Kind.MEAN_SHIFT: Severity.LOW,
    Kind.PATTERN: Severity.LOW,
    Kind.LATE: Severity.LOW,
    Kind.CLOCK: Severity.LOW,
    Kind.STALE: Severity.MEDIUM,
    Kind.SATURATION: Severity.MEDIUM,
    Kind.QUANTIZATION: Severity.MEDIUM,
    Kind.SPIKE: Severity.LOW,
    Kind.LEVEL_SHIFT: Severity.LOW,
    Kind.TREND: Severity.LOW,
    Kind.VARIANCE: Severity.LOW,
    Kind.RUN: Severity.LOW,
    Kind.OSCILLATION: Severity.MEDIUM,
    Kind.DEVIATION: Severity.MEDIUM,
    Kind.WINDUP: Severity.MEDIUM,
    Kind.STICTION: Severity.MEDIUM,
    Kind.SLOW_TREND: Severity.LOW,
    Kind.EXTREME: Severity.LOW,
}
_CLASS: Final[dict[Kind, Ne107]] = {
    Kind.MISSING: "F",
    Kind.FLATLINE: "F",
    Kind.OUT_OF_RANGE: "S",
    Kind.RATE: "S",
    Kind.MEAN_SHIFT: "M",
    Kind.PATTERN: "M",
    Kind.LATE: "S",
    Kind.CLOCK: "S",
    Kind.STALE: "F",
    Kind.SATURATION: "F",
    Kind.QUANTIZATION: "F",
    Kind.SPIKE: "S",
    Kind.LEVEL_SHIFT: "M",
    Kind.TREND: "M",
    Kind.VARIANCE: "M",
    Kind.RUN: "M",
    Kind.OSCILLATION: "M",
    Kind.DEVIATION: "S",
    Kind.WINDUP: "S",
    Kind.STICTION: "M",
    Kind.SLOW_TREND: "M",
    Kind.EXTREME: "M",
}
_GRAVEST_FIRST: Final[tuple[Ne107, ...]] = ("F", "C", "S", "M")
_MANY_TAGS: Final = 3
_FAR: Final = 2.0


def severity_of(kind: Kind, score: float) -> Severity:
    """Severity of one member by itself."""
    if kind in (Kind.MEAN_SHIFT, Kind.PATTERN) and score >= _FAR:
        return Severity.MEDIUM
    return _BASE[kind]


def assess(members: Iterable[Judged], *, worked_on: bool = False) -> tuple[Severity, Ne107]:
    """Severity and NE 107 class of an episode with these members (at least one); *worked_on*: in maintenance."""
    found = list(members)
    severity = min(severity_of(member.kind, member.score) for member in found)
    if len({member.tag_id for member in found}) >= _MANY_TAGS:
        severity = Severity(max(severity - 1, Severity.CRITICAL))
    if worked_on:
        return severity, "C"
    classes = {_CLASS[member.kind] for member in found}
    return severity, next(item for item in _GRAVEST_FIRST if item in classes)
