"""The model that ships in the package: what its manifest says is true."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import llm
from llm.model_file import ModelFile, find
from schemas.errors import WorkerError

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
    assert manifest["score_card"]["model"]["valid"] == 1.0


def test_other_hash_or_name_is_refused() -> None:
    """A configured hash that is not the manifest's, or a path in the name, finds nothing."""
    with pytest.raises(WorkerError, match="sha256"):
        find("builtin:plant-tiny", "0" * 64, Path("."))
    with pytest.raises(WorkerError, match="no built-in model"):
        find("builtin:../../etc/passwd", None, Path("."))


@pytest.mark.model
def test_score_card_can_be_repeated(builtin: ModelFile) -> None:
    """On other held-out scenarios the model scores about what its manifest says, and every answer is valid."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from training.score import held_out, score

    said = json.loads(builtin.path.with_suffix(".json").read_text())["score_card"]["model"]["cause"]
    card = score(builtin.path, held_out(150, 77))
    assert card["model"]["usable"] == 1.0
    assert card["model"]["cause"] > said - 0.08


@pytest.mark.model
async def test_annotates_what_it_was_trained_on_and_nothing_else(reasoner, tiny_gguf, make_evidence) -> None:
    """Evidence over its own catalogue is answered by the model; a strange cause or class goes to the rules."""
    import random

    from training.scenarios import scenario

    one = await reasoner(model="builtin:plant-tiny")
    known = scenario(random.Random(1), stratum="clean", held_out="yes").evidence
    done = await one.annotate(known, detector_score=1.0, created_ns=1)
    assert done.origin == "model", done.provenance.fallback_reason
    assert done.provenance.model_rung == "builtin"
    strange = make_evidence((), causes=(known.causes[0].model_copy(update={"id": "strange_cause"}),))
    refused = await one.annotate(strange, detector_score=1.0, created_ns=1)
    assert refused.origin == "rules"
    assert "not trained on cause strange_cause" in refused.provenance.fallback_reason
    nothing = await one.annotate(strange.model_copy(update={"equipment_class": None}), detector_score=1, created_ns=1)
    assert "not trained on equipment class none" in nothing.provenance.fallback_reason
