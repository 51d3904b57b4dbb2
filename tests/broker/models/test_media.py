"""Media: what was signed comes in, and nothing else does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.models.keys import Trust, sign
from broker.models.media import describe, open_medium, read_manifest
from broker.models.shelf import Shelf
from llm.options import ReasonerOptions
from llm.prompt import Family
from schemas.errors import Refused
from schemas.manifest import Manifest, Signature, check_path, parse_reference
from tests.broker.models.conftest import WEIGHTS, Integrator, manifest_of

Make = Callable[..., Path]


def test_a_signed_medium_lies_on_the_shelf_read_only(medium: Make, trust: Trust, shelf: Shelf) -> None:
    """Every byte is there under the manifest's hash, nobody may write it, and the signature holds there, too."""
    found = open_medium(medium(), trust)
    held = shelf.place(found)

    assert (found.signer.name, held.folder.name) == ("release", found.manifest.sha256)
    assert (held.folder / "model.gguf").read_bytes() == WEIGHTS
    modes = {path.name: path.stat().st_mode & 0o777 for path in (held.folder, *held.folder.iterdir())}
    assert set(modes.values()) == {0o444, 0o555}
    assert set(modes) == {held.folder.name, "model.gguf", "LICENSE", "model.json", "model.sig"}
    assert shelf.read(held.manifest.sha256) == held
    assert [one.name for one in shelf.folder.iterdir()] == [held.folder.name]


@pytest.mark.parametrize("family", get_args(Family))
def test_every_prompt_family_may_be_named(medium: Make, trust: Trust, family: str) -> None:
    """Manifest and configuration know the families that prompts are written for."""
    assert open_medium(medium(family=family), trust).manifest.family == family
    assert ReasonerOptions.model_validate({"family": family}).family == family


def flip(path: Path, at: int = 100) -> None:
    body = bytearray(path.read_bytes())
    body[at % len(body)] ^= 1
    path.write_bytes(bytes(body))


def unsigned(folder: Path) -> None:
    (folder / "model.sig").unlink()


def resigned_by_nobody(folder: Path) -> None:
    (folder / "model.sig").write_text("signed: yes\n")


def longer(folder: Path) -> None:
    with (folder / "model.gguf").open("ab") as file:
        file.write(b"x")


def shorter(folder: Path) -> None:
    (folder / "model.gguf").write_bytes(WEIGHTS[:-1])


def linked(folder: Path) -> None:
    (folder / "LICENSE").rename(folder.parent / "elsewhere")
    (folder / "LICENSE").symlink_to(folder.parent / "elsewhere")


def linked_manifest(folder: Path) -> None:
    (folder / "model.json").rename(folder.parent / "elsewhere.json")
    (folder / "model.json").symlink_to(folder.parent / "elsewhere.json")


def piped(folder: Path) -> None:
    (folder / "LICENSE").unlink()
    os.mkfifo(folder / "LICENSE")


def hidden(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / ".run").write_bytes(b"x")


def pretty(folder: Path) -> None:
    told = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(told, indent=2))


