"""
Whether what a model is asked, and what it answers, is spread otherwise than it was: population stability index.

PSI = Σ (p − q) · ln(p / q) over the kinds of thing, p in the window and q in the baseline; 0.1 is called a small shift,
0.25 a large one. Without any shift PSI · nm / (n + m) is about χ² with (kinds − 1) degrees of freedom (Yurdakul 2018),
so that few answers over many kinds look shifted by chance: only what lies beyond that chance counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import msgspec

#: How seldom chance alone may look like a shift: with five looks an hour at four dimensions this is still far off.
CHANCE: Final = 1e-4
#: Added to each count, so that a kind that one side never had does not make the index infinite.
_PRIOR: Final = 0.5
#: What is compared, and its name for people.
DIMENSIONS: Final = {
    "facts": "kinds of facts",
    "classes": "equipment classes",
    "kinds": "kinds of anomalies",
    "causes": "causes named",
}


class _Fact(msgspec.Struct):
    kind: str
    direction: str | None = None


class _Evidence(msgspec.Struct):
    kind: str
    facts: list[_Fact]
    equipment_class: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Evidence)


@dataclass(frozen=True, slots=True)
class Spread:
    """How some answers are spread in each dimension: weights that sum to ``answers``."""

    answers: int
    shares: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Shift:
    """How far one dimension has moved. ``beyond_chance``: more than so few answers would by themselves."""

    dimension: str
    psi: float
    beyond_chance: bool
    most: str


def spread(answers: Iterable[tuple[str, str]]) -> Spread:
    """The spread of (cause id, body of the evidence); each answer weighs one in every dimension."""
    found: dict[str, Counter[str]] = {name: Counter() for name in DIMENSIONS}
    number = 0
    for cause_id, body in answers:
        seen = _DECODER.decode(body)
        number += 1
        found["causes"][cause_id] += 1
        found["kinds"][seen.kind] += 1
        found["classes"][seen.equipment_class or "none"] += 1
        for fact in seen.facts:
            name = fact.kind if fact.direction is None else f"{fact.kind} {fact.direction}"
            found["facts"][name] += 1 / len(seen.facts)  # type: ignore[assignment]
        if not seen.facts:
            found["facts"]["none"] += 1
    return Spread(number, found)


def shifts(window: Spread, baseline: Spread) -> list[Shift]:
    """How far the window lies from the baseline, a row a dimension; both hold at least one answer."""
    return [_shift(name, window, baseline) for name in DIMENSIONS]


def _shift(dimension: str, window: Spread, baseline: Spread) -> Shift:
    now, then = window.shares[dimension], baseline.shares[dimension]
    names = sorted({*now, *then})
    n, m, room = window.answers, baseline.answers, _PRIOR * len(names)
    parts = {}
    for name in names:
        p = (now.get(name, 0) + _PRIOR) / (n + room)
        q = (then.get(name, 0) + _PRIOR) / (m + room)
        parts[name] = (p - q) * math.log(p / q)
    psi = math.fsum(parts.values())
    most = max(names, key=lambda name: parts[name])
    return Shift(dimension, psi, psi * n * m / (n + m) > chi2_quantile(len(names) - 1), most)


def chi2_quantile(freedom: int, chance: float = CHANCE) -> float:
    """The value that χ² exceeds with probability *chance* (Wilson and Hilferty 1931; up to 5 % too high)."""
    if freedom < 1:
        return 0.0
    if freedom == 1:
        return NormalDist().inv_cdf(1 - chance / 2) ** 2
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + NormalDist().inv_cdf(1 - chance) * math.sqrt(part)) ** 3)
