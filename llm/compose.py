"""From the worker's reply to an annotation: parse the form again, check it against the evidence, fill in the texts."""

from __future__ import annotations

from typing import Final

import msgspec
from pydantic import ValidationError

from llm.checks import check_model
from llm.messages import Reply
from llm.plan import Answer
from llm.rules import MAX_ACTIONS, MAX_CAUSES, UNKNOWN_ACTION, contradicted, unknown_cause
from schemas.annotation import UNKNOWN, Annotation, Cause, Provenance
from schemas.errors import WorkerError
from schemas.evidence import Evidence

_SAID: Final = {
    "causes_listed": "a cause is not in the catalogue",
    "causes_differ": "a cause is named twice",
    "cited_facts_exist": "a cited fact does not exist",
    "text_cites_existing_facts": "the text cites a fact that does not exist",
    "no_uncited_digit": "the text holds a digit outside a citation",
    "actions_listed": "an action is not in the catalogue",
    "text_cites": "the text cites nothing",
    "text_characters": "the text holds a forbidden character",
    "no_direction_claim": "the text claims a direction",
    "signs_hold": "the evidence speaks against the cause",
}


def _causes(evidence: Evidence, answer: Answer, probabilities: list[float]) -> list[Cause]:
    options = {option.id: option for option in evidence.causes}
    causes = []
    for named, probability in zip(answer.causes, probabilities, strict=True):
        if named.id == UNKNOWN:
            causes.append(unknown_cause(probability, named.cites))
            continue
        option = options.get(named.id)
        if option is None:
            raise WorkerError(f"answer refused: {_SAID['causes_listed']}")
        causes.append(
            Cause(
                id=option.id,
                text=option.text,
                mechanism=option.mechanism,
                probability=min(1.0, probability),
                cites=tuple(named.cites),
            )
        )
    return causes


def compose(
    evidence: Evidence, reply: Reply, known: Provenance, *, detector_score: float, created_ns: int
) -> Annotation:
    """
    The annotation a reply stands for; ``known`` is what the client knows of its provenance.

    Raises:
        WorkerError: the reply is not the form, or a check failed; the message names it.
    """
    try:
        answer = msgspec.json.decode(reply.answer, type=Answer)
    except ValueError as error:  # also text that is not UTF-8
        raise WorkerError(f"answer refused: not the form ({error})") from error
    if not 1 <= len(answer.causes) <= MAX_CAUSES or len(answer.actions) > MAX_ACTIONS:
        raise WorkerError("answer refused: too many or no entries")
    if len(reply.probabilities) != len(answer.causes) or not all(0 <= p <= 1 + 1e-6 for p in reply.probabilities):
        raise WorkerError("answer refused: a cause has no probability")
    try:
        causes = _causes(evidence, answer, reply.probabilities)
        checks = check_model(evidence, causes, answer.actions, answer.text)
        chosen = next((option for option in evidence.causes if option.id == causes[0].id), None)
        checks["signs_hold"] = chosen is None or not contradicted(chosen, evidence.facts)
        failed = next((name for name, passed in checks.items() if not passed), None)
        if failed is not None:
            raise WorkerError(f"answer refused: {_SAID[failed]}")
        texts = {action.id: action.text for action in evidence.actions}
        return Annotation(
            anomaly_id=evidence.anomaly_id,
            anomaly_revision=evidence.anomaly_revision,
            evidence_id=evidence.evidence_id,
            origin="model",
            causes=tuple(causes),
            actions=tuple(texts[a] for a in answer.actions) or (UNKNOWN_ACTION,),
            text=" ".join(answer.text.split()),
            detector_score=detector_score,
            created_ns=created_ns,
            provenance=known.model_copy(
                update={
                    "prompt_sha256": reply.prompt_sha256,
                    "prompt_text": reply.prompt_text,
                    "plan_sha256": reply.plan_sha256,
                    "prompt_tokens": reply.prompt_tokens,
                    "output_tokens": tuple(reply.tokens),
                    "choices": tuple(reply.choices),
                    "prefill_ms": reply.prefill_ms,
                    "decode_ms": reply.decode_ms,
                    "checks": checks,
                }
            ),
        )
    except ValidationError as error:
        raise WorkerError(f"answer refused: {error.errors()[0]['msg']}") from error
