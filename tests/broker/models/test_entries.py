"""A model that is configured with an adapter is shown as what it is: both hashes, the scale, the card of that pair."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.models import entries as entries_module
from broker.models.entries import Entry, Parts, entries
from broker.models.locate import key_of, locate
from broker.models.overview import overview
from broker.scorecard import cards
from llm.model_file import ModelFile, builtins
from schemas.annotation import model_key
from tests.broker.models.card import card
from tests.broker.models.conftest import ADAPTER, Integrator
from tests.broker.models.site import bring, choose, opened

Make = Callable[..., Path]
SHIPPED = builtins()["plant-tiny"].sha256


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def pairs(found: list[Entry]) -> list[Entry]:
    return [one for one in found if one.kind == "pair"]


def test_a_plain_adapter_of_the_built_in_model(site, tmp_path: Path) -> None:
    """The pair has a key and a card of its own; control: a card of the model alone says nothing of it."""
    (tmp_path / "lora.gguf").write_bytes(ADAPTER)
    config = site("{adapter: lora.gguf, adapter_scale: 0.5}")
    key = model_key(SHIPPED, sha256(ADAPTER), 0.5)
    with opened(config) as store:
        reader = store.reader()
        cards.save(config.data_dir, card(SHIPPED, passed=True))
        base, pair = entries(config, reader)
        assert (base.state, base.configured) == ("admitted", False)
        assert (pair.name, pair.state, pair.configured, pair.rung) == (
            "builtin:plant-tiny + lora.gguf", "advisory", True, "builtin",
        )  # fmt: skip
        assert (pair.key, pair.card) == (key, None)
        assert pair.parts == Parts("builtin:plant-tiny", SHIPPED, "lora.gguf", sha256(ADAPTER), 0.5)
        assert pair.licence == f"{base.licence}; adapter: not known"

        cards.save(config.data_dir, card(key, passed=True))
        assert [one.state for one in pairs(entries(config, reader))] == ["admitted"]
        choose(store, "builtin:plant-tiny", "builtin")
        assert [(one["sha256"], one["chosen_for"]) for one in overview(config, reader)] == [
            (SHIPPED, ["annotation"]),
            (key, ["annotation"]),
        ]
        assert overview(config, reader)[1]["parts"]["adapter_scale"] == 0.5

        (tmp_path / "lora.gguf").unlink()
        [pair] = pairs(entries(config, reader))
        assert (pair.state, pair.problem, pair.key) == ("damaged", "no adapter file lora.gguf", "")
    assert pairs(entries(site("{}"), reader)) == []


def test_a_file_that_changes_is_another_pair(site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash is worked out again; what is too large for a list, and not pinned, is not known."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF one")
    (tmp_path / "lora.gguf").write_bytes(ADAPTER)
    config = site("{model: m.gguf, adapter: lora.gguf}")
    with opened(config) as store:
        [first] = pairs(entries(config, store.reader()))
        assert first.key == model_key(sha256(b"GGUF one"), sha256(ADAPTER), 1.0)
        (tmp_path / "m.gguf").write_bytes(b"GGUF two, longer")
        [second] = pairs(entries(config, store.reader()))
        assert second.key == model_key(sha256(b"GGUF two, longer"), sha256(ADAPTER), 1.0)

        monkeypatch.setattr(entries_module, "_MOST_HASHED", 10)
        [unknown] = pairs(entries(config, store.reader()))
        assert (unknown.key, unknown.state, unknown.problem) == ("", "advisory", "")
        with store.transaction() as tx:
            tx.model_incident("", "another.gguf", "crash", "SIGABRT", lasting=False)
        assert store.reader().model_crashes() == {"": 1}
        assert [one["crashes"] for one in overview(config, store.reader()) if one["kind"] == "pair"] == [0]
        pinned = site(f"{{model: m.gguf, sha256: '{'e' * 64}', adapter: lora.gguf, adapter_sha256: '{'f' * 64}'}}")
        [known] = pairs(entries(pinned, store.reader()))
        assert known.key == model_key("e" * 64, "f" * 64, 1.0)


def test_a_pair_of_the_registry(site, tmp_path: Path, medium: Make, integrator: Integrator) -> None:
    """In quarantine until both were scored together; under the key that the loaded pair goes by."""
    config = site("{model: 'registry:plant-7b', adapter: 'registry:pump-lora@3', adapter_scale: 0.5}")
    with opened(config) as store:
        row = bring(config, store, medium())
        adapter = bring(config, store, integrator.adapter(tmp_path / "lora", row.main_sha256))
        reader = store.reader()
        cards.save(config.data_dir, card(row.main_sha256, passed=True))
        [pair] = pairs(entries(config, reader))
        assert (pair.state, pair.rung) == ("quarantined", "mistral")
        assert pair.licence == "Apache-2.0; adapter: Apache-2.0"
        assert pair.parts == Parts(
            "registry:plant-7b", row.main_sha256, "registry:pump-lora@3", adapter.main_sha256, 0.5
        )
        cards.save(config.data_dir, card(pair.key, passed=True))
        assert [one.state for one in pairs(entries(config, reader))] == ["admitted"]
        file = locate(config, reader)
        assert isinstance(file, ModelFile)
        assert key_of(file) == pair.key
        assert [one.name for one in entries(config, reader) if one.configured] == [pair.name]

        wrong = site("{model: 'registry:plant-7b', adapter: 'registry:other'}")
        bring(wrong, store, integrator.adapter(tmp_path / "other", "d" * 64, name="other"))
        [pair] = pairs(entries(wrong, reader))
        assert (pair.state, "was made for weights with sha256 dddd" in pair.problem) == ("damaged", True)
