"""A model's annotation made once more: with the calibration of then, and with the adapter that took part."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.scorecard import cards
from broker.store import tables
from llm import compose
from llm.client import Reasoner
from llm.model_file import AdapterFile, ModelFile, builtins, find
from llm.options import ReasonerOptions
from llm.prompt import PROMPT_VERSION
from schemas.annotation import Annotation, Provenance
from tests.broker.api.core import Core, S, write_config
from tests.broker.audit.conftest import T0, Episode, Run
from tests.broker.models.card import card
from tests.tiny_lora import write_lora

pytestmark = pytest.mark.model
Annotate = Callable[[ModelFile], Awaitable[Annotation]]


@pytest.fixture
def builtin(tmp_path: Path) -> ModelFile:
    """The shipped model as it stands in the package."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    return find("builtin:plant-tiny", None, tmp_path)


@pytest.fixture
def annotate(core: Core, episode: Episode, tmp_path: Path) -> Annotate:
    """Let a model annotate the episode, and store what it says."""

    async def by(file: ModelFile) -> Annotation:
        anomaly, evidence, _ = episode
        one = Reasoner(ReasonerOptions(), base_dir=tmp_path, now_ns=lambda: T0, locate=lambda: file)
        await one.start()
        try:
            note = await one.annotate(evidence, detector_score=anomaly.detector_score, created_ns=T0 + 300 * S)
        finally:
            await one.close()
        assert note.origin == "model", note.provenance.fallback_reason
        core.write(lambda tx: tx.annotation(note))
        return note

    return by


def put(core: Core, note: Annotation, **changes: object) -> None:
    """Change what is stored of an annotation's provenance."""
    body = json.loads(note.model_dump_json())
    for name, value in changes.items():
        del body["provenance"][name]
        if value is not None:
            body["provenance"][name] = value
    table = tables.annotations
    change = table.update().where(table.c.annotation_id == note.annotation_id).values(body=json.dumps(body))
    core.write(lambda tx: tx._connection.execute(change) and None)


async def test_the_calibration_of_then_is_applied(
    core: Core, episode: Episode, run: Run, annotate: Annotate, builtin: ModelFile
) -> None:
    """A manifest that was calibrated anew gives other probabilities; the replay has those of then, and tells both."""
    note = await annotate(replace(builtin, calibration=3.0))
    now = builtins()["plant-tiny"].calibration
    assert note.provenance.calibration == 3.0
    assert "calibration temperature 3" in (await asyncio.to_thread(run, "show", note.annotation_id)).out

    said = await asyncio.to_thread(run, "replay", note.annotation_id)
    assert said.code == 0, said.text
    assert f"calibration then: 3, which was applied; the model's manifest now says {now:g}" in said.out

    # control: a row of before has none, is read, and the manifest's gives other probabilities
    put(core, note, calibration=None)
    assert "calibration not recorded" in (await asyncio.to_thread(run, "show", note.annotation_id)).out
    said = await asyncio.to_thread(run, "replay", note.annotation_id)
    assert said.code == 1
    assert "annotation       DIFFERS" in said.out
    assert "output tokens    the same" in said.out
    assert f"calibration then: not recorded; that of now, {now:g}, was applied" in said.out


async def test_another_version_of_the_prompt_is_told(
    core: Core, run: Run, annotate: Annotate, builtin: ModelFile
) -> None:
    """What differs then has its reason; control: of an annotation under the prompt of now nothing is said."""
    note = await annotate(builtin)
    said = await asyncio.to_thread(run, "replay", note.annotation_id)
    assert (said.code, "prompt version" in said.out) == (0, False), said.text

    put(core, note, prompt_version="0", prompt_sha256="0" * 64)
    said = await asyncio.to_thread(run, "replay", note.annotation_id)
    assert said.code == 1
    assert "prompt sha256    DIFFERS" in said.out
    assert f"prompt version then 0, now {PROMPT_VERSION}: it cannot come out the same\n" in said.out
    body = json.loads((await asyncio.to_thread(run, "replay", note.annotation_id, "-o", "json")).out)
    assert body["prompt_versions"] == ["0", PROMPT_VERSION]

    # words that came out the same are not said to be impossible
    put(core, note, prompt_version=None)
    said = await asyncio.to_thread(run, "replay", note.annotation_id)
    assert (said.code, f"prompt version then not recorded, now {PROMPT_VERSION}\n" in said.out) == (0, True), said.text


