"""
From a fault to what the tags then say, and back: how probable each cause is, given what was seen.

An episode draws how large a fault is, how fast it grows and when somebody looks. With that each tag's distance from
normal follows from :mod:`broker.scorecard.physics`, and what is seen of it is drawn for each tag alone. So the
probability of what was seen is a product within an episode and a mean over episodes, and Bayes' rule can be computed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from broker.scorecard.physics import FAULTS, OUTSIDE, QUANTITIES, VARIANTS, Effect, Fault
from schemas.annotation import UNKNOWN

#: What is seen of a tag: it deviates in a direction, it is listed as normal, or nothing is said of it.
Seen = Literal["rose", "fell", "jumped", "flat", "silent", "normal", "absent"]
SEEN: Final[tuple[Seen, ...]] = ("rose", "fell", "jumped", "flat", "silent", "normal", "absent")
#: Prior of ``unknown``; the catalogued causes share the rest equally.
UNKNOWN_PRIOR: Final = 0.2
#: A detector speaks at so many standard deviations, give or take.
THRESHOLD: Final = 5.5
_SPREAD: Final = 1.3
_SWING_FOUND: Final = 1.8
#: Of all tags: nothing is known of it; it goes the wrong way (a swapped sign, a return); it moves for another reason.
MISSING: Final = 0.06
WRONG: Final = 0.02
DISTRACTED: Final = 0.05
#: A tag that stayed normal is listed so often.
_LISTED: Final = 0.75
_DRAWS: Final = 160


@dataclass(frozen=True, slots=True)
class Noise:
    """How much goes wrong in what is seen; shares of all tags."""

    missing: float = MISSING
    wrong: float = WRONG
    distracted: float = DISTRACTED


@dataclass(slots=True)
class Course:
    """
    One fault as it runs: by quantity the distance from normal in standard deviations when somebody looks.

    ``ways`` are the quantities that do not simply shift. ``effects``, ``size`` and ``ramp_s`` give when a tag left its
    normal.
    """

    size: float
    ramp_s: float
    looked_s: float
    effects: Mapping[str, Effect]
    far: dict[str, float] = field(default_factory=dict)
    ways: dict[str, str] = field(default_factory=dict)

    def at(self, effect: Effect, seconds: float) -> float:
        """Distance of a quantity *seconds* after the fault began."""
        grown = self.size * min(1.0, seconds / self.ramp_s)
        return effect.gain * grown * (1.0 - math.exp(-seconds / effect.lag_s))

    def onset_s(self, quantity: str) -> float:
        """When the quantity left its normal, seconds after the fault began."""
        effect = self.effects.get(quantity)
        if effect is None or quantity in self.ways:
            return 0.0
        low, high = 0.0, self.looked_s
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if abs(self.at(effect, middle)) >= THRESHOLD - 1 else (middle, high)
        return high


def _looked(rng: random.Random, effects: Mapping[str, Effect], size: float, ramp_s: float) -> float:
    """Seconds after the beginning at which somebody looks: soon after the first tag moved, or much later."""
    course = Course(size, ramp_s, 2000.0, effects)
    first = min((course.onset_s(name) for name, effect in effects.items() if effect.gain), default=0.0)
    later = rng.uniform(0.5, 4.0) if rng.random() < 0.3 else math.exp(rng.uniform(math.log(4), math.log(240)))
    return first + later


def shifting(rng: random.Random, effects: Mapping[str, Effect]) -> Course:
    """A fault that moves its tags."""
    size = rng.uniform(0.3, 1.0)
    ramp_s = math.exp(rng.uniform(math.log(2), math.log(90)))
    site = {name: Effect(e.gain * rng.lognormvariate(0, 0.3), e.lag_s) for name, e in effects.items()}
    course = Course(size, ramp_s, _looked(rng, site, size, ramp_s), site)
    course.far = {name: course.at(effect, course.looked_s) for name, effect in site.items()}
    return course


def course(rng: random.Random, fault: Fault, measured: Sequence[str]) -> Course:
    """One run of a fault on a machine that measures some quantities."""
    if fault.way == "shift":
        return shifting(rng, fault.effects)
    run = Course(rng.uniform(0.3, 1.0), 1.0, 10.0, {})
    about = [name for name in fault.effects or measured if name in measured]
    if not about:
        return run
    if fault.way == "swing":
        side = rng.choice((-1.0, 1.0))
        for name in about:
            run.far[name] = side * run.size * fault.effects[name].gain * rng.uniform(0.4, 1.0)
            run.ways[name] = "swing"
    elif fault.way == "silent":
        count = len(about) if rng.random() < 0.7 else max(1, round(len(about) * rng.uniform(0.5, 1.0)))
        run.ways = dict.fromkeys(rng.sample(about, k=count), "silent")
    else:
        one = rng.choice(about)
        run.ways[one] = fault.way
        run.far[one] = rng.uniform(30, 600) if fault.way == "spikes" else rng.uniform(0, 2)
    return run


@cache
def familiar(equipment_class: str) -> frozenset[tuple[str, bool]]:
    """(quantity, whether it rises) that some catalogued fault of a class gives."""
    faults = [f for f in FAULTS[equipment_class].values() if f.way in ("shift", "swing")]
    given = {(name, e.gain > 0) for f in faults for name, e in f.effects.items()}
    return frozenset(given | {(name, e.gain < 0) for f in faults if f.way == "swing" for name, e in f.effects.items()})


def _unfamiliar(equipment_class: str, effects: Mapping[str, Effect]) -> bool:
    return any((name, e.gain > 0) not in familiar(equipment_class) for name, e in effects.items())


def _turned(rng: random.Random, equipment_class: str, measured: Sequence[str]) -> dict[str, Effect]:
    """A catalogued fault about half of whose signs are turned round."""
    shifts = [f for f in FAULTS[equipment_class].values() if f.way == "shift" and len(f.effects) > 1]
    fault = rng.choice(shifts or list(FAULTS[equipment_class].values()))
    there = [name for name in fault.effects if name in measured]
    turned = set(rng.sample(there, k=(len(there) + 1) // 2))
    return {n: Effect(-fault.effects[n].gain if n in turned else fault.effects[n].gain, 2.0) for n in there}


def _any_moves(rng: random.Random, measured: Sequence[str]) -> dict[str, Effect]:
    """One to four tags that go anywhere."""
    names = rng.sample(list(measured), k=min(len(measured), rng.choice((1, 1, 2, 2, 3, 4))))
    return {n: Effect(rng.choice((-1, 1)) * rng.uniform(20, 120), rng.uniform(1, 15)) for n in names}


def strange(rng: random.Random, equipment_class: str, measured: Sequence[str], *, held_out: bool) -> Course:
    """
    What no catalogued cause explains: another fault, signs that contradict each other, or hardly anything at all.

    Where something moves, at least one tag goes a way that no catalogued fault gives. ``held_out`` takes the other
    faults that training never shows.
    """
    draw = rng.random()
    if draw < 0.15:
        return Course(0.0, 1.0, 10.0, {})
    patterns = OUTSIDE[equipment_class]
    for _ in range(20):
        if draw < 0.35:
            effects: Mapping[str, Effect] = _turned(rng, equipment_class, measured)
        elif draw < (0.5 if held_out else 0.7):
            effects = _any_moves(rng, measured)
        else:
            effects = rng.choice(patterns[-2:] if held_out else patterns[:-2])
        there = {name: effect for name, effect in effects.items() if name in measured}
        if _unfamiliar(equipment_class, there):
            return shifting(rng, there)
    return Course(0.0, 1.0, 10.0, {})


def chances(run: Course, quantity: str, noise: Noise) -> dict[Seen, float]:
    """Probability of each thing that may be seen of a quantity."""
    way, far = run.ways.get(quantity), run.far.get(quantity, 0.0)
    away: Seen = "rose" if far > 0 else "fell"
    back: Seen = "fell" if far > 0 else "rose"
    moves: dict[Seen, float] = {}
    if way == "silent":
        moves = {"silent": 0.97}
    elif way == "flat":
        moves = {"flat": 0.97}
    elif way == "spikes":
        moves = {"jumped": 0.5, "rose": 0.35, "fell": 0.12}
    else:
        # what comes and goes is found earlier than it is far
        told = abs(far) * (_SWING_FOUND if way == "swing" else 1.0)
        speaks = 0.5 * (1 + math.erf((told - THRESHOLD) / _SPREAD / math.sqrt(2)))
        if way == "swing":
            moves = {"jumped": 0.5 * speaks, away: 0.4 * speaks, back: 0.1 * speaks}
        else:
            moves = {away: speaks * (1 - noise.wrong), back: speaks * noise.wrong}
    still = max(0.0, 1.0 - sum(moves.values()))
    for direction, share in (("rose", 0.4), ("fell", 0.4), ("jumped", 0.2)):
        moves[direction] = moves.get(direction, 0.0) + still * noise.distracted * share  # type: ignore[index, call-overload]
    still *= 1 - noise.distracted
    # nothing else is listed of a machine that does not answer
    listed = 0.1 if "silent" in run.ways.values() else _LISTED
    shown = {name: share * (1 - noise.missing) for name, share in moves.items()}
    shown["normal"] = still * listed * (1 - noise.missing)
    shown["absent"] = 1.0 - sum(shown.values())
    return shown


@cache
def _draws(equipment_class: str, cause: str, variant: str) -> NDArray[np.float64]:
    """Probability of what is seen in many runs of a cause, float64[run, quantity, seen]."""
    rng = random.Random(f"{equipment_class}/{cause}/{variant}")
    names = list(QUANTITIES[equipment_class])
    measured = measured_on(equipment_class, variant)
    table = np.zeros((_DRAWS, len(names), len(SEEN)))
    for at in range(_DRAWS):
        if cause == UNKNOWN:
            run = strange(rng, equipment_class, measured, held_out=rng.random() < 0.3)
        else:
            run = course(rng, FAULTS[equipment_class][cause], measured)
        for row, name in enumerate(names):
            told = chances(run, name, Noise())
            table[at, row] = [told.get(one, 0.0) for one in SEEN]
    return table + 1e-6


@cache
def measured_on(equipment_class: str, variant: str) -> tuple[str, ...]:
    """Quantities that a variant of the equipment measures."""
    lacks = VARIANTS[equipment_class][variant]
    return tuple(name for name in QUANTITIES[equipment_class] if name not in lacks)


def posterior(equipment_class: str, variant: str, seen: Mapping[str, Seen]) -> dict[str, float]:
    """
    Probability of each cause of a class, ``unknown`` among them, given what was seen of each measured quantity.

    Bayes' rule with one fault at a time, from the directions alone: order and strength are not used.
    """
    names = list(QUANTITIES[equipment_class])
    causes = [*FAULTS[equipment_class], UNKNOWN]
    rows = [(names.index(name), SEEN.index(one)) for name, one in seen.items()]
    weight: dict[str, float] = {}
    for cause in causes:
        table = _draws(equipment_class, cause, variant)
        product = np.ones(_DRAWS)
        for row, column in rows:
            product = product * table[:, row, column]
        prior = UNKNOWN_PRIOR if cause == UNKNOWN else (1 - UNKNOWN_PRIOR) / (len(causes) - 1)
        weight[cause] = prior * float(product.mean())
    total = sum(weight.values())
    return {cause: part / total for cause, part in weight.items()}
