"""Where a model comes from: a file of the site, or the one shipped in this package with its manifest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from llm.prompt import Style
from schemas.errors import WorkerError
from schemas.evidence import Evidence
from schemas.manifest import REGISTRY

BUILTIN: Final = "builtin:"
_FOLDER: Final = Path(__file__).parent / "models"
_BLOCK: Final = 1 << 20


class Manifest(msgspec.Struct, frozen=True):
    """
    What a shipped model is and how well it does; JSON beside the file.

    ``knows`` maps each equipment class to the cause ids it was trained on; other evidence is left to the rules.
    ``calibration`` is the temperature at which its probabilities say how often it is right.
    ``facts`` are the kinds of facts it was trained on; others are not shown to it.
    """

    sha256: str
    size: int
    what: str
    style: Style
    knows: dict[str, list[str]]
    licence: str = ""
    calibration: float = 1.0
    facts: tuple[str, ...] | None = None


#: Kinds of facts that a model of the ``rows`` style knows whose manifest does not say it.
BASIC_FACTS: Final = ("deviation", "neighbour", "state", "gap", "setpoint", "history")


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A LoRA adapter that changes a model; ``sha256`` is empty where the site did not name one."""

    path: Path
    name: str
    sha256: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelFile:
    """
    A model that may be loaded.

    ``sha256`` is empty where the site did not name one; ``knows`` is None where the model reads the catalogue itself,
    ``facts`` where nothing says which kinds of facts it knows: then those of its style. ``family`` is what its manifest
    says, auto where none does.
    """

    path: Path
    name: str
    rung: str
    style: Style
    sha256: str
    knows: dict[str, list[str]] | None = None
    calibration: float = 1.0
    facts: tuple[str, ...] | None = None
    adapter: AdapterFile | None = None
    family: str = "auto"

    def shown(self, evidence: Evidence) -> Evidence:
        """The evidence as this model sees it: without facts of a kind that it does not know; ids stay."""
        kinds = self.facts or (BASIC_FACTS if self.style == "rows" else None)
        return evidence if kinds is None else evidence.only(kinds)

    def refuses(self, evidence: Evidence) -> str:
        """Why this model is not asked about some evidence; empty where it is."""
        if self.knows is None:
            return ""
        known = self.knows.get(evidence.equipment_class or "")
        if known is None:
            return f"the model was not trained on equipment class {evidence.equipment_class or 'none'}"
        strange = [option.id for option in evidence.causes if option.id not in known]
        return f"the model was not trained on cause {strange[0]}" if strange else ""


@dataclass(frozen=True, slots=True)
class Served:
    """A model on a server, whose files are not known here; ``rung`` is what the decision on it says."""

    rung: str = "site_server"


def find(model: str, sha256: str | None, base_dir: Path) -> ModelFile:
    """
    The model a configuration names; nothing but a manifest is opened.

    Raises:
        WorkerError: no such file, or a manifest that cannot be read.
    """
    wanted = (sha256 or "").lower()
    if model.startswith(REGISTRY):  # only core and the command line know where that is
        raise WorkerError(f"{model} is in the registry of a site, and none was opened")
    if not model.startswith(BUILTIN):
        path = (base_dir / model).resolve()
        if not path.is_file():
            raise WorkerError(f"no model file {model}")
        return ModelFile(path, path.name, "open_weights", "instruct", wanted)
    name = model.removeprefix(BUILTIN)
    path = _FOLDER / f"{Path(name).name}.gguf"
    if not path.is_file():
        raise WorkerError(f"this installation has no built-in model {name}")
    try:
        manifest = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Manifest)
    except (OSError, ValueError) as error:  # also text that is not UTF-8
        raise WorkerError(f"the manifest of {name} cannot be read: {error}") from error
    if not 0.1 <= manifest.calibration <= 10:
        raise WorkerError(
            f"the manifest of {name} has a calibration of {manifest.calibration}, which is no temperature"
        )
    if wanted and wanted != manifest.sha256:
        raise WorkerError(f"sha256 of {name} is configured otherwise than its manifest says")
    known = manifest.knows, manifest.calibration, manifest.facts
    return ModelFile(path, name, "builtin", manifest.style, manifest.sha256, *known)


def with_adapter(file: ModelFile, adapter: str | None, sha256: str | None, scale: float, base_dir: Path) -> ModelFile:
    """
    *file* with the adapter file that a configuration names, or as it is where it names none.

    Raises:
        WorkerError: there is no such file.
    """
    if adapter is None:
        return file
    path = (base_dir / adapter).resolve()
    if adapter.startswith(REGISTRY) or not path.is_file():
        raise WorkerError(f"no adapter file {adapter}")
    return replace(file, adapter=AdapterFile(path, path.name, (sha256 or "").lower(), scale))


def builtins() -> dict[str, Manifest]:
    """Manifests of the models in this package, by name; one that cannot be read is left out."""
    found = {}
    for path in sorted(_FOLDER.glob("*.gguf")):
        try:
            found[path.stem] = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Manifest)
        except (OSError, ValueError):  # also text that is not UTF-8
            continue
    return found


def shipped(sha256: str) -> dict[str, Any] | None:
    """What the manifest of the shipped model with this hash says of it; None where none has it."""
    for path in sorted(_FOLDER.glob("*.json")):
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        except (OSError, ValueError):  # also text that is not UTF-8
            continue
        if manifest.sha256 == sha256:
            return {
                "name": path.stem,
                "what": manifest.what,
                "licence": manifest.licence,
                "rung": "builtin",
                "trained_on": ", ".join(sorted(manifest.knows)),
            }
    return None


def digest(file: BinaryIO) -> str:
    """SHA-256 of an open file, 64 hex digits; reads it to its end."""
    seen = hashlib.sha256()
    while block := file.read(_BLOCK):
        seen.update(block)
    return seen.hexdigest()
