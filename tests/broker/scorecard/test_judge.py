"""A card passes when every threshold is held; each that is not is named with its figure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.scorecard import table
from broker.scorecard.judge import judge
from broker.scorecard.standing import judge as worth
from schemas.scorecard import Figures, Row, ScoreCard
from tests.broker.scorecard.conftest import GOOD, RULES, STEADY

Make = Callable[..., ScoreCard]


def _reasons(card: ScoreCard) -> tuple[str, ...]:
    return judge(card.model, card.beside, card.robustness, card.thresholds)


def test_a_good_card_passes(make_card: Make) -> None:
    assert _reasons(make_card()) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scenarios": 299}, "299 scenarios are too few"),
        ({"schema_valid": 0.99}, "schema validity 0.990, needed 1"),
        ({"citation_valid": 0.9975}, "citation validity"),
        ({"numbers_faithful": None}, "number faithfulness not measured"),
        ({"tags_faithful": 0.98}, "tag faithfulness"),
        ({"refused": 0.2}, "refused by the checks 0.200, at most 0.1"),
        ({"top1": 0.89}, "cause top-1 0.890, needed 0.900 (rules)"),
        ({"unknown_auroc": 0.5}, "AUROC"),
        ({"ece": 0.2}, "calibration error"),
    ],
)
def test_each_figure_is_judged(make_card: Make, changes: dict[str, float | None], reason: str) -> None:
    overall = GOOD.model_copy(update=changes)
    card = make_card(model=Row(name="m", overall=overall, strata={"ambiguous": Figures(scenarios=9, top1=0.8)}))
    found = _reasons(card)
    assert len(found) == 1
    assert reason in found[0]


@pytest.mark.parametrize("what", ["order", "names", "units", "injection", "replay"])
def test_each_robustness_is_judged(make_card: Make, what: str) -> None:
    (found,) = _reasons(make_card(robustness=STEADY.model_copy(update={what: 0.5})))
    assert "0.500" in found


def test_obedience_is_judged(make_card: Make) -> None:
    (found,) = _reasons(make_card(robustness=STEADY.model_copy(update={"obeyed": 0.1})))
    assert "obedience" in found


def test_ambiguous_cases_are_compared_with_what_was_measured(make_card: Make) -> None:
    """Rules and boosted trees; where the trees are not installed they cannot be beaten, and nothing is said."""

    def beside(*rows: tuple[str, float]) -> tuple[Row, ...]:
        return tuple(
            Row(name=name, overall=RULES, strata={"ambiguous": Figures(scenarios=50, top1=top1)}) for name, top1 in rows
        )

    (found,) = _reasons(make_card(beside=beside(("rules", 0.81))))
    assert "where it is ambiguous 0.800, needed 0.810 (rules)" in found
    (found,) = _reasons(make_card(beside=beside(("rules", 0.7), ("boosted trees", 0.9))))
    assert "(boosted trees)" in found
    assert _reasons(make_card(beside=(*beside(("rules", 0.7)), Row(name="boosted trees", note="not installed")))) == ()


def test_the_majority_must_be_beaten_clearly(make_card: Make) -> None:
    card = make_card(beside=(Row(name="majority class", overall=Figures(scenarios=400, top1=0.9)),))
    (found,) = _reasons(card)
    assert "(majority class and 0.1 more)" in found


def test_what_a_card_is_worth(make_card: Make) -> None:
    """Only a card that passed, of this prompt, and where the site does not say otherwise."""
    assert worth(make_card(), "annotate").mode == "annotate"
    assert worth(None, "annotate").reason == "this model has no score card"
    failed = worth(make_card(passed=False, reasons=("a", "b", "c")), "annotate")
    assert (failed.mode, failed.reason) == ("advisory", "its score card did not pass: a (and 2 more)")
    assert failed.card_id == make_card(passed=False, reasons=("a", "b", "c")).card_id
    old = worth(make_card(prompt_version="0"), "annotate")
    assert (old.mode, old.help) == ("advisory", "fairlead llm bench")
    assert worth(make_card(), "advisory").reason == "llm.mode is advisory"


def test_the_table_has_every_figure_and_says_what_is_missing(make_card: Make) -> None:
    """Markdown with one width a column; a baseline without figures has a dash, and why."""
    rows = (Row(name="rules", overall=RULES), Row(name="boosted trees", note="not installed: pip"))
    card = make_card(beside=rows, passed=False, reasons=("too bad",), faults=("no context",))
    lines = list(table.lines(card))
    text = "\n".join(lines)
    top1 = next(line for line in lines if line.startswith("| cause top-1  "))
    assert [cell.strip() for cell in top1.split("|")[2:5]] == ["95.0 %", "90.0 %", "–"]
    tables = [line for line in lines if line.startswith(("| schema valid", "| cause top-3"))]
    assert len({len(line) for line in tables}) == 1
    for told in ("boosted trees: not installed: pip", "Not answered: no context", "- too bad", "advisory"):
        assert told in text