async def test_the_checks_of_then_are_made(
    core: Core, run: Run, annotate: Annotate, builtin: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was answered before the claims of further causes were checked comes out the same, with what it then held."""
    note = await annotate(builtin)
    asked: list[int] = []
    conclude = compose.conclude

    def watched(*args: Any, claims: int, **more: Any) -> Annotation:
        asked.append(claims)
        return conclude(*args, claims=claims, **more)

    monkeypatch.setattr(compose, "conclude", watched)
    assert (await asyncio.to_thread(run, "replay", note.annotation_id)).code == 0
    checks = {name: passed for name, passed in note.provenance.checks.items() if name != "further_causes_hold"}
    put(core, note, checks=checks)
    assert (await asyncio.to_thread(run, "replay", note.annotation_id)).code == 0
    assert asked == [compose.CLAIMS, 1]


@pytest.fixture
def adapted(builtin: ModelFile, tmp_path: Path) -> ModelFile:
    """The shipped model with an adapter that is a plain file of the site."""
    pytest.importorskip("gguf", reason="gguf is not installed")
    folder = tmp_path / "adapters"
    folder.mkdir()
    lora = write_lora(folder / "lora.gguf", width=256, layers=3, strength=0.001)
    sha256 = hashlib.sha256(lora.read_bytes()).hexdigest()
    return replace(builtin, adapter=AdapterFile(lora, "lora.gguf", sha256, 0.5))


async def test_a_plain_adapter_is_found_by_its_hash(
    core: Core, run: Run, annotate: Annotate, adapted: ModelFile, tmp_path: Path
) -> None:
    """Where it is configured, beside fairlead.yaml, or where a person says; another file of that name is not taken."""
    assert adapted.adapter is not None
    note = await annotate(adapted)
    lora = adapted.adapter.path

    async def replay(*more: str, llm: str = "{backend: none}") -> tuple[int, str]:
        write_config(tmp_path, core.services.config.api.port, llm=llm)
        said = await asyncio.to_thread(run, "replay", note.annotation_id, *more)
        return said.code, said.text

    code, text = await replay(llm="{adapter: adapters/lora.gguf}")
    assert code == 0, text
    assert "adapter sha256   the same" in text
    assert (await replay("--adapter", str(lora)))[0] == 0
    assert (await replay("--model", "builtin:plant-tiny", "--adapter", str(lora)))[0] == 0

    code, text = await replay()
    assert code == 1
    assert f"the adapter lora.gguf with sha256 {adapted.adapter.sha256} is not here any more: " in text
    assert "the registry does not have it, lora.gguf beside fairlead.yaml cannot be read (No such file" in text
    assert "name its file with --adapter" in text
    write_lora(tmp_path / "lora.gguf", width=256, layers=3, strength=0.002)
    code, text = await replay(llm="{adapter: lora.gguf}")
    assert (code, text.count("lora.gguf has sha256")) == (1, 1)

    lora.rename(tmp_path / "lora.gguf")
    assert (await replay())[0] == 0


async def test_the_card_of_a_pair_is_shown(core: Core, run: Run, annotate: Annotate, adapted: ModelFile) -> None:
    """It is kept under the key of model, adapter and scale; control: the card of the model alone is not its card."""
    note = await annotate(adapted)
    alone, both = card(note.provenance.model_sha256, passed=True), card(note.provenance.model_key, passed=True)
    for one in (alone, both):
        cards.save(core.services.config.data_dir, one)
    put(core, note, card_id=both.card_id)
    assert f"score card {both.card_id} in force" in (await asyncio.to_thread(run, "show", note.annotation_id)).out
    put(core, note, card_id=alone.card_id)
    assert (
        f"score card {alone.card_id} was in force and is no longer kept"
        in (await asyncio.to_thread(run, "show", note.annotation_id)).out
    )


async def test_an_adapter_that_took_no_part_is_refused(
    core: Core, run: Run, annotate: Annotate, builtin: ModelFile, tmp_path: Path
) -> None:
    """A person who names one is told, instead of a comparison of two things."""
    note = await annotate(builtin)
    said = await asyncio.to_thread(run, "replay", note.annotation_id, "--adapter", str(tmp_path / "x.gguf"))
    assert (said.code, "no adapter took part" in said.err) == (1, True)


def test_rows_of_before_are_read() -> None:
    """A provenance without the field says that it does not know."""
    assert Provenance.model_validate_json('{"engine": "e"}').calibration is None
