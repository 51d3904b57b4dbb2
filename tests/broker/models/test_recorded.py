"""The very model of an annotation: found by its hashes, or named by a person."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.models.recorded import named, recorded
from llm.model_file import AdapterFile, builtins
from schemas.annotation import Provenance
from schemas.errors import Refused, WorkerError
from tests.broker.models.conftest import Integrator
from tests.broker.models.site import bring, opened

Make = Callable[..., Path]


def test_a_replay_finds_the_very_files(site, tmp_path: Path, medium: Make, integrator: Integrator) -> None:
    """By their hashes, whatever is configured now; without the adapter that took part there is nothing to run again."""
    config = site("{backend: none}")
    with opened(config) as store:
        row = bring(config, store, medium(style="rows"))
        bring(config, store, integrator.adapter(tmp_path / "lora", row.main_sha256))
        adapter = store.reader().model_imports("pump-lora")[0].main_sha256
    was = Provenance(engine="e", model_sha256=row.main_sha256)
    adapted = was.model_copy(update={"adapter_sha256": adapter, "adapter_name": "n", "adapter_scale": 0.5})
    plain, both = recorded(config, was), recorded(config, adapted)

    assert (plain.sha256, plain.style, plain.adapter) == (row.main_sha256, "rows", None)
    assert both.adapter is not None
    assert (both.adapter.sha256, both.adapter.scale) == (adapter, 0.5)
    with pytest.raises(Refused, match=r"the adapter n with sha256 0000.* the registry does not have it"):
        recorded(config, adapted.model_copy(update={"adapter_sha256": "0" * 64}))
    with pytest.raises(Refused, match=r"sha256 0000.* is not here any more.*name its file with --model"):
        recorded(config, was.model_copy(update={"model_sha256": "0" * 64}))


def test_a_replay_finds_the_configured_files(site, tmp_path: Path) -> None:
    """Model and adapter that are plain files; the adapter is hashed here, the weights by the worker that loads them."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "lora.gguf").write_bytes(b"GGUF lora")
    sha256 = hashlib.sha256(b"GGUF lora").hexdigest()
    was = Provenance(
        engine="e", model_sha256="d" * 64, style="rows", adapter_name="lora.gguf", adapter_sha256=sha256,
        adapter_scale=0.5,
    )  # fmt: skip
    found = recorded(site("{model: m.gguf, adapter: lora.gguf}"), was)
    assert (found.path, found.sha256, found.style) == (tmp_path / "m.gguf", "d" * 64, "rows")
    assert found.adapter == AdapterFile(tmp_path / "lora.gguf", "lora.gguf", sha256, 0.5)
    other = was.model_copy(update={"adapter_sha256": "0" * 64})
    with pytest.raises(Refused, match=r"llm.adapter lora.gguf has sha256 .*; name its file with --adapter"):
        recorded(site("{model: m.gguf, adapter: lora.gguf}"), other)


def test_a_replay_finds_the_built_in_model(site) -> None:
    """By its hash, while another model or none is configured; control: no other hash is its."""
    shipped = builtins()["plant-tiny"]
    was = Provenance(engine="e", model_sha256=shipped.sha256, style="rows")
    for llm in ("{backend: none}", "{model: elsewhere.gguf}", "{model: 'registry:plant-7b'}"):
        found = recorded(site(llm), was)
        assert (found.name, found.rung, found.style) == ("plant-tiny", "builtin", "rows")
        assert (found.calibration, found.facts) == (shipped.calibration, shipped.facts)
    with pytest.raises(Refused, match="is not here any more"):
        recorded(site("{}"), was.model_copy(update={"model_sha256": "0" * 64}))


def test_a_replay_may_name_its_model(site, tmp_path: Path, medium: Make) -> None:
    """As ``llm.model`` does; asked as it was then, and another one than that of the annotation is refused."""
    config = site("{model: elsewhere.gguf}")
    shipped = builtins()["plant-tiny"]
    was = Provenance(engine="e", model_name="tiny", model_sha256=shipped.sha256, style="rows")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    path = str(tmp_path / "m.gguf")
    with opened(config) as store:
        row = bring(config, store, medium(style="rows"))
        imported = store.reader().model_imports()
    assert named(config, imported, "builtin:plant-tiny", was) == recorded(config, was)
    # the manifest of the package says how the same weights in another place are asked
    copy = named(config, imported, path, was)
    assert (copy.path, copy.style, copy.calibration) == (tmp_path / "m.gguf", "rows", shipped.calibration)
    lost = named(config, imported, path, was.model_copy(update={"model_sha256": "e" * 64}))
    assert (lost.style, lost.sha256, lost.calibration) == ("rows", "e" * 64, 1.0)
    registered = was.model_copy(update={"model_sha256": row.main_sha256})
    assert named(config, imported, "registry:plant-7b@3", registered).sha256 == row.main_sha256
    with pytest.raises(Refused, match="this annotation is of tiny"):
        named(config, imported, "registry:plant-7b@3", was)
    with pytest.raises(WorkerError, match="no built-in model other"):
        named(config, imported, "builtin:other", was)
