"""
The form an answer is filled in, as steps for the decoder: scaffolding, closed choices, one free text.

A plan is a generator: it yields a step and is sent what came of it, so that later choices depend on earlier ones.
The text that results is one JSON object of :class:`Answer` and is parsed again from its bytes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import msgspec

from llm import grammar
from llm.prompt import MAX_ACTIONS, MAX_CAUSES, shown_facts
from llm.rules import MAX_ACTIONS as MAX_CHOSEN_ACTIONS
from llm.rules import MAX_CAUSES as MAX_CHOSEN_CAUSES
from llm.rules import NAMED_FROM
from llm.wording import OWN
from schemas.annotation import UNKNOWN
from schemas.evidence import Evidence, Fact

MAX_CITES = 6


@dataclass(frozen=True, slots=True)
class Fixed:
    """Text without a choice."""

    text: str


@dataclass(frozen=True, slots=True)
class Choose:
    """
    One of several texts, none of which begins with another.

    ``all_probabilities`` asks for the exact probability of every option, at the price of one decode per branching.
    Without it the best branch is followed and its probability is the product of those along the way.
    """

    name: str
    options: tuple[tuple[str, str], ...]
    all_probabilities: bool = False


@dataclass(frozen=True, slots=True)
class Free:
    """Text bound by a grammar, at most ``max_bytes`` long, up to and including ``end``."""

    name: str
    gbnf: str
    max_bytes: int
    end: str


Step = Fixed | Choose | Free


@dataclass(frozen=True, slots=True)
class Chosen:
    """Number of the option taken, its probability, and those of all options where they were asked for."""

    index: int
    probability: float
    probabilities: tuple[float, ...] = ()


Plan = Generator[Step, Chosen | None, tuple[float, ...]]


class NamedCause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cause as the model names it."""

    id: str
    cites: list[str]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form, filled in."""

    causes: list[NamedCause]
    actions: list[str]
    text: str


def chosen_of(outcome: Chosen | None) -> Chosen:
    """What came of a choice, which is never nothing."""
    if outcome is None:
        raise TypeError("a choice was answered with nothing")
    return outcome


def _cites(ids: Sequence[str]) -> Generator[Step, Chosen | None, None]:
    """Fact ids in rising order, at least one where there is any, then the end of the cause."""
    start, taken = 0, 0
    while start < len(ids) and taken < MAX_CITES:
        comma = "," if taken else ""
        options = [(fact_id, f'{comma}"{fact_id}"') for fact_id in ids[start:]]
        if taken:
            options.append(("end", "]}"))
        chosen = chosen_of((yield Choose("cite", tuple(options))))
        if options[chosen.index][0] == "end":
            return
        start, taken = start + chosen.index + 1, taken + 1
    yield Fixed("]}")


def _actions(ids: Sequence[str], at_least: int, own: bool) -> Generator[Step, Chosen | None, None]:
    """Up to three actions, of which *own* lets one be in the model's words, then the end of the list."""
    left = list(ids)
    taken = 0
    while (left or own) and taken < MAX_CHOSEN_ACTIONS:
        comma = "," if taken else ""
        options = [(action, f'{comma}"{action}"') for action in left]
        if own:
            options.append((OWN, f'{comma}"{OWN}'))
        if taken >= at_least:
            options.append(("end", '],"text":"'))
        chosen = chosen_of((yield Choose("action", tuple(options))))
        if options[chosen.index][0] == "end":
            return
        taken += 1
        if options[chosen.index][0] == OWN:
            yield Free("action", grammar.own_action(), grammar.MAX_ACTION, grammar.END)
            own = False
        else:
            del left[chosen.index]
    yield Fixed('],"text":"')


def helpful_actions(evidence: Evidence, causes: Sequence[str]) -> list[str]:
    """Ids of the actions offered for some causes: those the catalogue names for them, else all."""
    known = list(dict.fromkeys(action.id for action in evidence.actions))[:MAX_ACTIONS]
    named = {a for option in evidence.causes if option.id in causes for a in option.actions}
    return [action for action in known if action in named] or known


def annotation_plan(
    evidence: Evidence, lead: str = "", *, citable: Sequence[Fact] | None = None, own_action: bool = False
) -> Plan:
    """
    Plan of one annotation; returns the probabilities of the causes named, in order.

    *citable*: the facts that the prompt holds (:func:`llm.prompt.citable_facts`); all that fit into one if not given.
    *own_action*: one action may be in the model's own words, for a model that reads instructions.

    The first cause is the most probable option; others are named from a probability of 20 % on, as the rules do.
    """
    ids = [fact.id for fact in (shown_facts(evidence) if citable is None else citable)]
    names = list(dict.fromkeys([*(option.id for option in evidence.causes[:MAX_CAUSES]), UNKNOWN]))
    yield Fixed(f'{lead}{{"causes":[{{"id":"')
    options = tuple((name, f'{name}","cites":[') for name in names)
    first = chosen_of((yield Choose("cause", options, all_probabilities=True)))
    named = [first.index]
    if names[first.index] != UNKNOWN:
        ranked = sorted(range(len(names)), key=lambda i: -first.probabilities[i])
        named += [
            i for i in ranked if i != first.index and names[i] != UNKNOWN and first.probabilities[i] >= NAMED_FROM
        ][: MAX_CHOSEN_CAUSES - 1]
    yield from _cites(ids)
    for index in named[1:]:
        yield Fixed(f',{{"id":"{names[index]}","cites":[')
        yield from _cites(ids)
    yield Fixed('],"actions":[')
    causes = [names[i] for i in named]
    yield from _actions(helpful_actions(evidence, causes), at_least=0 if UNKNOWN in causes else 1, own=own_action)
    yield Free("text", grammar.free_text(ids), grammar.MAX_BYTES, grammar.END)
    yield Fixed("}")
    return tuple(first.probabilities[i] for i in named)
