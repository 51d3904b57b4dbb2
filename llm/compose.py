"""From the worker's reply to an annotation: parse the form again, check it against the evidence, fill in the texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from pydantic import ValidationError

from llm.checks import check_model
from llm.cited import by_code
from llm.messages import Reply
from llm.plan import Answer
from llm.rules import MAX_ACTIONS, MAX_CAUSES, UNKNOWN_ACTION, by_direction, contradicted, supported, unknown_cause
from llm.wording import CUT_OFF, OWN
from schemas.annotation import UNKNOWN, Annotation, Cause, Provenance
from schemas.errors import AnswerRefused
from schemas.evidence import CauseOption, Evidence, Fact

_SAID: Final = {
    "causes_listed": "a cause is not in the catalogue",
    "causes_differ": "a cause is named twice",
    "cited_facts_exist": "a cited fact does not exist",
    "text_cites_existing_facts": "the text cites a fact that does not exist",
    "no_uncited_digit": "the text holds a digit outside a citation",
    "actions_listed": "an action is not in the catalogue",
    "own_action_plain": "an action in own words holds a forbidden character, or there are two",
    "text_cites": "the text cites nothing",
    "text_characters": "the text holds a forbidden character",
    "no_direction_claim": "the text claims a direction",
    "signs_hold": "the evidence speaks against the cause",
    "cites_support": "none of the cited facts is a sign of the cause",
}
#: Version of the checks of claims. 1 looked at the first cause alone and believed a fact's direction, whatever had seen
#: it; a replay of such an answer is checked as it was then.
CLAIMS: Final = 2
_FURTHER: Final = "further_causes_hold"


def claims_of(known: Provenance) -> int:
    """The version of the checks of claims that an annotation has passed."""
    return CLAIMS if _FURTHER in known.checks else 1


def _causes(evidence: Evidence, answer: Answer, probabilities: list[float | None]) -> list[Cause]:
    options = {option.id: option for option in evidence.causes}
    causes = []
    for named, probability in zip(answer.causes, probabilities, strict=True):
        if named.id == UNKNOWN:
            causes.append(unknown_cause(probability, named.cites))
            continue
        option = options.get(named.id)
        if option is None:
            raise AnswerRefused(f"answer refused: {_SAID['causes_listed']}")
        causes.append(
            Cause(
                id=option.id,
                text=option.text,
                mechanism=option.mechanism,
                probability=None if probability is None else min(1.0, probability),
                cites=tuple(named.cites),
            )
        )
    return causes


def _action(action: str, texts: dict[str, str]) -> str:
    return " ".join(action.removeprefix(OWN).split()) if action.startswith(OWN) else texts[action]


def _claims(option: CauseOption | None, facts: Sequence[Fact], cause: Cause) -> dict[str, bool]:
    """Whether the evidence bears out a cause; ``unknown`` claims nothing."""
    return {
        "signs_hold": option is None or not contradicted(option, facts),
        "cites_support": option is None or supported(option, facts, cause.cites),
    }


def _without(
    actions: Sequence[str], dropped: Sequence[CauseOption], kept: Sequence[CauseOption | None]
) -> tuple[str, ...]:
    """The actions but for those that the catalogue has for dropped causes and for no other one."""
    helps = {action for option in kept if option is not None for action in option.actions}
    idle = {action for option in dropped for action in option.actions} - helps
    return tuple(action for action in actions if action not in idle)


def compose(
    evidence: Evidence,
    reply: Reply,
    known: Provenance,
    *,
    detector_score: float,
    created_ns: int,
    claims: int = CLAIMS,
) -> Annotation:
    """
    The annotation a reply stands for; ``known`` is what the client knows of its provenance, ``claims`` the version of
    the checks of claims.

    Raises:
        AnswerRefused: the reply was cut off or is not the form, or a check failed; the message names it.
    """
    if reply.cut_off:
        raise AnswerRefused(f"answer refused: {CUT_OFF}")
    try:
        answer = msgspec.json.decode(reply.answer, type=Answer)
    except ValueError as error:  # also text that is not UTF-8
        raise AnswerRefused(f"answer refused: not the form ({error})") from error
    if not 1 <= len(answer.causes) <= MAX_CAUSES or len(answer.actions) > MAX_ACTIONS:
        raise AnswerRefused("answer refused: too many or no entries")
    shares = reply.probabilities
    if len(shares) != len(answer.causes) or not all(p is None or 0 <= p <= 1 + 1e-6 for p in shares):
        raise AnswerRefused("answer refused: a cause has no probability")
    if evidence.facts and not all(named.cites for named in answer.causes):
        raise AnswerRefused("answer refused: a cause cites nothing")
    causes = _causes(evidence, answer, shares)
    told = known.model_copy(
        update={
            "prompt_sha256": reply.prompt_sha256,
            "prompt_text": reply.prompt_text,
            "plan_sha256": reply.plan_sha256,
            "prompt_tokens": reply.prompt_tokens,
            "output_tokens": tuple(reply.tokens),
            "choices": tuple(reply.choices),
            "shares": tuple(reply.shares),
            "prefill_ms": reply.prefill_ms,
            "decision_ms": reply.decision_ms,
            "decode_ms": reply.decode_ms,
        }
    )
    return conclude(
        evidence,
        causes,
        answer.actions,
        answer.text,
        told,
        detector_score=detector_score,
        created_ns=created_ns,
        claims=claims,
    )


def conclude(
    evidence: Evidence,
    causes: list[Cause],
    actions: Sequence[str],
    text: str,
    known: Provenance,
    *,
    detector_score: float,
    created_ns: int,
    claims: int = CLAIMS,
) -> Annotation:
    """
    The annotation that causes, actions (ids, or one in own words) and a text make, once every check has passed.

    A second or third cause whose claim does not hold is left out with the actions that help against it alone.

    Raises:
        AnswerRefused: a check failed; the message names it.
    """
    checks = check_model(evidence, causes, actions, text)
    options = {option.id: option for option in evidence.causes}
    chosen = options.get(causes[0].id)
    facts = evidence.facts if claims > 1 else by_direction(evidence.facts)
    checks |= _claims(chosen, facts, causes[0])
    failed = next((name for name, passed in checks.items() if not passed), None)
    if failed is not None:
        raise AnswerRefused(f"answer refused: {_SAID[failed]}")
    dropped: list[Cause] = []
    if claims > 1:
        dropped = [one for one in causes[1:] if not all(_claims(options.get(one.id), facts, one).values())]
        checks[_FURTHER] = not dropped
    causes = [one for one in causes if one not in dropped]
    actions = _without(actions, [options[one.id] for one in dropped], [options.get(one.id) for one in causes])
    texts = {action.id: action.text for action in evidence.actions}
    added: tuple[str, ...] = ()
    if chosen is not None:
        added = tuple(i for i in by_code(chosen, evidence.facts) if i not in causes[0].cites)
        causes = [causes[0].model_copy(update={"cites": (*causes[0].cites, *added)}), *causes[1:]]
    try:
        return Annotation(
            anomaly_id=evidence.anomaly_id,
            anomaly_revision=evidence.anomaly_revision,
            evidence_id=evidence.evidence_id,
            origin="model",
            causes=tuple(causes),
            actions=tuple(_action(a, texts) for a in actions) or (UNKNOWN_ACTION,),
            text=" ".join(text.split()),
            detector_score=detector_score,
            created_ns=created_ns,
            provenance=known.model_copy(
                update={"checks": checks, "cited_by_code": added, "dropped": tuple(one.id for one in dropped)}
            ),
        )
    except ValidationError as error:
        raise AnswerRefused(f"answer refused: {error.errors()[0]['msg']}") from error
