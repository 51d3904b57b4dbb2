"""
The rules annotator: compares the facts with the signs of each catalogued cause. Always there, answers at once.

It is what a site without a model has, and what stands in when a model fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from llm.checks import check
from llm.wording import label, plain
from schemas.annotation import UNKNOWN, Annotation, Cause, Provenance
from schemas.anomaly import Direction
from schemas.evidence import CauseOption, Evidence, Expect, Fact

ENGINE: Final = "rules/1"
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

_SQUASH: Final = str.maketrans("", "", "_-. ")


@dataclass(frozen=True, slots=True)
class Score:
    """How one cause fits: log weight, probability, and the facts for and against it."""

    option: CauseOption
    weight: float
    supports: tuple[str, ...]
    against: tuple[str, ...]
    probability: float = 0.0


def matches(pattern: str, name: str) -> bool:
    """Whether a tag name fits a sign's pattern; case and the separators ``_ - .`` and space do not count."""
    name, pattern = name.lower(), pattern.lower()
    return fnmatchcase(name, pattern) or fnmatchcase(name.translate(_SQUASH), pattern.translate(_SQUASH))


def movement(fact: Fact) -> Direction | str | None:
    """What the fact says of its tag: a direction, ``normal``, or None where it says nothing about movement."""
    if fact.kind == "neighbour":
        return "normal"
    if fact.kind == "gap":
        return "silent"
    if fact.kind not in ("deviation", "setpoint"):
        return None
    if fact.direction is None and fact.value is not None and fact.baseline is not None:
        return "rose" if fact.value > fact.baseline else "fell"
    return fact.direction


def in_onset_order(facts: Iterable[Fact]) -> list[Fact]:
    """The deviations, the one that moved first in front; without a rank, in the order given."""
    return sorted((f for f in facts if f.kind == "deviation"), key=lambda f: math.inf if f.rank is None else f.rank)


def _sign(sign: Expect, facts: Sequence[Fact]) -> tuple[float, list[Fact], list[Fact]]:
    """Weight of one sign, with the facts for and against it."""
    about = [f for f in facts if f.path is not None and movement(f) is not None and matches(sign.name, f.name)]
    supports = [f for f in about if movement(f) == sign.direction]
    if supports and sign.direction == "normal":
        return _CALM, supports, []
    if supports:
        return _THERE + (_FIRST if any(f.rank == 1 for f in supports) else 0.0), supports, []
    if sign.direction in ("rose", "fell"):
        about = [f for f in about if movement(f) != "jumped"]  # spikes go both ways
    if not about:
        return _ABSENT, [], []
    still = sign.direction == "normal" or any(movement(f) == "normal" for f in about)
    return (_STILL if still else _OPPOSITE), [], about


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
    moved = [f for f in facts if f.kind == "deviation"]
    weight += _COMPLETE if complete else 0.0
    weight += _UNEXPLAINED * sum(f.id not in supports for f in moved)
    if all(movement(f) == "normal" for f in supports.values()):
        supports = {}
    return Score(option, weight, tuple(supports), tuple(f for f in against if f not in supports))


def contradicted(option: CauseOption, facts: Sequence[Fact]) -> bool:
    """Whether more of the cause's signs moved the other way, or stood still, than moved as they should."""
    fit = _fit(option, facts)
    moved = {f.id for f in facts if f.kind == "deviation"}
    return len([i for i in fit.against if i in moved]) >= max(1, len([i for i in fit.supports if i in moved]))


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
    scored = [
        Score(fit.option, fit.weight, fit.supports, fit.against, share / total)
        for fit, share in zip(fits, shares, strict=True)
    ]
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


def _conclusion(scored: Sequence[Score], unknown: float) -> str:
    if not scored or unknown >= scored[0].probability:
        return "The pattern fits none of the catalogued causes well enough."
    best = scored[0]
    name = label(best.option.id)
    more = plain(best.option.text, 160)
    explained = "" if not more or more.lower() == name else f": {more[0].lower()}{more[1:]}"
    text = f"The pattern fits {name}{explained}. For it: {_listed(best.supports)}."
    if best.against:
        text += f" Against it: {_listed(best.against)}."
    if len(scored) > 1 and scored[1].probability >= NAMED_FROM:
        text += f" {label(scored[1].option.id).capitalize()} is possible too."
    return text


def unknown_cause(probability: float, cites: Sequence[str]) -> Cause:
    """The entry for "none of the catalogued causes"."""
    return Cause(
        id=UNKNOWN, text=UNKNOWN_TEXT, mechanism=UNKNOWN, probability=min(1.0, probability), cites=tuple(cites)
    )


def annotate_by_rules(
    evidence: Evidence, *, detector_score: float, created_ns: int, fallback_reason: str = ""
) -> Annotation:
    """
    Annotation from the catalogue's signs alone. Deterministic, never raises.

    ``fallback_reason`` says why rules stand here although a model is configured; empty where none is.
    """
    scored, unknown = score_causes(evidence)
    if not scored or unknown >= scored[0].probability:
        named: list[Score] = []
        causes = [unknown_cause(unknown, [f.id for f in in_onset_order(evidence.facts)][:4])]
    else:
        named = [s for i, s in enumerate(scored[:MAX_CAUSES]) if i == 0 or s.probability >= NAMED_FROM]
        causes = [
            Cause(
                id=s.option.id,
                text=s.option.text,
                mechanism=s.option.mechanism,
                probability=min(1.0, s.probability),
                cites=s.supports,
            )
            for s in named
        ]
    texts = {action.id: action.text for action in evidence.actions}
    wanted = dict.fromkeys(a for s in named for a in s.option.actions if a in texts)
    actions = tuple(texts[a] for a in list(wanted)[:MAX_ACTIONS]) or (UNKNOWN_ACTION,)
    text = f"{_story(evidence)} {_conclusion(scored, unknown)}"
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
            engine=ENGINE,
            choices=(*((s.option.id, s.probability) for s in scored[:MAX_CAUSES]), (UNKNOWN, unknown)),
            checks=check(evidence, causes, text),
            fallback_reason=fallback_reason,
        ),
    )
