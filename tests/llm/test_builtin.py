"""The model that ships in the package: what its manifest says is true."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

import llm
from broker.scorecard.cards import load, read, shipped_path
from broker.scorecard.judge import BOOSTED, judge
from broker.scorecard.runner import SUITE, Size, run
from llm.model_file import ModelFile, find
from llm.options import ReasonerOptions
from llm.prompt import PROMPT_VERSION
from schemas.errors import WorkerError
from schemas.evidence import Fact

MODELS = Path(llm.__file__).parent / "models"


@pytest.fixture
def builtin() -> ModelFile:
    return find("builtin:plant-tiny", None, Path("."))


def test_manifest_fits_the_file(builtin: ModelFile) -> None:
    """Hash and size are those of the file, and it says what it is."""
    body = builtin.path.read_bytes()
    manifest = json.loads(builtin.path.with_suffix(".json").read_text())
    assert manifest["sha256"] == builtin.sha256 == hashlib.sha256(body).hexdigest()
    assert manifest["size"] == len(body) < 8_000_000
    assert "not Mistral AI weights" in manifest["what"]


def test_other_hash_or_name_is_refused() -> None:
    """A configured hash that is not the manifest's, or a path in the name, finds nothing."""
    with pytest.raises(WorkerError, match="sha256"):
        find("builtin:plant-tiny", "0" * 64, Path("."))
    with pytest.raises(WorkerError, match="no built-in model"):
        find("builtin:../../etc/passwd", None, Path("."))


@pytest.mark.model
def test_score_card_can_be_repeated(builtin: ModelFile) -> None:
    """On other held-out scenarios the model scores about what its card says, and every answer is valid."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    told = read(shipped_path("plant-tiny"), builtin.sha256).model.overall
    card = asyncio.run(run(builtin, ReasonerOptions(), Size(160, 77, 8), lambda *_: None))
    found = card.model.overall
    assert told is not None
    assert found is not None
    assert found.schema_valid == found.citation_valid == found.numbers_faithful == card.robustness.replay == 1.0
    assert found.top1 is not None
    assert told.top1 is not None
    assert found.top1 > told.top1 - 0.08


def test_the_shipped_card_is_of_the_shipped_file(builtin: ModelFile, tmp_path: Path) -> None:
    """A fresh installation finds the card beside the manifest; what it says of prompt and suite is this version's."""
    card = load(tmp_path, builtin.sha256)
    assert card is not None
    assert (card.suite, card.prompt_version) == (SUITE, PROMPT_VERSION)
    assert card.scenarios >= card.thresholds.scenarios
    assert card.reasons == judge(card.model, card.beside, card.robustness, card.thresholds)
    boosted = card.row(BOOSTED)
    assert boosted is not None
    assert boosted.overall is not None, "the shipped card is made where the boosted trees are installed"


@pytest.mark.model
async def test_annotates_what_it_was_trained_on_and_nothing_else(reasoner, tiny_gguf, make_evidence) -> None:
    """Evidence over its own catalogue is answered by the model; a strange cause or class goes to the rules."""
    import random

    from broker.scorecard.scenarios import scenario

    one = await reasoner(model="builtin:plant-tiny")
    known = scenario(random.Random(1), stratum="in_distribution", held_out="yes").evidence
    done = await one.annotate(known, detector_score=1.0, created_ns=1)
    assert done.origin == "model", done.provenance.fallback_reason
    assert done.provenance.model_rung == "builtin"
    strange = make_evidence((), causes=(known.causes[0].model_copy(update={"id": "strange_cause"}),))
    refused = await one.annotate(strange, detector_score=1.0, created_ns=1)
    assert refused.origin == "rules"
    assert "not trained on cause strange_cause" in refused.provenance.fallback_reason
    nothing = await one.annotate(strange.model_copy(update={"equipment_class": None}), detector_score=1, created_ns=1)
    assert "not trained on equipment class none" in nothing.provenance.fallback_reason


@pytest.mark.model
async def test_passages_do_not_disturb_the_model(reasoner, tiny_gguf) -> None:
    """It was not trained on passages: prompt and tokens are the same with and without, and code cites the passage."""
    import random

    from broker.scorecard.scenarios import scenario

    one = await reasoner(model="builtin:plant-tiny")
    plain = scenario(random.Random(1), stratum="in_distribution", held_out="yes").evidence
    more = [
        Fact(
            id=f"E{len(plain.facts) + i}", kind="passage", text=f"{cause.id} {cause.text}", source="manual.pdf", page=i
        )
        for i, cause in enumerate(plain.causes, 1)
    ]
    full = plain.with_facts((*plain.facts, *more))
    first = await one.annotate(plain, detector_score=2.5, created_ns=7)
    second = await one.annotate(full, detector_score=2.5, created_ns=7)
    assert (first.origin, second.origin) == ("model", "model"), first.provenance.fallback_reason
    assert second.provenance.prompt_text == first.provenance.prompt_text
    assert second.provenance.output_tokens == first.provenance.output_tokens
    assert second.evidence_id == full.evidence_id != first.evidence_id
    assert first.provenance.cited_by_code == ()
    (cited,) = second.provenance.cited_by_code
    assert full.fact(cited) in more
    assert second.causes[0].cites == (*first.causes[0].cites, cited)
