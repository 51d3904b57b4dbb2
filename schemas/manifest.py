"""
The manifest of a model's medium: every file with size and sha256, and what the model is. It is what gets signed.

Canonical bytes are JSON with sorted keys and no white space; a manifest in any other form is refused, so that what was
signed and what was read cannot differ.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMAT: Final = 1
#: Files of a medium beside those that the manifest lists.
MANIFEST_NAME: Final = "model.json"
SIGNATURE_NAME: Final = "model.sig"
#: Name of a model on its medium, in the registry and in ``llm.model``.
NAME: Final = r"^[a-z][a-z0-9._-]{0,63}$"
MAX_FILES: Final = 200
#: Begin of a name in the registry of imported models.
REGISTRY: Final = "registry:"
_REFERENCE: Final = re.compile(r"registry:([a-z][a-z0-9._-]{0,63})(?:@([1-9][0-9]{0,8}))?(?:/(.+))?")
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_DEPTH: Final = 4

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Reference:
    """``registry:NAME[@VERSION][/FILE]``; *version* None: the one that was imported last."""

    name: str
    version: int | None = None
    file: str = ""

    def __str__(self) -> str:
        version = "" if self.version is None else f"@{self.version}"
        return f"{REGISTRY}{self.name}{version}" + (f"/{self.file}" if self.file else "")


def parse_reference(text: str) -> Reference:
    """
    What ``llm.model`` or ``llm.adapter`` names in the registry.

    Raises:
        ValueError: it is not in that form.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not registry:NAME or registry:NAME@VERSION (small letters, digits and . _ -)")
    name, version, file = match.groups()
    if file:
        check_path(file)
    return Reference(name, int(version) if version else None, file or "")


def check_path(path: str) -> str:
    """
    A path of a file inside a medium: plain names, ``/`` between them, at most four deep.

    Raises:
        ValueError: it is absolute, climbs (``..``), or holds a character that some system reads otherwise.
    """
    parts = path.split("/")
    if len(parts) > _DEPTH or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"{path[:200]!r} is not a plain path inside the medium")
    if path.lower() in {MANIFEST_NAME, SIGNATURE_NAME}:
        raise ValueError(f"{path} is the name of the manifest or its signature")
    return path


class MediumFile(_Frozen):
    """One file; ``weights`` and ``adapter`` are GGUF, ``licence`` is its text."""

    path: str
    role: Literal["weights", "adapter", "licence", "other"]
    size: int = Field(ge=1)
    sha256: Sha256


class Manifest(_Frozen):
    """
    What a medium holds.

    A model has one ``weights`` file and may bring adapters of its own; an adapter's medium has no weights and names
    in ``base_sha256`` the weights it was trained for. Every medium has the text of its licence.
    """

    format: Literal[1] = FORMAT
    name: str = Field(pattern=NAME)
    version: int = Field(ge=1, le=2**31 - 1, description="Counts up; a lower one is a rollback.")
    what: _Text = Field(description="One sentence for whoever chooses.")
    licence: _Text = Field(description="SPDX identifier, or a name.")
    origin: _Text = Field(description="Who trained it, from what, and who converted it.")
    rung: Literal["mistral", "open_weights"]
    style: Literal["instruct", "rows"] = Field("instruct", description="How evidence is written for it.")
    family: Literal["auto", "v3", "v3-tekken", "v7", "v7-spm"] = Field("auto", description="Prompt format.")
    knows: dict[str, tuple[str, ...]] | None = Field(
        None, description="Causes by equipment class it was trained on; null: it reads the catalogue itself."
    )
    calibration: float = Field(
        1.0, ge=0.1, le=10, description="Temperature at which its probabilities say how often it is right."
    )
    base_sha256: Sha256 | None = None
    files: tuple[MediumFile, ...] = Field(min_length=1, max_length=MAX_FILES)

    @model_validator(mode="after")
    def _fits(self) -> Manifest:
        for file in self.files:
            check_path(file.path)
        paths = [file.path.lower() for file in self.files]
        if len(set(paths)) < len(paths):
            raise ValueError("two files have one path (upper and lower case are the same)")
        folders = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
        if folders & set(paths):
            raise ValueError("a path is a file and a folder at once")
        weights, adapters = self.of_role("weights"), self.of_role("adapter")
        if len(weights) > 1:
            raise ValueError("more than one weights file; join the parts of a split GGUF first (llama-gguf-split)")
        if not weights and len(adapters) != 1:
            raise ValueError("no weights file, and not the one adapter of an adapter's medium")
        if bool(self.base_sha256) is bool(weights):
            raise ValueError("base_sha256 names the weights of an adapter's medium, and stands nowhere else")
        if not self.of_role("licence"):
            raise ValueError("no file with the text of the licence")
        return self

    def of_role(self, role: str) -> tuple[MediumFile, ...]:
        """Files of one role."""
        return tuple(file for file in self.files if file.role == role)

    @property
    def weights(self) -> MediumFile | None:
        """The weights; None on an adapter's medium."""
        return next(iter(self.of_role("weights")), None)

    @property
    def main(self) -> MediumFile:
        """The weights, or the adapter of an adapter's medium."""
        return self.weights or self.of_role("adapter")[0]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @cached_property
    def body(self) -> bytes:
        """Canonical bytes, which the signature covers."""
        return msgspec.json.encode(self.model_dump(mode="json"), order="sorted")

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the canonical bytes, 64 hex digits: the name of its folder in the store."""
        return hashlib.sha256(self.body).hexdigest()

    @classmethod
    def from_body(cls, body: bytes) -> Manifest:
        """
        The manifest with these canonical bytes.

        Raises:
            ValueError: it is not a manifest (pydantic's ValidationError), or not in its canonical form.
        """
        found = cls.model_validate_json(body)
        if found.body != body:
            raise ValueError("not in canonical form (sorted keys, no white space); make it with fairlead model pack")
        return found


class Signature(_Frozen):
    """``model.sig``: an Ed25519 signature over the bytes of ``model.json``; both byte strings in hex."""

    format: Literal[1] = FORMAT
    algorithm: Literal["Ed25519"] = "Ed25519"
    key_id: str = Field(pattern=r"^[0-9a-f]{16}$", description="Begin of the SHA-256 of the public key's 32 bytes.")
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")
