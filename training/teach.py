"""
What the model should have answered: the decoder's own plan, filled in with the truth.

The plan is driven exactly as the decoder drives it, so that the tokens of training are those of service. Only what
the model decides (choices and the text) carries loss; scaffolding is free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from broker.scorecard.scenarios import Scenario
from llm.plan import Choose, Chosen, Fixed, annotation_plan
from llm.prompt import MAX_FACTS
from llm.rules import MAX_ACTIONS
from llm.wording import label
from schemas.annotation import UNKNOWN

_CAUSE: Final = 4
Encode = Callable[[str], Sequence[int]]


def sentence(causes: Sequence[str], cites: Sequence[str]) -> str:
    """The one sentence, within the bounds of the grammar and without a word of direction."""
    shown = [f"[{i}]" for i in cites[:2]]
    if not shown:
        return ""
    plural = "point" if len(shown) == 2 else "points"
    subject = " and ".join(shown)
    if causes[0] == UNKNOWN:
        return f"{subject} fit{'' if len(shown) == 2 else 's'} no known cause."
    return f"{subject} {plural} to {label(causes[0])}."


def _sorted(cites: Sequence[str]) -> list[str]:
    return sorted(cites, key=lambda i: int(i[1:]))[:6]


def answer(scenario: Scenario, encode: Encode) -> tuple[list[int], list[int]]:
    """Tokens of the right answer and the weight of each: 0 where it is forced, most for the cause."""
    evidence = scenario.evidence
    if len(evidence.facts) > MAX_FACTS:
        raise ValueError("more facts than a prompt shows")
    actions_of = {option.id: option.actions for option in evidence.causes} | {UNKNOWN: ()}
    wanted_actions = list(dict.fromkeys(a for cause in scenario.causes for a in actions_of[cause]))[:MAX_ACTIONS]
    first = [fact.id for fact in evidence.facts[:1]]  # the form cites at least one fact where there is any
    cites = {cause: _sorted(scenario.cites[cause]) or first for cause in scenario.causes}
    queue = [cite for cause in scenario.causes for cite in [*cites[cause], "end"]]
    plan = annotation_plan(evidence)
    tokens: list[int] = []
    mask: list[int] = []

    def add(text: str, weight: int) -> None:
        piece = list(encode(text))
        tokens.extend(piece)
        mask.extend([weight] * len(piece))

    outcome: Chosen | None = None
    try:
        while True:
            step = plan.send(outcome)
            outcome = None
            if isinstance(step, Fixed):
                add(step.text, 0)
                if step.text == "]}" and queue and queue[0] == "end":
                    queue.pop(0)  # after the sixth or the last fact a cause ends without being asked
            elif isinstance(step, Choose):
                names = [name for name, _ in step.options]
                if step.name == "cause":
                    index = names.index(scenario.causes[0])
                    share = 1 / len(scenario.causes)
                    shares = tuple(share if name in scenario.causes else 0.0 for name in names)
                    outcome = Chosen(index, share, shares)
                elif step.name == "cite":
                    outcome = Chosen(names.index(queue.pop(0)), 1.0)
                else:
                    outcome = Chosen(names.index(wanted_actions.pop(0) if wanted_actions else "end"), 1.0)
                add(step.options[outcome.index][1], 0 if len(names) == 1 else _CAUSE if step.name == "cause" else 1)
            else:
                add(sentence(scenario.causes, cites[scenario.causes[0]]) + step.end, 1)
    except StopIteration:
        return tokens, mask
