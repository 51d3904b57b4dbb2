"""LoRA adapters: loaded by llama.cpp, hashed like the model, named in the provenance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llm.base import EngineError
from schemas.annotation import model_key
from tests.llm.reasoning import ask, check_valid, without_signs
from tests.tiny_lora import write_lora
from tests.waiting import until_async

pytestmark = pytest.mark.model
engine = pytest.importorskip("llm.engine", reason="llama-cpp-python is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A random adapter of the tiny model."""
    return write_lora(tmp_path / "lora.gguf", width=128, layers=2)


def logits(model: Path, adapter: tuple[Path, float] | None) -> np.ndarray:
    one = engine.Model(model, adapter=adapter)
    try:
        return one.decode(one.encode("the bearing of the pump"), 0).copy()
    finally:
        one.close()


def test_an_adapter_changes_what_the_model_says(tiny_gguf: Path, lora: Path, tmp_path: Path) -> None:
    """Its scale counts; control: an adapter of zeros leaves every logit as it is."""
    plain = logits(tiny_gguf, None)
    full, half = logits(tiny_gguf, (lora, 1.0)), logits(tiny_gguf, (lora, 0.5))
    nothing = write_lora(tmp_path / "zero.gguf", width=128, layers=2, strength=0.0)

    assert np.abs(full - plain).max() > 0.01
    assert np.abs(full - half).max() > 0.01
    assert np.array_equal(logits(tiny_gguf, (nothing, 1.0)), plain)


def test_an_adapter_of_another_model_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    """Wrong shapes, a model in the place of an adapter, and a file that is none of both are told."""
    other = write_lora(tmp_path / "wide.gguf", width=256, layers=2)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    for path in (other, tiny_gguf, broken):
        with pytest.raises(EngineError, match="refuses the adapter"):
            engine.Model(tiny_gguf, adapter=(path, 1.0))


async def test_provenance_names_the_adapter(
    reasoner, tiny_gguf: Path, lora: Path, evidences, sha256: Callable[[Path], str]
) -> None:
    """Name, hash and scale stand in every annotation, and answers go by a key of their own."""
    one = await reasoner(model=str(tiny_gguf), adapter=str(lora), adapter_sha256=sha256(lora), adapter_scale=0.5)
    for evidence in map(without_signs, evidences[:3]):
        done = await ask(one, evidence)
        check_valid(evidence, done)
    made = done.provenance

    assert (made.adapter_name, made.adapter_sha256, made.adapter_scale) == ("lora.gguf", sha256(lora), 0.5)
    assert made.model_key == model_key(sha256(tiny_gguf), sha256(lora), 0.5) == one.state.model_key
    assert made.model_key not in (made.model_sha256, model_key(sha256(tiny_gguf), sha256(lora), 1.0))


async def test_without_an_adapter_the_key_is_the_hash(reasoner, tiny_gguf: Path, bearing, sha256) -> None:
    """Control: nothing of an adapter stands in the provenance."""
    one = await reasoner(model=str(tiny_gguf))
    made = (await ask(one, without_signs(bearing))).provenance
    assert (made.adapter_name, made.adapter_sha256, made.adapter_scale) == ("", "", None)
    assert made.model_key == sha256(tiny_gguf) == one.state.model_key


async def test_an_adapter_with_another_hash_is_not_loaded(reasoner, tiny_gguf: Path, lora: Path, bearing) -> None:
    """One changed byte, and the worker loads nothing; rules answer and say why."""
    one = await reasoner(model=str(tiny_gguf), adapter=str(lora), adapter_sha256="0" * 64)
    await until_async(lambda: one.state.status == "off", 20)
    done = await ask(one, bearing)
    assert done.origin == "rules"
    assert "the adapter file has sha256" in done.provenance.fallback_reason


async def test_a_missing_adapter_is_told(reasoner, tiny_gguf: Path) -> None:
    """Neither is the model loaded without it in silence."""
    one = await reasoner(model=str(tiny_gguf), adapter="nowhere.gguf")
    assert (one.state.status, one.state.reason) == ("off", "no adapter file nowhere.gguf")
