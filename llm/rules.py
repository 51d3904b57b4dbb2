"""
The rules annotator: compares the facts with the signs of each catalogued cause. Always there, answers at once.

It is what a site without a model has, and what stands in when a model fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from llm.checks import check
from llm.cited import by_code, judged
from llm.wording import label, plain
from schemas.annotation import UNKNOWN, Annotation, Cause, Provenance
from schemas.anomaly import Direction, Kind
from schemas.evidence import CauseOption, Evidence, Expect, Fact

ENGINE: Final = "rules/2"
#: The engine of before, which believed a fact's direction whatever had seen it; a replay of its answers reads so.
BY_DIRECTION: Final = "rules/1"
UNKNOWN_TEXT: Final = "no catalogued cause fits"
UNKNOWN_ACTION: Final = "Inspect the equipment at the tags named in the evidence."
#: A second or third cause is named from this probability on.
NAMED_FROM: Final = 0.2
MAX_CAUSES: Final = 3
MAX_ACTIONS: Final = 3

# Natural-log weights: one sign that is there outweighs "unknown", one opposite sign cancels it. That a tag stayed
# normal says little by itself, and never makes a cause a candidate.
_THERE: Final = 1.5
_CALM: Final = 0.5
_COMPLETE: Final = 0.7
_FIRST: Final = 0.3
_OPPOSITE: Final = -2.0
_STILL: Final = -0.8
_ABSENT: Final = -0.2
_UNEXPLAINED: Final = -0.3
_UNKNOWN: Final = 1.0
#: What a person said of a cause in a similar episode; it weighs less than what is measured now.
_CONFIRMED: Final = 0.8
_REFUTED: Final = -1.2
#: A deviation below so many sigmas, as of a tag that stayed normal (``broker/evidence/normal.py``).
WEAK_SIGMAS: Final = 3.0
_SWINGS: Final = "swings"
#: The pattern of a sign for whichever tag.
_ANY: Final = "*"
#: A text is not longer than this.
MAX_WORDS: Final = 600

_SQUASH: Final = str.maketrans("", "", "_-. ")


@dataclass(frozen=True, slots=True)
class Score:
    """How one cause fits: log weight, probability, and the facts for and against it."""

    option: CauseOption
    weight: float
    supports: tuple[str, ...]
    against: tuple[str, ...]
    probability: float = 0.0
    confirmed: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()


def matches(pattern: str, name: str) -> bool:
    """Whether a tag name fits a sign's pattern; case and the separators ``_ - .`` and space do not count."""
    name, pattern = name.lower(), pattern.lower()
    return fnmatchcase(name, pattern) or fnmatchcase(name.translate(_SQUASH), pattern.translate(_SQUASH))


#: What a tag does, by what saw it, where no rise or fall was seen. What is not here says nothing a sign could mean:
#: rows with a wrong time come, a calmer signal moves, and one fast step is no spike.
_WAYS: Final[Mapping[Kind, str]] = {
    Kind.MISSING: "silent",
    Kind.FLATLINE: "flat",
    Kind.SPIKE: "jumped",
    Kind.OSCILLATION: _SWINGS,
    Kind.STICTION: _SWINGS,
}


