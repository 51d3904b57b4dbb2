"""Key pairs, media and a site, all real: what is signed here is signed by Ed25519."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.models.keys import Trust
from broker.models.media import describe, seal
from broker.models.registry import trust_of
from broker.models.shelf import Shelf
from schemas.manifest import Manifest
from tests.broker.models.site import configured

WEIGHTS = b"GGUF" + bytes(range(256)) * 20
ADAPTER = b"GGUF" + bytes(range(255, -1, -1)) * 4


@dataclass(frozen=True)
class Integrator:
    """Who signs media."""

    private: Ed25519PrivateKey

    def medium(self, folder: Path, *, files: dict[str, bytes] | None = None, **changes: object) -> Path:
        """A signed medium in a new folder."""
        told = {"model.gguf": WEIGHTS, "LICENSE": b"Apache License\n"} if files is None else files
        for path, body in told.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)
        seal(folder, manifest_of(folder, **changes), self.private)
        return folder

    def adapter(self, folder: Path, base_sha256: str, **changes: object) -> Path:
        """A signed adapter's medium."""
        files = {"lora.gguf": ADAPTER, "LICENSE": b"Apache License\n"}
        told: dict[str, object] = {"name": "pump-lora", "base_sha256": base_sha256}
        return self.medium(folder, files=files, **{**told, **changes})


def manifest_of(folder: Path, **changes: object) -> Manifest:
    """What the files of a folder say, with some things said otherwise."""
    roles = {
        path.name: role
        for name, role in (("model.gguf", "weights"), ("lora.gguf", "adapter"), ("LICENSE", "licence"))
        if (path := folder / name).exists()
    }
    told: dict[str, object] = {
        "name": "plant-7b",
        "version": 3,
        "what": "A model of the tests",
        "licence": "Apache-2.0",
        "origin": "made by the tests",
        "rung": "mistral",
        "files": describe(folder, roles),
    }
    return Manifest.model_validate({**told, **changes})


@pytest.fixture(scope="session")
def integrator() -> Integrator:
    return Integrator(Ed25519PrivateKey.generate())


@pytest.fixture(scope="session")
def stranger() -> Integrator:
    return Integrator(Ed25519PrivateKey.generate())


@pytest.fixture
def trust(tmp_path: Path, integrator: Integrator) -> Trust:
    """A site that trusts the integrator and nobody else."""
    found = Trust(tmp_path / "trust")
    found.add("release", integrator.private.public_key())
    return found


@pytest.fixture
def shelf(tmp_path: Path, trust: Trust) -> Shelf:
    return Shelf(tmp_path / "var", trust)


@pytest.fixture
def medium(tmp_path: Path, integrator: Integrator) -> Callable[..., Path]:
    """Make a signed medium in a folder below tmp_path."""
    return lambda name="medium", **changes: integrator.medium(tmp_path / name, **changes)


@pytest.fixture
def site(tmp_path: Path, integrator: Integrator) -> Callable[..., object]:
    """The configuration of a site that trusts the integrator."""

    def make(llm: str, more: str = "") -> object:
        config = configured(tmp_path, llm, more)
        if not trust_of(config).trusted():
            trust_of(config).add("release", integrator.private.public_key())
        return config

    return make
