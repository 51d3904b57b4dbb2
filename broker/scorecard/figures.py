"""
The figures of a card, computed from what was said and what was true.

Sources: precision and recall of citations as in ALCE (arXiv 2305.14627), kept apart from whether the answer is right;
expected calibration error of Naeini et al. 2015 with ten equal bins; the score of Brier 1950 on the first cause; AUROC
as the probability that the right one of two ranks higher (Hanley & McNeil 1982), ties counted half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from broker.scorecard.said import Said
from broker.scorecard.scenarios import Scenario
from llm.rules import by_direction, movement
from schemas.annotation import UNKNOWN
from schemas.scorecard import Figures, Span

#: Equal bins of the expected calibration error.
BINS: Final = 10
#: Confusions that a card keeps.
MOST_CONFUSIONS: Final = 12

Pair = tuple[Scenario, Said]


def figures(pairs: Sequence[Pair]) -> Figures:
    """Figures of one annotator over some scenarios."""
    right = [said.first in one.causes for one, said in pairs]
    certain = [said.probability for _, said in pairs]
    precision, recall = _citations(pairs)
    return Figures(
        scenarios=len(pairs),
        schema_valid=_held(pairs, lambda said: said.schema_valid),
        citation_valid=_held(pairs, lambda said: said.citation_valid),
        citation_precision=precision,
        citation_recall=recall,
        citation_moved=_moved(pairs),
        claim_support=_held(pairs, lambda said: said.claim_support),
        numbers_faithful=_held(pairs, lambda said: said.numbers_faithful),
        tags_faithful=_held(pairs, lambda said: said.tags_faithful),
        refused=_held(pairs, lambda said: said.refused),
        top1=share(right),
        top3=share(bool(set(said.best(3)) & set(one.causes)) for one, said in pairs),
        macro_f1=macro_f1([(_truth(one, said), said.first) for one, said in pairs]),
        unknown_auroc=auroc([(said.shares.get(UNKNOWN, 0.0), UNKNOWN in one.causes) for one, said in pairs]),
        ece=calibration_error(list(zip(certain, right, strict=True))),
        brier=brier(list(zip(certain, right, strict=True))),
    )


def share(held: Iterable[bool]) -> float | None:
    """How many of some are true, 0 to 1; None of nothing."""
    some = list(held)
    return sum(some) / len(some) if some else None


def _held(pairs: Sequence[Pair], what: Callable[[Said], bool | None]) -> float | None:
    return share(held for held in (what(said) for _, said in pairs) if held is not None)


def _truth(one: Scenario, said: Said) -> str:
    """The cause that counts as the truth where several are: the one that was said, else the first."""
    return said.first if said.first in one.causes else one.causes[0]


def _citations(pairs: Sequence[Pair]) -> tuple[float | None, float | None]:
    """
    Precision and recall of the deviations cited for a right first cause, over all of them together.

    A fact that a tag stayed normal may support a cause, too, and is not counted against it.
    """
    cited = causal = both = 0
    for one, said in pairs:
        if said.cites is None or said.first not in one.causes:
            continue
        truth = set(one.cites[said.first])
        deviations = {fact.id for fact in one.evidence.facts if fact.kind == "deviation"}
        told = set(said.cites) & deviations
        cited, causal, both = cited + len(told), causal + len(truth), both + len(told & truth)
    return both / cited if cited else None, both / causal if causal else None


def _moved(pairs: Sequence[Pair]) -> float | None:
    """Precision without labels: of all facts cited those that say that something was abnormal."""
    cited = (fact for one, said in pairs for fact in map(one.evidence.fact, said.cites or ()))
    return share(fact is not None and movement(*by_direction([fact])) not in {None, "normal"} for fact in cited)


def macro_f1(pairs: Sequence[tuple[str, str]]) -> float | None:
    """F1 of each class in (truth, said), averaged; classes are those that are true or said anywhere."""
    if not pairs:
        return None
    classes = {truth for truth, _ in pairs} | {said for _, said in pairs if said}
    total = 0.0
    for one in classes:
        hit = sum(truth == said == one for truth, said in pairs)
        other = sum((truth == one) != (said == one) for truth, said in pairs)
        total += 2 * hit / (2 * hit + other)
    return total / len(classes)


def auroc(pairs: Sequence[tuple[float, bool]]) -> float | None:
    """Of (score, is one): how often one that is scores above one that is not; None where either is missing."""
    scores = np.array([score for score, _ in pairs], np.float64)
    positive = np.array([is_one for _, is_one in pairs], np.bool_)
    yes, no = scores[positive], scores[~positive]
    if not len(yes) or not len(no):
        return None
    above = (yes[:, None] > no[None, :]).sum() + 0.5 * (yes[:, None] == no[None, :]).sum()
    return float(above / (len(yes) * len(no)))


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float | None:
    """Expected calibration error of (probability, right): ten bins, each closed above; 0 in the first."""
    if not pairs:
        return None
    gap = [0.0] * BINS
    for probability, right in pairs:
        place = min(BINS - 1, max(0, int(np.ceil(probability * BINS)) - 1))
        gap[place] += probability - right
    return sum(map(abs, gap)) / len(pairs)


def brier(pairs: Sequence[tuple[float, bool]]) -> float | None:
    """Mean square of probability less right."""
    return sum((p - right) ** 2 for p, right in pairs) / len(pairs) if pairs else None


def confusions(pairs: Sequence[Pair]) -> tuple[tuple[str, str, int], ...]:
    """(truth, said, how often) of the wrong answers, most often first."""
    wrong = Counter((one.causes[0], said.first or "no answer") for one, said in pairs if said.first not in one.causes)
    ordered = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    return tuple((truth, said, count) for (truth, said), count in ordered[:MOST_CONFUSIONS])


def span(times_ms: Sequence[float]) -> Span:
    """Median and 95th percentile of some times; zeros of none."""
    if not times_ms:
        return Span(p50=0.0, p95=0.0)
    p50, p95 = np.percentile(np.asarray(times_ms, np.float64), [50, 95])
    return Span(p50=float(p50), p95=float(p95))
