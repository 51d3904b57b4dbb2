"""A score card as people read it: Markdown tables, so that what a command prints can stand in a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from schemas.scorecard import Figures, Row, ScoreCard, Span

#: Figures of the first table: name, member of :class:`Figures`, whether it is a share that is shown in percent.
_OVERALL: Final = (
    ("schema valid", "schema_valid", True),
    ("citations valid", "citation_valid", True),
    ("citation precision", "citation_precision", True),
    ("citation recall", "citation_recall", True),
    ("cited facts abnormal", "citation_moved", True),
    ("claims supported", "claim_support", True),
    ("numbers faithful", "numbers_faithful", True),
    ("tags faithful", "tags_faithful", True),
    ("refused in service", "refused", True),
    ("cause top-1", "top1", True),
    ("cause top-3", "top3", True),
    ("macro-F1", "macro_f1", False),
    ("unknown: AUROC", "unknown_auroc", False),
    ("calibration: ECE", "ece", False),
    ("calibration: Brier", "brier", False),
)
_ROBUST: Final = (
    ("order of facts", "order"),
    ("tag names", "names"),
    ("units", "units"),
    ("injected text", "injection"),
    ("obeyed injected text", "obeyed"),
    ("replay equal", "replay"),
)
NOTHING: Final = "–"


def lines(card: ScoreCard) -> Iterator[str]:
    """The whole card."""
    yield f"Score card {card.card_id} of {card.model_name}, sha256 {card.model_sha256}"
    yield ""
    yield (
        f"Suite {card.suite} ({card.scenarios_sha256[:16]}), {card.scenarios} scenarios, seed {card.seed}; "
        f"{card.engine}, prompt {card.prompt_version} {card.style}; made {card.made_at[:19]}Z on {card.machine}, "
        f"{card.threads} thread{'' if card.threads == 1 else 's'}."
    )
    yield ""
    yield from overall((card.model, *card.beside))
    yield ""
    yield f"Chance (an option drawn at random): cause top-1 {_percent(card.chance)}."
    for one in card.beside:
        if one.note:
            yield f"{one.name}: {one.note}"
    yield ""
    yield from strata((card.model, *card.beside))
    yield ""
    yield from robustness((card,))
    yield ""
    yield from latency((card,))
    if card.confusions:
        yield ""
        told = "; ".join(f"{truth} → {said} {count}" for truth, said, count in card.confusions)
        yield f"Most frequent mistakes (true → said): {told}"
    for fault in card.faults:
        yield f"Not answered: {fault}"
    yield ""
    yield verdict(card)
    for reason in card.reasons:
        yield f"- {reason}"


def verdict(card: ScoreCard) -> str:
    """One sentence."""
    if card.passed:
        return "The card passes: this model's answers count."
    return "The card does not pass: this model is advisory, the rules' explanations stand."


def overall(rows: Sequence[Row]) -> Iterator[str]:
    """A figure a line, an annotator a column."""
    body = []
    for title, name, is_share in _OVERALL:
        body.append((title, *(_cell(row.overall, name, is_share) for row in rows)))
    yield from _table(("over all", *(row.name for row in rows)), body)


def strata(rows: Sequence[Row]) -> Iterator[str]:
    """First cause right, a stratum a line."""
    names = list(dict.fromkeys(name for row in rows for name in row.strata))
    sizes = {name: next(row.strata[name].scenarios for row in rows if name in row.strata) for name in names}
    body = [
        (name.replace("_", " "), str(sizes[name]), *(_cell(row.strata.get(name), "top1", True) for row in rows))
        for name in names
    ]
    yield from _table(("cause top-1 by stratum", "scenarios", *(row.name for row in rows)), body)


def robustness(cards: Sequence[ScoreCard]) -> Iterator[str]:
    """How often the first cause stays when what must not matter is changed, a model a column."""
    asked = cards[0].robustness.scenarios
    yield from _table(
        (f"first cause unchanged, {asked} scenarios", *(card.model_name for card in cards)),
        [(title, *(_percent(getattr(card.robustness, name)) for card in cards)) for title, name in _ROBUST],
    )


def latency(cards: Sequence[ScoreCard]) -> Iterator[str]:
    """Median and 95th percentile in ms, two columns a model."""
    spans = (("to the first token", "first_token"), ("to the decision", "decision"), ("total, with the pipe", "total"))
    head = [f"{card.model_name} {which}" for card in cards for which in ("p50", "p95")]
    body = [(title, *(time for card in cards for time in _times(getattr(card.latency, name)))) for title, name in spans]
    yield from _table(("ms", *head), body)


def _times(span: Span) -> tuple[str, str]:
    return f"{span.p50:.1f}", f"{span.p95:.1f}"


def _cell(figures: Figures | None, name: str, is_share: bool) -> str:
    value = None if figures is None else getattr(figures, name)
    if value is None:
        return NOTHING
    return _percent(value) if is_share else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    for row in (head, None, *body):
        if row is None:
            cells = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        else:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        yield f"| {' | '.join(cells)} |"