def by_direction(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """The facts with their direction alone, not what saw it and how far it went."""
    return tuple(fact.model_copy(update={"detected": None, "sigmas": None}) for fact in facts)


def movement(fact: Fact) -> Direction | str | None:
    """
    What the fact says of its tag: a direction, ``swings``, ``normal``, or None where it says nothing about movement.

    A direction of a fact that does not tell what saw it is taken as it is.
    """
    if fact.kind == "neighbour":
        return "normal"
    if fact.kind == "gap":
        return "silent"
    if fact.kind not in ("deviation", "setpoint"):
        return None
    if fact.direction is None and fact.value is not None and fact.baseline is not None:
        return "rose" if fact.value > fact.baseline else "fell"
    if fact.detected is None or fact.direction in ("rose", "fell", None):
        return fact.direction
    return _WAYS.get(fact.detected)


def _shows(sign: Expect, way: str | None) -> bool:
    """Whether a movement is what the sign expects; of a named quantity that is to jump, a swing is, too."""
    # the catalogue's sticking valve makes its loop swing; any tag that jumps is a transmitter's fault
    return way == sign.direction or (way == _SWINGS and sign.direction == "jumped" and sign.name != _ANY)


def in_onset_order(facts: Iterable[Fact]) -> list[Fact]:
    """The deviations, the one that moved first in front; without a rank, in the order given."""
    return sorted((f for f in facts if f.kind == "deviation"), key=lambda f: math.inf if f.rank is None else f.rank)


def _sign(sign: Expect, facts: Sequence[Fact]) -> tuple[float, list[Fact], list[Fact]]:
    """Weight of one sign, with the facts for and against it."""
    about = [f for f in facts if f.path is not None and movement(f) is not None and matches(sign.name, f.name)]
    supports = [f for f in about if _shows(sign, movement(f))]
    if supports and sign.direction == "normal":
        return _CALM, supports, []
    if supports:
        return _THERE + (_FIRST if any(f.rank == 1 for f in supports) else 0.0), supports, []
    about = [f for f in about if not _is_weak(f)]
    if sign.direction in ("rose", "fell"):
        about = [f for f in about if movement(f) not in ("jumped", _SWINGS)]  # these go both ways
    if sign.direction == "jumped":
        about = [f for f in about if movement(f) == "normal"]  # a limit sees but one side of a spike or a swing
    if not about:
        return _ABSENT, [], []
    still = sign.direction == "normal" or any(movement(f) == "normal" for f in about)
    return (_STILL if still else _OPPOSITE), [], about


def _is_weak(fact: Fact) -> bool:
    """Whether a tag went no further than one that stayed normal may: that speaks against nothing."""
    return fact.kind == "deviation" and fact.sigmas is not None and fact.sigmas < WEAK_SIGMAS


def _fit(option: CauseOption, facts: Sequence[Fact]) -> Score:
    weight = 0.0
    supports: dict[str, Fact] = {}
    against: dict[str, None] = {}
    complete = bool(option.signs)
    for sign in option.signs:
        part, agree, oppose = _sign(sign, facts)
        weight += part
        complete = complete and bool(agree)
        supports |= {f.id: f for f in agree}
        against |= dict.fromkeys(f.id for f in oppose)
    moved = [f for f in facts if f.kind == "deviation" and not _is_weak(f)]
    weight += _COMPLETE if complete else 0.0
    weight += _UNEXPLAINED * sum(f.id not in supports for f in moved)
    if all(movement(f) == "normal" for f in supports.values()):
        supports = {}
    past = judged(option.id, facts)
    weight += (_CONFIRMED if past.confirmed else 0.0) + (_REFUTED if past.refuted else 0.0)
    opposed = tuple(f for f in against if f not in supports)
    return Score(option, weight, tuple(supports), opposed, 0.0, past.confirmed, past.refuted)


def contradicted(option: CauseOption, facts: Sequence[Fact]) -> bool:
    """Whether more of the cause's signs moved the other way, or stood still, than moved as they should."""
    fit = _fit(option, facts)
    moved = {f.id for f in facts if f.kind == "deviation"}
    return len([i for i in fit.against if i in moved]) >= max(1, len([i for i in fit.supports if i in moved]))


def supported(option: CauseOption, facts: Sequence[Fact], cites: Sequence[str]) -> bool:
    """
    Whether at least one of the cited facts is a sign of the cause; a cause without signs claims nothing.

    That a tag stayed normal supports no cause by itself.
    """
    signs = set(_fit(option, facts).supports)
    return not option.signs or any(f.id in signs and f.id in cites and movement(f) != "normal" for f in facts)


def score_causes(evidence: Evidence) -> tuple[list[Score], float]:
    """
    Causes with at least one moved tag for them, best first, and the probability of ``unknown``.

    Probabilities of the list and of ``unknown`` add up to 1. Equal weights keep the order of the catalogue.
    """
    fits = [fit for fit in (_fit(option, evidence.facts) for option in evidence.causes) if fit.supports]
    fits.sort(key=lambda fit: -fit.weight)
    top = max([_UNKNOWN, *(fit.weight for fit in fits)])
    shares = [math.exp(fit.weight - top) for fit in fits]
    unknown = math.exp(_UNKNOWN - top)
    total = sum(shares) + unknown
    scored = [replace(fit, probability=share / total) for fit, share in zip(fits, shares, strict=True)]
    return scored, unknown / total


def _listed(ids: Sequence[str]) -> str:
    cited = [f"[{i}]" for i in ids[:4]]
    return cited[0] if len(cited) == 1 else f"{', '.join(cited[:-1])} and {cited[-1]}"


def _story(evidence: Evidence) -> str:
    moved = in_onset_order(evidence.facts)
    if not moved:
        rest = [f.id for f in evidence.facts]
        return f"{_listed(rest)} stand in the evidence; nothing measured deviates." if rest else "No fact is listed."
    ids = [f.id for f in moved]
    if len(ids) == 1:
        return f"Only {_listed(ids)} deviates."
    if moved[0].rank is None:
        return f"{_listed(ids)} deviate."
    return f"{_listed(ids[:1])} moved first; {_listed(ids[1:])} followed."


def _conclusion(named: Sequence[Score]) -> str:
    if not named:
        return "The pattern fits none of the catalogued causes well enough."
    best = named[0]
    name = label(best.option.id)
    more = plain(best.option.text, 160)
    explained = "" if not more or more.lower() == name else f": {more[0].lower()}{more[1:]}"
    text = f"The pattern fits {name}{explained}. For it: {_listed(best.supports)}."
    if best.against:
        text += f" Against it: {_listed(best.against)}."
    if len(named) > 1:
        text += f" {label(named[1].option.id).capitalize()} is possible too."
    return text


def _told(best: Score, passage: Sequence[str]) -> str:
    """What people said of the cause in similar episodes, and where the site's own documents speak of it."""
    text = ""
    if best.confirmed:
        text += f" A person named it in a similar episode: {_listed(best.confirmed)}."
    if best.refuted:
        text += f" A person rejected it in a similar episode: {_listed(best.refuted)}."
    if passage:
        text += f" The site's own documents speak of it: {_listed(passage)}."
    return text


def unknown_cause(probability: float | None, cites: Sequence[str]) -> Cause:
    """The entry for "none of the catalogued causes"."""
    share = None if probability is None else min(1.0, probability)
    return Cause(id=UNKNOWN, text=UNKNOWN_TEXT, mechanism=UNKNOWN, probability=share, cites=tuple(cites))


def annotate_by_rules(
    evidence: Evidence, *, detector_score: float, created_ns: int, fallback_reason: str = "", engine: str = ENGINE
) -> Annotation:
    """
    Annotation from the catalogue's signs alone. Deterministic, never raises.

    ``fallback_reason`` says why rules stand here although a model is configured; empty where none is. *engine* is that
    of then in a replay: ``BY_DIRECTION``, else that of now.
    """
    engine = engine if engine == BY_DIRECTION else ENGINE
    facts = by_direction(evidence.facts) if engine == BY_DIRECTION else evidence.facts
    scored, unknown = score_causes(evidence.with_facts(facts))
    if not scored or unknown >= scored[0].probability:
        named: list[Score] = []
        added: tuple[str, ...] = ()
        causes = [unknown_cause(unknown, [f.id for f in in_onset_order(evidence.facts)][:4])]
    else:
        named = [s for i, s in enumerate(scored[:MAX_CAUSES]) if i == 0 or s.probability >= NAMED_FROM]
        if engine != BY_DIRECTION:
            named = [s for i, s in enumerate(named) if i == 0 or not contradicted(s.option, facts)]
        added = by_code(named[0].option, evidence.facts)
        causes = [
            Cause(
                id=s.option.id,
                text=s.option.text,
                mechanism=s.option.mechanism,
                probability=min(1.0, s.probability),
                cites=s.supports if i else (*s.supports, *added),
            )
            for i, s in enumerate(named)
        ]
    texts = {action.id: action.text for action in evidence.actions}
    wanted = dict.fromkeys(a for s in named for a in s.option.actions if a in texts)
    actions = tuple(texts[a] for a in list(wanted)[:MAX_ACTIONS]) or (UNKNOWN_ACTION,)
    text = f"{_story(evidence)} {_conclusion(named)}"
    more = _told(named[0], [i for i in added if i not in named[0].confirmed]) if named else ""
    text += more if len(text) + len(more) <= MAX_WORDS else ""
    return Annotation(
        anomaly_id=evidence.anomaly_id,
        anomaly_revision=evidence.anomaly_revision,
        evidence_id=evidence.evidence_id,
        origin="rules",
        causes=tuple(causes),
        actions=actions,
        text=text,
        detector_score=detector_score,
        created_ns=created_ns,
        provenance=Provenance(
            engine=engine,
            choices=(*((s.option.id, s.probability) for s in scored[:MAX_CAUSES]), (UNKNOWN, unknown)),
            checks=check(evidence, causes, text),
            fallback_reason=fallback_reason,
            cited_by_code=added,
        ),
    )
