"""What one annotator said of one scenario, as the figures are taken from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from llm.checks import check_model, claims_direction
from llm.messages import Reply
from llm.plan import Answer
from llm.rules import MAX_ACTIONS, MAX_CAUSES, by_direction, contradicted
from llm.wording import label, plain
from schemas.annotation import UNKNOWN, Annotation, Cause, citations, phrase, render
from schemas.evidence import Evidence

_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
#: A word written as tag names are: with an underscore, or with a hump inside.
_TAG: Final = re.compile(r"[A-Za-z]\w*_\w+|\b[A-Za-z]*[a-z]{2,}[A-Z][a-z]{2,}\w*")


@dataclass(frozen=True, slots=True)
class Said:
    """
    One answer. None where the annotator has no such thing: a majority class cites nothing and writes nothing.

    Attributes:
        first: the first cause; empty without a usable answer.
        shares: probability of every cause weighed, ``unknown`` among them.
        cites: facts that the first cause rests on.
        schema_valid, citation_valid, claim_support, numbers_faithful, tags_faithful: whether each holds.
        refused: whether the checks in service refuse it.
        fault: why there is no usable answer; empty where there is one.
    """

    first: str
    shares: Mapping[str, float] = field(default_factory=dict)
    cites: tuple[str, ...] | None = None
    schema_valid: bool | None = None
    citation_valid: bool | None = None
    claim_support: bool | None = None
    numbers_faithful: bool | None = None
    tags_faithful: bool | None = None
    refused: bool | None = None
    fault: str = ""

    @property
    def probability(self) -> float:
        """Of the first cause, 0 to 1."""
        return min(1.0, max(0.0, self.shares.get(self.first, 0.0)))

    def best(self, count: int) -> list[str]:
        """The most probable causes; of equals the one that was listed first."""
        return sorted(self.shares, key=lambda cause: -self.shares[cause])[:count]


def nothing(fault: str) -> Said:
    """No usable answer: nothing holds of it."""
    return Said(
        first="",
        schema_valid=False,
        citation_valid=False,
        claim_support=False,
        numbers_faithful=False,
        tags_faithful=False,
        refused=True,
        fault=fault,
    )


def cites_valid(evidence: Evidence, cited: Sequence[Sequence[str]], text: str) -> bool:
    """Whether every cited fact exists, and no cause cites one twice."""
    ids = {fact.id for fact in evidence.facts}
    exist = all(one in ids for some in (*cited, citations(text)) for one in some)
    return exist and all(len(set(some)) == len(some) for some in cited)


def numbers_stand(evidence: Evidence, text: str) -> bool:
    """Whether every number of the text, as a person reads it, stands in a fact of the evidence or is a fact's id."""
    told = " ".join(f"{fact.id} {phrase(fact)}" for fact in evidence.facts)
    return set(_NUMBER.findall(render(text, evidence))) <= set(_NUMBER.findall(told))


def tags_stand(evidence: Evidence, text: str) -> bool:
    """Whether every word of the text that looks like a tag name stands in the evidence."""
    told = " ".join(f"{phrase(fact)} {fact.name}" for fact in evidence.facts)
    return set(_TAG.findall(render(text, evidence))) <= set(_TAG.findall(told))


def claims_hold(evidence: Evidence, first: str, text: str) -> bool:
    """
    Whether nothing is claimed that the evidence speaks against: no direction in the writer's own words, where code
    puts the measured one, and no cause most of whose signs moved the other way.
    """
    own = text.lower()
    for option in evidence.causes:
        for words in (plain(option.text, 160).lower(), label(option.id)):
            own = own.replace(words, "")
    chosen = next((option for option in evidence.causes if option.id == first), None)
    return not claims_direction(own) and (chosen is None or not contradicted(chosen, by_direction(evidence.facts)))


def of_reply(evidence: Evidence, reply: Reply) -> Said:
    """A model's answer, before the checks of the service throw anything away."""
    try:
        answer = msgspec.json.decode(reply.answer, type=Answer)
    except ValueError as error:  # also text that is not UTF-8
        return nothing(f"not the form: {error}")
    if not answer.causes:
        return nothing("no cause")
    causes = [
        Cause(id=one.id, text="", mechanism="", probability=min(1.0, max(0.0, share or 0.0)), cites=tuple(one.cites))
        for one, share in zip(answer.causes, reply.probabilities, strict=False)
    ]
    checks = check_model(evidence, causes, answer.actions, answer.text)
    first = answer.causes[0].id
    supported = claims_hold(evidence, first, answer.text)
    form = ("causes_listed", "causes_differ", "actions_listed", "text_characters")
    in_form = (
        all(checks[name] for name in form)
        and len(causes) == len(answer.causes) == len(reply.probabilities) <= MAX_CAUSES
        and len(answer.actions) <= MAX_ACTIONS
    )
    return Said(
        first=first,
        shares=dict(reply.shares),
        cites=tuple(answer.causes[0].cites),
        schema_valid=in_form,
        citation_valid=checks["text_cites"] and cites_valid(evidence, [c.cites for c in answer.causes], answer.text),
        claim_support=supported,
        numbers_faithful=numbers_stand(evidence, answer.text),
        tags_faithful=tags_stand(evidence, answer.text),
        refused=not (in_form and supported and all(checks.values())),
    )


def of_rules(evidence: Evidence, note: Annotation) -> Said:
    """The rules' answer; they name at most three causes and ``unknown`` with their probabilities."""
    first = note.causes[0]
    shares = dict(note.provenance.choices)
    return Said(
        first=first.id,
        shares={UNKNOWN: 0.0} | shares,
        cites=first.cites,
        schema_valid=note.provenance.checks["causes_listed"] and note.provenance.checks["causes_differ"],
        citation_valid=cites_valid(evidence, [cause.cites for cause in note.causes], note.text),
        claim_support=claims_hold(evidence, first.id, note.text),
        numbers_faithful=numbers_stand(evidence, note.text),
        tags_faithful=tags_stand(evidence, note.text),
        refused=not all(note.provenance.checks.values()),
    )
