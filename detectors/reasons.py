"""What a finding says, for a person: one sentence with its numbers, in the tag's unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from schemas.annotation import number, symbol
from schemas.anomaly import Finding, Kind

#: What went beyond a band is told by how far it went, also while it is on its way back.
_FURTHEST: Final = (Kind.MEAN_SHIFT, Kind.OUT_OF_RANGE)
#: Numbers of a finding by name, and what only its detector knows as ``a`` and ``b``.
_TEXTS: Final[dict[Kind, str]] = {
    Kind.MISSING: "no sample for {score} times the allowed time",
    Kind.LATE: "{samples} rows of the source within a minute are older than what came before",
    Kind.CLOCK: "{samples} rows of the source within a minute carry no believable time",
    Kind.STALE: "{samples} samples came, but their device time stands still",
    Kind.OUT_OF_RANGE: "{value} is outside its range {band}",
    Kind.RATE: "changed {score} times faster than is believable, to {value}",
    Kind.FLATLINE: "has stood at {value} for {samples} samples, {score} times its limit",
    Kind.SPIKE: "{count} went as far as {value} and came back; usual is {band}",
    Kind.SATURATION: "is cut off at {value}",
    Kind.QUANTIZATION: "moves in steps of {a}; before, its finest step was {b}",
    Kind.MEAN_SHIFT: "the mean {direction} to {value}; normal is {band}",
    Kind.PATTERN: "{value}; beside the other tags {band} is usual; {a} % of a deviation of {score} times its limit",
    Kind.RUN: "run rule {a} is broken at {value}",
    Kind.LEVEL_SHIFT: "stepped to {value}, {score} times the limit of a step",
    Kind.TREND: "{direction} steadily to {value}, {score} times the limit of a slope",
    Kind.VARIANCE: "its spread is {a} times the usual one",
    Kind.OSCILLATION: "swings with a period of {a} s and an amplitude of {b}",
    Kind.DEVIATION: "{value} stays outside {band}, where its set point wants it",
    Kind.WINDUP: "stands at its limit {value}, and the loop does not reach its set point",
    Kind.STICTION: "the loop swings with a period of {a} s and an amplitude of {b}, in the shape of a sticking valve",
    Kind.EXTREME: "{direction} to {value}, further than its peaks outside {band} explain",
    Kind.SLOW_TREND: "{direction} by {a} a day over {samples} days{outlook}",
}

#: A value that went beyond its range, of which a clamp has left the end.
_CLAMPED: Final = "went beyond its range {band}, and was cut to {value}"


def reason(finding: Finding, unit: str, details: Sequence[float] = (), peak: float | None = None) -> str:
    """
    The sentence; its unit is told as people write it.

    *peak* is the value that went furthest, where there is one.
    *details* are numbers that only the detector knows: seconds of bad values (missing), steps (quantization), rule
    (run), contribution in per cent (pattern), ratio (variance), period in seconds and amplitude (oscillation,
    stiction), slope a day and days to the limit, soonest and latest (slow trend).
    """
    told = symbol(unit)
    of_unit = f" {told}" if told else ""
    a, b, c = (*details, *[math.nan] * 3)[:3]
    if finding.kind is Kind.MISSING and math.isfinite(a):
        return f"only bad values for {a:.0f} s"
    value = finding.value if peak is None or finding.kind not in _FURTHEST else peak
    text = _TEXTS[finding.kind]
    if finding.kind is Kind.OUT_OF_RANGE and value is not None and _within(value, finding):
        text = _CLAMPED
    in_unit = finding.kind in (Kind.QUANTIZATION, Kind.SLOW_TREND)
    return text.format(
        value=_number(value) + of_unit,
        band=f"{_number(finding.low)} to {_number(finding.high)}{of_unit}",
        score=_number(finding.score),
        samples=finding.samples,
        count="1 sample" if finding.samples == 1 else f"{finding.samples} samples",
        direction=finding.direction,
        a=_number(abs(a)) + (of_unit if in_unit else ""),
        b=_number(b) + of_unit,
        outlook=_outlook(b, c) if finding.kind is Kind.SLOW_TREND else "",
    )


def _within(value: float, finding: Finding) -> bool:
    low, high = finding.low, finding.high
    return (low is None or value >= low) and (high is None or value <= high)


def _number(value: float | None) -> str:
    return "?" if value is None or not math.isfinite(value) else number(value)


def _outlook(soonest: float, latest: float) -> str:
    """When the end of the range is reached."""
    if not math.isfinite(soonest):
        return ""
    if soonest <= 0:
        return "; it is beyond the end of its range"
    first, last = f"{soonest:.3g}", f"{latest:.3g}"
    if first == last:
        return f"; at this rate the end of its range is {first} days away"
    until = f"to {last} days" if math.isfinite(latest) else "days or more"
    return f"; at this rate the end of its range is {first} {until} away"
