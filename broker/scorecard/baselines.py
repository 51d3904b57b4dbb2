"""What stands beside every model: the rules, the commonest cause, boosted trees, the generator's own view, chance."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from broker.scorecard.said import Said, of_rules
from broker.scorecard.scenarios import Scenario, scenario
from llm.prompt import words
from llm.rules import BY_DIRECTION, annotate_by_rules, by_direction, movement
from schemas.annotation import UNKNOWN
from schemas.evidence import Evidence

#: Scenarios that the baselines learn from, to each that is scored; drawn as the model's training is, never the same.
EXAMPLES: Final = 15
FEWEST: Final = 600
MOST: Final = 6000
#: What to do to get the trees.
NOT_INSTALLED: Final = "not installed: pip install 'fairlead[score]'"
_ROUNDS: Final = 60
#: A word that so few examples hold is somebody's own; the trees do without it.
_RARE: Final = 20
_WAYS: Final = ("rose", "fell", "flat", "silent", "jumped", "normal", "moved")


def by_rules(cases: Sequence[Scenario]) -> list[Said]:
    """The rules' answers to the directions alone: in a scenario the detector behind a direction is drawn by chance."""
    return [
        of_rules(one.evidence, annotate_by_rules(one.evidence, detector_score=1.0, created_ns=0, engine=BY_DIRECTION))
        for one in cases
    ]


def examples(count: int, seed: int) -> list[Scenario]:
    """Scenarios to learn from."""
    rng = random.Random(f"baselines-{seed}")
    return [scenario(rng) for _ in range(count)]


def by_majority(cases: Sequence[Scenario], learned: Sequence[Scenario]) -> list[Said]:
    """Always the cause that is commonest among *learned*, with its share as the probability."""
    counts = Counter(one.causes[0] for one in learned)
    shares = {cause: count / len(learned) for cause, count in counts.most_common()}
    said = Said(first=next(iter(shares)), shares=shares)
    return [said] * len(cases)


def by_bound(cases: Sequence[Scenario]) -> list[tuple[Scenario, Said]]:
    """
    What the generator itself thinks of the directions that are seen; of the scenarios for which it tells that.

    It knows neither strength nor order of onset, so that the best annotator may be a little above it.
    """
    told = [(one, one.posterior) for one in cases if one.posterior]
    return [(one, Said(first=max(shares, key=lambda cause: shares[cause]), shares=shares)) for one, shares in told]


def chance(cases: Sequence[Scenario]) -> float:
    """Share of right first causes where one of the options, ``unknown`` included, is drawn with equal chances."""
    shares = []
    for one in cases:
        options = {option.id for option in one.evidence.causes} | {UNKNOWN}
        shares.append(len(set(one.causes) & options) / len(options))
    return sum(shares) / len(shares) if shares else 0.0


def by_trees(cases: Sequence[Scenario], learned: Sequence[Scenario]) -> list[Said] | None:
    """
    Gradient-boosted trees, one model an equipment class, over which word moved which way; None without scikit-learn.

    They see what the model sees: the words of the tag names, movements, strengths and the order of onset.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    groups: dict[str, list[Scenario]] = defaultdict(list)
    for one in learned:
        groups[one.evidence.equipment_class or ""].append(one)
    fitted: dict[str, tuple[_Table, Any]] = {}
    for name, group in groups.items():
        table = _Table([one.evidence for one in group])
        model = HistGradientBoostingClassifier(
            max_iter=_ROUNDS, max_leaf_nodes=15, early_stopping=False, random_state=0
        )
        with threadpool_limits(1):  # one core is left to the broker, and threads that wait would spin
            model.fit(table.rows([one.evidence for one in group]), [one.causes[0] for one in group])
        fitted[name] = table, model
    return [_by_tree(one.evidence, fitted.get(one.evidence.equipment_class or "")) for one in cases]


def _by_tree(evidence: Evidence, fitted: tuple[_Table, Any] | None) -> Said:
    if fitted is None:
        return Said(first=UNKNOWN, shares={UNKNOWN: 1.0})
    table, model = fitted
    shares: Mapping[str, float] = dict(
        zip(map(str, model.classes_), map(float, model.predict_proba(table.rows([evidence]))[0]), strict=True)
    )
    return Said(first=max(shares, key=lambda cause: shares[cause]), shares=shares)


class _Table:
    """Evidence as rows of numbers: for each word of a tag name and each way to move, how strongly."""

    def __init__(self, learned: Sequence[Evidence]) -> None:
        counts = Counter(
            word
            for evidence in learned
            for word in {word for fact in evidence.facts for word in words(fact.name).split()}
        )
        self._place = {word: i for i, word in enumerate(sorted(w for w, n in counts.items() if n >= _RARE))}
        self._width = len(_WAYS) + 1

    def rows(self, some: Sequence[Evidence]) -> NDArray[np.float32]:
        """
        Shape (evidence, words × (ways + 1) + ways + 1).

        Of a word: sigmas (1 where there are none) by the way it moved, then whether it moved first; at the end how
        many tags moved each way, and how many facts there are.
        """
        table = np.zeros((len(some), len(self._place) * self._width + len(_WAYS) + 1), np.float32)
        for row, evidence in zip(table, some, strict=True):
            for fact in by_direction(evidence.facts):
                way = movement(fact)
                if way is None:
                    continue
                column = _WAYS.index(way) if way in _WAYS else len(_WAYS) - 1
                row[len(self._place) * self._width + column] += 1
                for word in set(words(fact.name).split()) & self._place.keys():
                    at = self._place[word] * self._width
                    row[at + column] = max(row[at + column], abs(fact.sigmas or 1.0))
                    row[at + len(_WAYS)] = max(row[at + len(_WAYS)], float(fact.rank == 1))
            row[-1] = len(evidence.facts)
        return table
