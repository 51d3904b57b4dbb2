"""An annotation made once more from its stored evidence, and what differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llm.client import Reasoner
from llm.options import ReasonerOptions
from llm.rules import annotate_by_rules
from schemas.annotation import Annotation
from schemas.errors import Refused
from schemas.evidence import Evidence

#: Loading and answering may take so long: nobody waits but the person who asked.
DEADLINE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    What came out the second time.

    ``same`` says for each compared thing whether it is the same; ``first_token`` the place of the first token that
    differs; ``engines`` are name and version of the library then and now.
    """

    annotation: Annotation
    same: dict[str, bool]
    first_token: int | None
    engines: tuple[str, str]

    @property
    def equal(self) -> bool:
        """Whether everything is the same."""
        return all(self.same.values())


async def again(note: Annotation, evidence: Evidence, options: ReasonerOptions, base_dir: Path) -> Comparison:
    """
    Annotate the same evidence with the same model file, seed and number of threads.

    Raises:
        Refused: the model file is another one, or gave no answer.
    """
    if note.origin == "rules":
        made = annotate_by_rules(
            evidence,
            detector_score=note.detector_score,
            created_ns=note.created_ns,
            fallback_reason=note.provenance.fallback_reason,
        )
    else:
        made = await _by_model(note, evidence, options, base_dir)
    was, now = note.provenance, made.provenance
    tokens = was.output_tokens, now.output_tokens
    same = {"annotation": made.annotation_id == note.annotation_id}
    if note.origin == "model":
        same |= {
            "model_sha256": was.model_sha256 == now.model_sha256,
            "prompt_sha256": was.prompt_sha256 == now.prompt_sha256,
            "plan_sha256": was.plan_sha256 == now.plan_sha256,
            "output_tokens": tokens[0] == tokens[1],
        }
    place = next((i for i, (a, b) in enumerate(zip(*tokens, strict=False)) if a != b), None)
    if place is None and len(tokens[0]) != len(tokens[1]):
        place = min(map(len, tokens))
    return Comparison(made, same, place, (was.engine, now.engine))


async def _by_model(note: Annotation, evidence: Evidence, options: ReasonerOptions, base_dir: Path) -> Annotation:
    was = note.provenance
    wanted = options.model_copy(
        update={
            "backend": "local",
            "sha256": was.model_sha256,
            "threads": was.threads or options.threads,
            "seed": options.seed if was.seed is None else was.seed,
            "temperature": options.temperature if was.temperature is None else was.temperature,
            "family": was.family or options.family,
            "deadline": DEADLINE_S,
        }
    )
    reasoner = Reasoner(wanted, base_dir=base_dir, now_ns=lambda: note.created_ns)
    try:
        await reasoner.start()
        made = await reasoner.annotate(evidence, detector_score=note.detector_score, created_ns=note.created_ns)
    finally:
        await reasoner.close()
    if made.origin != "model":
        raise Refused(
            f"the model gave no answer: {made.provenance.fallback_reason}; this annotation is of "
            f"{was.model_name} with sha256 {was.model_sha256}, name its file with --model"
        )
    return made