BAD = {
    "no manifest": (lambda folder: (folder / "model.json").unlink(), "there is no model.json"),
    "unsigned": (unsigned, "the medium is not signed"),
    "no signature": (resigned_by_nobody, "model.sig is no signature"),
    "one bit of the manifest": (lambda folder: flip(folder / "model.json"), "the signature does not fit"),
    "reformatted manifest": (pretty, "the signature does not fit"),
    "one bit of the weights": (lambda folder: flip(folder / "model.gguf"), "model.gguf was changed: its sha256 is"),
    "one bit of the licence": (lambda folder: flip(folder / "LICENSE", 3), "LICENSE was changed"),
    "longer": (longer, "model.gguf does not have the 5124 bytes"),
    "shorter": (shorter, "model.gguf does not have the 5124 bytes"),
    "missing": (lambda folder: (folder / "LICENSE").unlink(), "LICENSE is missing"),
    "extra": (lambda folder: (folder / "autorun.inf").write_bytes(b"x"), "autorun.inf is not in the manifest"),
    "hidden": (hidden, r"deep/\.run is not in the manifest"),
    "link": (linked, "LICENSE is a link"),
    "linked manifest": (linked_manifest, "model.json cannot be read"),
    "pipe": (piped, "LICENSE is no regular file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_medium_that_was_touched_is_refused(case: str, medium: Make, trust: Trust, shelf: Shelf) -> None:
    """The message says what is wrong; nothing of it stays on the shelf."""
    folder = medium()
    spoil, message = BAD[case]
    spoil(folder)

    with pytest.raises(Refused, match=message):
        shelf.place(open_medium(folder, trust))
    assert not shelf.folder.exists() or not list(shelf.folder.iterdir())


def test_every_problem_of_the_names_is_told_at_once(medium: Make, trust: Trust) -> None:
    """One look at the medium is enough."""
    folder = medium()
    hidden(folder)
    linked(folder)
    with pytest.raises(Refused, match=r"LICENSE is a link; LICENSE is missing; deep/\.run is not in the manifest"):
        open_medium(folder, trust)


def test_a_key_that_is_not_trusted_is_refused(
    tmp_path: Path, trust: Trust, integrator: Integrator, stranger: Integrator
) -> None:
    """Control: the very same files, signed by the trusted key, come in."""
    with pytest.raises(Refused, match="which this site does not trust"):
        open_medium(stranger.medium(tmp_path / "theirs"), trust)
    assert open_medium(integrator.medium(tmp_path / "ours"), trust).signer.name == "release"


def test_a_stranger_cannot_use_the_name_of_a_trusted_key(
    tmp_path: Path, trust: Trust, integrator: Integrator, stranger: Integrator
) -> None:
    """The key id in the signature only says which key to try."""
    folder = stranger.medium(tmp_path / "theirs")
    manifest = read_manifest((folder / "model.json").read_bytes())
    forged = sign(stranger.private, manifest).model_copy(update={"key_id": sign(integrator.private, manifest).key_id})
    (folder / "model.sig").write_text(forged.model_dump_json())
    with pytest.raises(Refused, match="the signature does not fit"):
        open_medium(folder, trust)


def test_a_signature_of_another_manifest_does_not_fit(medium: Make, trust: Trust) -> None:
    """A medium cannot borrow the signature of another one of the same key."""
    one, other = medium("one"), medium("other", version=4)
    (one / "model.sig").write_bytes((other / "model.sig").read_bytes())
    with pytest.raises(Refused, match="the signature does not fit"):
        open_medium(one, trust)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bit=st.integers(0, 64 * 8 - 1))
def test_every_bit_of_the_signature_counts(bit: int, medium: Make, trust: Trust) -> None:
    """None of the 512 may be another one; control: with all of them the medium opens."""
    folder = medium()
    open_medium(folder, trust)
    found = Signature.model_validate_json((folder / "model.sig").read_bytes())
    raw = bytearray(bytes.fromhex(found.signature))
    raw[bit // 8] ^= 1 << bit % 8
    (folder / "model.sig").write_text(found.model_copy(update={"signature": raw.hex()}).model_dump_json())
    with pytest.raises(Refused, match="the signature does not fit"):
        open_medium(folder, trust)


def test_what_the_manifest_names_must_be_gguf(
    tmp_path: Path, integrator: Integrator, trust: Trust, shelf: Shelf
) -> None:
    """A signature does not make a model of a text."""
    folder = integrator.medium(tmp_path / "m", files={"model.gguf": b"#!/bin/sh\n", "LICENSE": b"x"})
    with pytest.raises(Refused, match=r"model\.gguf is no GGUF file"):
        shelf.place(open_medium(folder, trust))


PATHS = [
    "../out",
    "/etc/passwd",
    "a/../../b",
    "a//b",
    "",
    ".",
    "a/.",
    "..",
    "a\\b",
    "C:/x",
    "a\nb",
    "x" * 200,
    "a/b/c/d/e",
]


@pytest.mark.parametrize("path", [*PATHS, "~/x", "-rf", "model.json", "Model.SIG"])
def test_a_path_out_of_the_medium_is_no_path(path: str, tmp_path: Path, integrator: Integrator, trust: Trust) -> None:
    """Also where a trusted key has signed it."""
    with pytest.raises(ValueError, match=r"path|name of the manifest"):
        check_path(path)
    folder = integrator.medium(tmp_path / "m")
    told = json.loads((folder / "model.json").read_text())
    told["files"][0]["path"] = path
    body = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    signature = integrator.private.sign(body).hex()
    key_id = Signature.model_validate_json((folder / "model.sig").read_bytes()).key_id
    (folder / "model.json").write_bytes(body)
    (folder / "model.sig").write_text(Signature(key_id=key_id, signature=signature).model_dump_json())
    with pytest.raises(Refused, match=r"model\.json"):
        open_medium(folder, trust)


def test_a_plain_path_is_one() -> None:
    """Control."""
    for path in ("model.gguf", "adapters/pump-v2.gguf", "a/b/c/d", "LICENSE", "_x", "mistral+q4.gguf"):
        assert check_path(path) == path


def changed(manifest: Manifest, **changes: object) -> dict[str, object]:
    return {**manifest.model_dump(mode="json"), **changes}


def test_a_manifest_that_contradicts_itself_is_none(tmp_path: Path, integrator: Integrator) -> None:
    """Twice the same path, no licence, two weights, a base where there are weights: each is told."""
    manifest = manifest_of(integrator.medium(tmp_path / "m"))
    licence, weights = (file.model_dump() for file in manifest.files)
    adapter = {**weights, "role": "adapter", "path": "lora.gguf"}
    cases: dict[str, dict[str, object]] = {
        "one path": {"files": [weights, licence, {**weights, "path": "MODEL.gguf", "role": "other"}]},
        "a file and a folder": {"files": [weights, licence, {**licence, "path": "LICENSE/x"}]},
        "more than one weights": {"files": [weights, licence, {**weights, "path": "b.gguf"}]},
        "no weights file": {"files": [licence]},
        "text of the licence": {"files": [weights]},
        "base_sha256": {"base_sha256": "0" * 64},
        "base_sha256 names": {"files": [adapter, licence]},
    }
    for message, change in cases.items():
        with pytest.raises(ValidationError, match=message):
            Manifest.model_validate(changed(manifest, **change))
    assert (
        Manifest.model_validate(changed(manifest, files=[adapter, licence], base_sha256="0" * 64)).main.path
        == "lora.gguf"
    )


@pytest.mark.parametrize(
    "text", ["registry:", "registry:UP", "registry:a@0", "registry:a@x", "registry:a@1/../b", "registry:a b", "a@1"]
)
def test_a_reference_in_another_form_is_refused(text: str) -> None:
    """Control: the forms that the page of the options names."""
    with pytest.raises(ValueError, match=r"registry:NAME|plain path"):
        parse_reference(text)
    for good in ("registry:a", "registry:plant-7b@12", "registry:a@1/adapters/x.gguf", "registry:a/x.gguf"):
        assert str(parse_reference(good)) == good


def test_what_lies_on_the_shelf_is_verified_again(medium: Make, trust: Trust, shelf: Shelf, tmp_path: Path) -> None:
    """A key that is trusted no longer takes its models along, and a file that is gone is missed; importing mends it."""
    held = shelf.place(open_medium(medium(), trust))
    sha256 = held.manifest.sha256
    key = tmp_path / "trust" / "release.pub"
    body = key.read_bytes()
    key.unlink()
    with pytest.raises(Refused, match="does not trust"):
        shelf.read(sha256)
    key.write_bytes(body)
    held.folder.chmod(0o755)
    (held.folder / "model.gguf").unlink()
    with pytest.raises(Refused, match="is missing or was changed: import the model again"):
        shelf.read(sha256)

    shelf.place(open_medium(tmp_path / "medium", trust))
    assert shelf.read(sha256).manifest == held.manifest
    assert [one.name for one in shelf.folder.iterdir()] == [sha256]


def test_describe_refuses_links_and_missing_roles(tmp_path: Path) -> None:
    """Who packs is told as clearly as who imports."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a").symlink_to("/etc/hosts")
    with pytest.raises(Refused, match=r"a is a link; w\.gguf is not there"):
        describe(tmp_path / "m", {"w.gguf": "weights"})
