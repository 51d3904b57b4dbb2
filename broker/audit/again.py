"""An annotation made once more from its stored evidence, and what differs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from llm.client import Reasoner
from llm.compose import claims_of
from llm.model_file import ModelFile
from llm.options import ReasonerOptions
from llm.rules import annotate_by_rules
from llm.sharing import transfer
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
    differs; ``engines`` are name and version of the library then and now. ``calibrations`` are the temperature of the
    probabilities then (None: not recorded) and the one that the model's manifest has now; that of then was applied.
    ``prompt_versions`` are then and now; only the prompt of now can be built. Rules have none.
    """

    annotation: Annotation
    same: dict[str, bool]
    first_token: int | None
    engines: tuple[str, str]
    calibrations: tuple[float | None, float | None]
    prompt_versions: tuple[str, str]

    @property
    def equal(self) -> bool:
        """Whether everything is the same."""
        return all(self.same.values())


async def again(
    note: Annotation,
    evidence: Evidence,
    options: ReasonerOptions,
    base_dir: Path,
    file: ModelFile | None = None,
    origin: tuple[Annotation, Evidence] | None = None,
) -> Comparison:
    """
    Annotate the same evidence with the same model file, seed, calibration, number of threads and checks of claims.

    *file* is the model of then with its adapter; rules, and a model on a server, have none.
    *origin*: the annotation whose answer this one shares, with its evidence; the model is asked for that one again.

    Raises:
        Refused: the model file is another one, gave no answer, or is on a server.
    """
    if note.origin == "rules":
        made = annotate_by_rules(
            evidence,
            detector_score=note.detector_score,
            created_ns=note.created_ns,
            fallback_reason=note.provenance.fallback_reason,
            engine=note.provenance.engine,
        )
    else:
        made = await _by_model(note, evidence, options, base_dir, file, origin)
        # what it counts for was decided by the score card of then, not by the model
        made = made.counted_as(note.origin, made.provenance)
    was, now = note.provenance, made.provenance
    tokens = was.output_tokens, now.output_tokens
    same = {"annotation": made.annotation_id == note.annotation_id}
    if note.origin != "rules":
        same |= {
            "model_sha256": was.model_sha256 == now.model_sha256,
            **({"adapter_sha256": was.adapter_sha256 == now.adapter_sha256} if was.adapter_sha256 else {}),
            "prompt_sha256": was.prompt_sha256 == now.prompt_sha256,
            "plan_sha256": was.plan_sha256 == now.plan_sha256,
            "output_tokens": tokens[0] == tokens[1],
        }
    place = next((i for i, (a, b) in enumerate(zip(*tokens, strict=False)) if a != b), None)
    if place is None and len(tokens[0]) != len(tokens[1]):
        place = min(map(len, tokens))
    calibrations = (was.calibration, None if file is None else file.calibration)
    versions = was.prompt_version, now.prompt_version
    return Comparison(made, same, place, (was.engine, now.engine), calibrations, versions)


async def _by_model(
    note: Annotation,
    evidence: Evidence,
    options: ReasonerOptions,
    base_dir: Path,
    file: ModelFile | None,
    origin: tuple[Annotation, Evidence] | None,
) -> Annotation:
    was = note.provenance
    if was.endpoint:
        raise Refused(
            f"this annotation is of {was.model_name} on the model server {was.endpoint}, whose weights and tokens are"
            " not known here; it cannot be made again"
        )
    if file is None:
        raise Refused("this annotation does not say of which model file it is; it cannot be made again")
    if was.calibration is not None:
        file = replace(file, calibration=was.calibration)
    wanted = options.model_copy(
        update={
            "backend": "local",
            "slots": 1,  # beside other answers rounding may differ
            "threads": was.threads or options.threads,
            "seed": options.seed if was.seed is None else was.seed,
            "temperature": options.temperature if was.temperature is None else was.temperature,
            "family": was.family or options.family,
            "deadline": DEADLINE_S,
        }
    )
    claims = claims_of(was)
    reasoner = Reasoner(wanted, base_dir=base_dir, now_ns=lambda: note.created_ns, locate=lambda: file, claims=claims)
    try:
        await reasoner.start()
        first, asked = (note, evidence) if origin is None else origin
        made = await reasoner.annotate(asked, detector_score=first.detector_score, created_ns=first.created_ns)
        if origin is not None and made.origin == "model":
            both = (asked, evidence), (reasoner.shown(asked), reasoner.shown(evidence))
            made = transfer(made, *both, detector_score=note.detector_score, created_ns=note.created_ns, claims=claims)
    finally:
        await reasoner.close()
    if made.origin != "model":
        raise Refused(
            f"the model gave no answer: {made.provenance.fallback_reason}; this annotation is of "
            f"{was.model_name} with sha256 {was.model_sha256}, name its file with --model"
        )
    return made
