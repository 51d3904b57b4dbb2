"""
Seeded episodes with a known cause, as real Evidence objects over the real fault catalogues, in eight strata.

What is seen follows from the physics of the faults, and goes wrong as it does in plants: tags are missing, late, move
the wrong way or for another reason, two faults overlap, names and units are another site's. Equal seeds give equal
scenarios. What plants really show is wider; a score card says what this can prove.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Final, Literal

from broker.catalogue import catalogue
from broker.scorecard.episodes import (
    DISTRACTED,
    UNKNOWN_PRIOR,
    Course,
    Noise,
    Seen,
    chances,
    course,
    measured_on,
    posterior,
    strange,
)
from broker.scorecard.facts import Move, Setting, facts_of
from broker.scorecard.physics import FAULTS, VARIANTS
from schemas.annotation import UNKNOWN
from schemas.anomaly import Kind, Ne107, Severity
from schemas.evidence import Evidence

Stratum = Literal[
    "in_distribution",
    "held_out",
    "distractors",
    "ambiguous",
    "out_of_catalogue",
    "injection",
    "long",
    "several_machines",
]
#: The strata of a score card and their shares in training; ``held_out`` stands for faults that overlap there.
STRATA: Final[Mapping[Stratum, float]] = {
    "in_distribution": 0.29,
    "held_out": 0.14,
    "distractors": 0.1,
    "ambiguous": 0.05,
    "out_of_catalogue": 0.19,
    "injection": 0.1,
    "long": 0.05,
    "several_machines": 0.08,
}
_CLASSES: Final[Mapping[str, int]] = {
    "centrifugal_pump": 4,
    "heat_exchanger": 3,
    "filling_machine": 2,
    "energy_meter": 1,
}
#: An episode is ambiguous when the generator itself gives no cause more than this, and a second one so much.
_UNSURE: Final = 0.8
_SECOND: Final = 0.15


@dataclass(frozen=True, slots=True)
class Scenario:
    """
    Evidence and the truth about it.

    ``causes`` were put in, the one that moved more in front; ``unknown`` where no catalogued cause was. ``cites`` are
    the facts that each moved. ``posterior`` is what the generator itself thinks, given the directions alone and one
    fault: a bound for what an annotator can know; empty where two faults overlap.
    """

    evidence: Evidence
    causes: tuple[str, ...]
    cites: Mapping[str, tuple[str, ...]]
    stratum: Stratum
    posterior: Mapping[str, float] = field(default_factory=dict)


def withheld(equipment_class: str, cause: str, variant: str) -> bool:
    """Whether training never shows this fault on this variant of the equipment."""
    first = next(iter(VARIANTS[equipment_class]))
    return variant != first and zlib.crc32(f"{equipment_class}/{cause}/{variant}".encode()) % 4 == 0


def withheld_pair(equipment_class: str, one: str, other: str) -> bool:
    """Whether training never shows these two faults at once."""
    return zlib.crc32("/".join((equipment_class, *sorted((one, other)))).encode()) % 3 == 0


@cache
def _pairs(equipment_class: str, *, held_out: bool) -> tuple[tuple[str, str], ...]:
    loud = [name for name, fault in FAULTS[equipment_class].items() if fault.way != "silent"]
    return tuple(pair for pair in combinations(loud, 2) if withheld_pair(equipment_class, *pair) == held_out)


@cache
def _on(equipment_class: str, *, held_out: bool) -> tuple[tuple[str, str], ...]:
    """(cause, variant) of training, or those withheld from it; a cause without a tag to show on is left out."""
    return tuple(
        (cause, variant)
        for cause, fault in FAULTS[equipment_class].items()
        for variant in VARIANTS[equipment_class]
        if withheld(equipment_class, cause, variant) == held_out
        and (not fault.effects or any(name in measured_on(equipment_class, variant) for name in fault.effects))
    )


def _seen(rng: random.Random, run: Course, quantity: str, noise: Noise) -> Seen:
    told = chances(run, quantity, noise)
    return rng.choices(list(told), list(told.values()))[0]


@dataclass(slots=True)
class _Draft:
    """What was put in and what is seen of it, before it is written as facts."""

    equipment_class: str
    variant: str
    causes: tuple[str, ...]
    seen: dict[str, Seen]
    moves: dict[str, Move]


def _draft(rng: random.Random, equipment_class: str, variant: str, runs: Mapping[str, Course], noise: Noise) -> _Draft:
    """Look at every measured tag of a machine with these faults."""
    seen: dict[str, Seen] = {}
    moves: dict[str, Move] = {}
    for name in measured_on(equipment_class, variant):
        by = max(runs, key=lambda cause: (name in runs[cause].ways, abs(runs[cause].far.get(name, 0.0))))
        run = runs[by]
        seen[name] = _seen(rng, run, name, noise)
        far = run.far.get(name, 0.0)
        if seen[name] in ("normal", "absent"):
            moves[name] = Move(seen[name], far if abs(far) < 25 else 0.0, 0.0, ())
            continue
        right = name in run.ways or (abs(far) > 3 and (seen[name] == ("rose" if far > 0 else "fell")))
        strength = abs(far) if right else 3 + rng.expovariate(0.15)
        onset = run.onset_s(name) if right else rng.uniform(0, max(1.0, run.looked_s))
        moves[name] = Move(seen[name], strength, onset + rng.uniform(0, 1.5), (by,) if right else ())
    return _Draft(equipment_class, variant, tuple(runs), seen, moves)


def _pick(rng: random.Random, stratum: Stratum, *, held_out: bool) -> tuple[str, str, dict[str, Course]]:
    """Equipment, variant, and the faults that run on it."""
    equipment_class = rng.choices(list(_CLASSES), list(_CLASSES.values()))[0]
    catalogued = FAULTS[equipment_class]
    two = _pairs(equipment_class, held_out=held_out)
    if stratum == "held_out" and two and (not held_out or rng.random() < 0.4):
        # any variant that training shows both faults on
        pair = rng.choice(two)
        variants = [v for v in VARIANTS[equipment_class] if not any(withheld(equipment_class, c, v) for c in pair)]
        variant = rng.choice(variants)
        measured = measured_on(equipment_class, variant)
        return equipment_class, variant, {cause: course(rng, catalogued[cause], measured) for cause in pair}
    if stratum == "out_of_catalogue" or (stratum == "ambiguous" and rng.random() < UNKNOWN_PRIOR):
        variant = rng.choice(list(VARIANTS[equipment_class]))
        run = strange(rng, equipment_class, measured_on(equipment_class, variant), held_out=held_out)
        return equipment_class, variant, {UNKNOWN: run}
    choices = _on(equipment_class, held_out=held_out and stratum == "held_out")
    if not choices:
        return _pick(rng, stratum, held_out=held_out)
    # causes first, so that none is rarer for showing on fewer variants
    cause = rng.choice(list(dict.fromkeys(cause for cause, _ in choices)))
    variant = rng.choice([v for c, v in choices if c == cause])
    return equipment_class, variant, {cause: course(rng, catalogued[cause], measured_on(equipment_class, variant))}


def _noise(rng: random.Random, stratum: Stratum) -> Noise:
    if stratum == "distractors":
        return Noise(distracted=rng.uniform(0.2, 0.4))
    if stratum == "long":
        return Noise(distracted=0.2, missing=0.02)
    return Noise(distracted=DISTRACTED)


def _fits(stratum: Stratum, draft: _Draft, believed: Mapping[str, float]) -> bool:
    """Whether a draft is a case of its stratum: every fault shows, and an ambiguous one is."""
    shown = {cause for move in draft.moves.values() for cause in move.causes}
    if UNKNOWN not in draft.causes and shown != set(draft.causes):
        return False
    if stratum != "ambiguous":
        return True
    first, second = sorted(believed.values(), reverse=True)[:2]
    return bool(shown) and first <= _UNSURE and second >= _SECOND


def scenario(rng: random.Random, *, stratum: Stratum | None = None, held_out: Literal["yes", "no"] = "no") -> Scenario:
    """
    One episode of a stratum; of any, in the shares of training, where none is named.

    ``held_out`` takes what training never shows: the withheld combinations and overlaps in stratum ``held_out``, other
    faults outside the catalogue, other injected texts, and in all strata but ``in_distribution`` tag names of its own.
    """
    which = stratum or rng.choices(list(STRATA), list(STRATA.values()))[0]
    out = held_out == "yes"
    while True:
        equipment_class, variant, runs = _pick(rng, which, held_out=out)
        draft = _draft(rng, equipment_class, variant, runs, _noise(rng, which))
        believed = posterior(equipment_class, variant, draft.seen) if len(runs) == 1 and (stratum or out) else {}
        if which == "ambiguous" and not believed:
            believed = posterior(equipment_class, variant, draft.seen)
        if _fits(which, draft, believed):
            break
    return _written(rng, draft, which, believed, held_out=out)


def _written(
    rng: random.Random, draft: _Draft, stratum: Stratum, believed: Mapping[str, float], *, held_out: bool
) -> Scenario:
    entries = catalogue(draft.equipment_class)
    setting = Setting(
        equipment_class=draft.equipment_class,
        variant=draft.variant,
        causes=tuple(option.id for option in entries.causes),
        stratum=stratum,
        held_out=held_out,
    )
    facts, moved = facts_of(rng, setting, draft.moves)
    cites = {cause: tuple(i for i, by in moved.items() if cause in by) for cause in draft.causes}
    if UNKNOWN in cites:
        cites[UNKNOWN] = tuple(moved)
    first = sorted(draft.causes, key=lambda cause: -len(cites[cause]))
    ne107: Ne107 = rng.choice(("F", "C", "S", "M"))
    evidence = Evidence(
        anomaly_id=f"s{rng.getrandbits(32):08x}",
        anomaly_revision=1,
        equipment=setting.equipment,
        equipment_class=draft.equipment_class,
        kind=facts[0].detected or Kind.MEAN_SHIFT if facts else Kind.MEAN_SHIFT,
        severity=rng.choice(list(Severity)),
        ne107=ne107,
        at_ns=0,
        record_seq=0,
        facts=tuple(facts),
        causes=entries.causes,
        actions=entries.actions,
    )
    return Scenario(evidence, tuple(first), cites, stratum, believed)


def held_out(count: int, seed: int) -> list[Scenario]:
    """Scenarios for scoring: the strata in turn, about as many of each; training never shows them."""
    names = list(STRATA)
    cases = []
    for at in range(count):
        # each has a generator of its own, so that the first n of any count are the same
        rng = random.Random(f"score-{seed}-{at}")
        cases.append(scenario(rng, stratum=names[at % len(names)], held_out="yes"))
    return cases
