"""Keys: made once, kept secret, trusted by comparison."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from broker.models import keys
from broker.models.keys import Trust
from schemas.errors import Refused
from tests.broker.models.conftest import Integrator


def test_a_key_pair_is_made_once(tmp_path: Path) -> None:
    """The signing key is for its owner alone; a second one never overwrites it."""
    public, fingerprint = keys.generate(tmp_path / "release.key", None)

    assert (tmp_path / "release.key").stat().st_mode & 0o777 == 0o600
    assert public == tmp_path / "release.key.pub"
    assert keys.fingerprint(keys.load_public(public)) == fingerprint
    assert keys.fingerprint(keys.load_private(tmp_path / "release.key", None).public_key()) == fingerprint
    with pytest.raises(Refused, match="never overwritten"):
        keys.generate(tmp_path / "release.key", None)


def test_a_passphrase_is_asked_for(tmp_path: Path) -> None:
    """Without it, or with another one, the key is of no use."""
    keys.generate(tmp_path / "k", "correct horse")
    for wrong in (None, "battery"):
        with pytest.raises(Refused, match="passphrase"):
            keys.load_private(tmp_path / "k", wrong)
    assert keys.load_private(tmp_path / "k", "correct horse")


def test_a_signing_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """As secrets in files are."""
    keys.generate(tmp_path / "k", None)
    (tmp_path / "k").chmod(0o640)
    with pytest.raises(Refused, match="chmod 600"):
        keys.load_private(tmp_path / "k", None)


def test_other_files_are_no_keys(tmp_path: Path) -> None:
    """A key of another kind, a private one in the place of a public one, and a text."""
    other = rsa.generate_private_key(65537, 2048)
    (tmp_path / "rsa.pub").write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "rsa").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "rsa").chmod(0o600)
    (tmp_path / "text.pub").write_text("ssh-ed25519 AAAA")
    with pytest.raises(Refused, match="another kind than Ed25519"):
        keys.load_public(tmp_path / "rsa.pub")
    with pytest.raises(Refused, match="another kind than Ed25519"):
        keys.load_private(tmp_path / "rsa", None)
    with pytest.raises(Refused, match="holds a private key"):
        keys.load_public(tmp_path / "rsa")
    with pytest.raises(Refused, match="no public key in PEM"):
        keys.load_public(tmp_path / "text.pub")


def test_trust_is_a_folder(tmp_path: Path, trust: Trust, integrator: Integrator, stranger: Integrator) -> None:
    """A key stands there once, a file that holds none is named and trusts nobody."""
    with pytest.raises(Refused, match="trusted already, as release"):
        trust.add("again", integrator.private.public_key())
    with pytest.raises(Refused, match="name the key otherwise"):
        trust.add("release", stranger.private.public_key())
    with pytest.raises(Refused, match="no name for a key"):
        trust.add("../release", stranger.private.public_key())
    (tmp_path / "trust" / "broken.pub").write_text("nothing")

    assert [key.name for key in trust.trusted()] == ["release"]
    assert [path.name for path, _ in trust.unreadable()] == ["broken.pub"]
    trust.add("second", stranger.private.public_key())
    assert [key.name for key in trust.trusted()] == ["release", "second"]


def test_openssl_makes_the_same_signature(tmp_path: Path, need: Callable[[str], str], integrator: Integrator) -> None:
    """The signature is plain Ed25519 over the bytes of model.json: another program can check it."""
    openssl = need("openssl")
    folder = integrator.medium(tmp_path / "m")
    (tmp_path / "key.pub").write_bytes(keys.pem(integrator.private.public_key()))
    from schemas.manifest import Signature

    told = Signature.model_validate_json((folder / "model.sig").read_bytes())
    (tmp_path / "raw.sig").write_bytes(bytes.fromhex(told.signature))
    command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", str(tmp_path / "key.pub"), "-rawin"]
    given = ["-in", str(folder / "model.json"), "-sigfile", str(tmp_path / "raw.sig")]
    done = subprocess.run([*command, *given], capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    (folder / "model.json").write_bytes((folder / "model.json").read_bytes() + b" ")
    assert subprocess.run([*command, *given], capture_output=True, timeout=300).returncode != 0
