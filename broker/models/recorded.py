"""
The very model of an annotation, found again by its hashes, whatever is configured now.

Looked for in the package, on the shelf of imported models, and among the files that the configuration names; a person
may say where it is. The worker hashes what it loads, so that the wrong file answers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from broker.models.locate import model_of, to_score
from broker.models.registry import shelf_of
from broker.store.models import ImportRow
from llm.model_file import BUILTIN, AdapterFile, ModelFile, builtins, digest, find
from schemas.annotation import Provenance
from schemas.errors import Refused
from schemas.manifest import REGISTRY, Reference

if TYPE_CHECKING:
    from broker.config.model import Config
    from broker.models.shelf import Held


def recorded(config: Config, was: Provenance, adapter: str = "") -> ModelFile:
    """
    The model of an annotation with its adapter; *adapter* is the file that a person says the adapter is.

    Raises:
        Refused: one of them is not here any more; the message says where it was looked for.
    """
    file = _by_hash(config, was.model_sha256) or _configured(config, was)
    if file is None:
        raise Refused(
            f"the model {was.model_name} with sha256 {was.model_sha256} is not here any more: the package and the "
            f"registry do not have it, and llm.model is {config.llm.model}; name its file with --model"
        )
    return _adapted(config, file, was, adapter)


def named(config: Config, imported: Sequence[ImportRow], model: str, was: Provenance, adapter: str = "") -> ModelFile:
    """
    The model of an annotation where a person says which it is: named as in ``llm.model``, asked as it was then.

    Raises:
        Refused, WorkerError: there is none, or its adapter is not here.
    """
    file = to_score(config, imported, model, None)
    if not model.startswith((BUILTIN, REGISTRY)):
        # the weights of a manifest in another place; without one only the style is known
        known = _by_hash(config, was.model_sha256)
        file = _as_then(file, was) if known is None else replace(known, path=file.path)
    if file.sha256 != was.model_sha256:
        raise Refused(f"{model} has sha256 {file.sha256}; this annotation is of {was.model_name}, {was.model_sha256}")
    return _adapted(config, file, was, adapter)


def _by_hash(config: Config, sha256: str) -> ModelFile | None:
    """The model with these weights: the package's or one on the shelf."""
    name = next((name for name, manifest in builtins().items() if manifest.sha256 == sha256), None)
    if name is not None:
        return find(f"{BUILTIN}{name}", sha256, config.base_dir)
    return next((file for one in shelf_of(config).all() if (file := _kept(one, sha256))), None)


def _kept(held: Held, sha256: str) -> ModelFile | None:
    weights = held.manifest.weights
    if weights is None or weights.sha256 != sha256:
        return None
    return model_of(held, Reference(held.manifest.name), None)


def _configured(config: Config, was: Provenance) -> ModelFile | None:
    """The file that ``llm.model`` names; whether it is the one the worker says, so that gigabytes are hashed once."""
    model = config.llm.model
    if model.startswith((BUILTIN, REGISTRY)) or not (config.base_dir / model).is_file():
        return None
    return _as_then(find(model, None, config.base_dir), was)


def _as_then(plain: ModelFile, was: Provenance) -> ModelFile:
    return replace(plain, style="rows" if was.style == "rows" else "instruct", sha256=was.model_sha256)


def _adapted(config: Config, file: ModelFile, was: Provenance, adapter: str) -> ModelFile:
    if not was.adapter_sha256:
        if adapter:
            raise Refused(f"this annotation is of {was.model_name} alone: no adapter took part")
        return file
    path = _of_the_shelf(config, was.adapter_sha256) if not adapter else None
    looked_at = []
    for what, place in _places(config, was, adapter) if path is None else ():
        problem = _other(place, was.adapter_sha256)
        if not problem:
            path = place
            break
        looked_at.append(f"{what} {problem}")
    if path is None:
        raise Refused(
            f"the adapter {was.adapter_name} with sha256 {was.adapter_sha256} is not here any more: "
            f"{'' if adapter else 'the registry does not have it, '}{', '.join(looked_at)}; "
            "name its file with --adapter"
        )
    scale = 1.0 if was.adapter_scale is None else was.adapter_scale
    return replace(file, adapter=AdapterFile(path, was.adapter_name, was.adapter_sha256, scale))


def _of_the_shelf(config: Config, sha256: str) -> Path | None:
    for one in shelf_of(config).all():
        for adapter in one.manifest.of_role("adapter"):
            if adapter.sha256 == sha256:
                return one.path_of(adapter)
    return None


def _places(config: Config, was: Provenance, adapter: str) -> Iterator[tuple[str, Path]]:
    """Where the adapter may lie as a plain file, and how a person calls the place."""
    if adapter:
        yield adapter, Path(adapter).resolve()
        return
    configured, beside = config.llm.adapter, config.base_dir / was.adapter_name
    if configured is not None and not configured.startswith(REGISTRY):
        path = (config.base_dir / configured).resolve()
        yield f"llm.adapter {configured}", path
        if path == beside.resolve():
            return
    if "/" not in was.adapter_name:  # of the registry it is called NAME@VERSION/FILE
        yield f"{was.adapter_name} beside fairlead.yaml", beside


def _other(path: Path, sha256: str) -> str:
    """Why a file is not the one with this hash; empty where it is."""
    try:
        with path.open("rb") as file:
            found = digest(file)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return "" if found == sha256 else f"has sha256 {found[:16]}…"
