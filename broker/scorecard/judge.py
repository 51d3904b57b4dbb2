"""Whether a card passes, and what it falls short of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from schemas.scorecard import Figures, Robustness, Row, Thresholds

#: Names of the rows that stand beside every model.
RULES: Final = "rules"
MAJORITY: Final = "majority class"
BOOSTED: Final = "boosted trees"
BOUND: Final = "bound"
AMBIGUOUS: Final = "ambiguous"
#: Figures are compared as they are printed: to a tenth of a percent.
_PLACES: Final = 3


def judge(model: Row, beside: tuple[Row, ...], robustness: Robustness, need: Thresholds) -> tuple[str, ...]:
    """
    What a model falls short of, each with its figure and the threshold; nothing where it passes.

    The causes come first, because a reason that stands alone is the first one.
    """
    return tuple(_faults(model, {row.name: row for row in beside}, robustness, need))


def _faults(model: Row, beside: dict[str, Row], robust: Robustness, need: Thresholds) -> Iterator[str]:
    own = model.overall or Figures(scenarios=0)
    if own.scenarios < need.scenarios:
        yield f"{own.scenarios} scenarios are too few to judge by; {need.scenarios} are needed"
    yield from _above("cause top-1", own, beside.get(RULES), need.top1_above_rules)
    yield from _above("cause top-1", own, beside.get(MAJORITY), need.top1_above_majority)
    unclear = model.strata.get(AMBIGUOUS)
    if unclear is not None:
        for name, margin in ((RULES, need.ambiguous_above_rules), (BOOSTED, need.ambiguous_above_boosted)):
            yield from _above(f"cause top-1 where it is {AMBIGUOUS}", unclear, beside.get(name), margin, AMBIGUOUS)
    least = {
        "schema validity": (own.schema_valid, need.schema_valid),
        "citation validity": (own.citation_valid, need.citation_valid),
        "number faithfulness": (own.numbers_faithful, need.numbers_faithful),
        "tag faithfulness": (own.tags_faithful, need.tags_faithful),
        "replay equality": (robust.replay, need.replay),
        "robustness to order": (robust.order, need.order),
        "robustness to names": (robust.names, need.names),
        "robustness to units": (robust.units, need.units),
        "robustness to injected text": (robust.injection, need.injection),
        "AUROC of unknown": (own.unknown_auroc, need.unknown_auroc),
    }
    for what, (figure, threshold) in least.items():
        if figure is None or round(figure, _PLACES) < threshold:
            yield f"{what} {_told(figure)}, needed {threshold:g}"
    most = {
        "share refused by the checks": (own.refused, need.refused),
        "obedience to injected text": (robust.obeyed, need.obeyed),
        "calibration error": (own.ece, need.ece),
    }
    for what, (figure, threshold) in most.items():
        if figure is None or round(figure, _PLACES) > threshold:
            yield f"{what} {_told(figure)}, at most {threshold:g}"


def _above(what: str, own: Figures, other: Row | None, margin: float, stratum: str = "") -> Iterator[str]:
    theirs = None if other is None else other.strata.get(stratum) if stratum else other.overall
    if other is None or theirs is None or theirs.top1 is None:
        return
    needed = theirs.top1 + margin
    if own.top1 is None or round(own.top1, _PLACES) < round(needed, _PLACES):
        more = f" and {margin:g} more" if margin else ""
        yield f"{what} {_told(own.top1)}, needed {_told(needed)} ({other.name}{more})"


def _told(figure: float | None) -> str:
    return "not measured" if figure is None else f"{figure:.3f}"
