"""
Ed25519 keys: an integrator signs a medium with the private one, a site trusts the public one. Nothing asks a network.

Both are PEM files as OpenSSL writes them (PKCS #8, SubjectPublicKeyInfo). The library is loaded where a key is used:
a core without imported models never needs its 9 MB.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker.journal.disk import sync_folder
from schemas.errors import Refused
from schemas.manifest import Manifest, Signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SUFFIX: Final = ".pub"
_MAX_BYTES: Final = 16 << 10
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key of the site's trust folder; ``fingerprint`` is the SHA-256 of its 32 bytes, ``key_id`` its begin."""

    name: str
    fingerprint: str
    public: Ed25519PublicKey

    @property
    def key_id(self) -> str:
        """16 hex digits, as signatures name it."""
        return self.fingerprint[:16]


def fingerprint(public: Ed25519PublicKey) -> str:
    """SHA-256 of the key's 32 bytes, 64 hex digits."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def generate(path: Path, passphrase: str | None) -> tuple[Path, str]:
    """
    Make a key pair: *path* (mode 0600) and beside it the public key; the path of the latter and the fingerprint.

    Raises:
        Refused: one of the files exists.
        OSError: they cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption
    from cryptography.hazmat.primitives.serialization import PrivateFormat as Format

    beside = path.with_name(path.name + SUFFIX)
    for one in (path, beside):
        if one.exists():
            raise Refused(f"{one} exists; a key is never overwritten")
    private = Ed25519PrivateKey.generate()
    lock = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    _write(path, private.private_bytes(Encoding.PEM, Format.PKCS8, lock), 0o600)
    _write(beside, pem(private.public_key()), 0o644)
    return beside, fingerprint(private.public_key())


def pem(public: Ed25519PublicKey) -> bytes:
    """A public key as its file holds it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _write(path: Path, body: bytes, mode: int) -> None:
    """A new file, durable, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def load_private(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    """
    The signing key in a file.

    Raises:
        Refused: it cannot be read, others may read it, it is no Ed25519 key, or the passphrase is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    body, mode = _read(path)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Refused(f"{path}: others may read the signing key (mode {mode & 0o777:04o}); run chmod 600")
    try:
        found = load_pem_private_key(body, passphrase.encode() if passphrase else None)
    except TypeError as error:
        raise Refused(f"{path}: {error}; see --passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(f"{path} is no private key in PEM, or its passphrase is another one") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise Refused(f"{path} is a key of another kind than Ed25519; make one with fairlead model key")
    return found


def load_public(path: Path) -> Ed25519PublicKey:
    """The public key in a file. Raises Refused where it cannot be read or is no Ed25519 key."""
    return parse_public(_read(path)[0], str(path))


def parse_public(body: bytes, shown: str) -> Ed25519PublicKey:
    """The public key in PEM bytes; *shown* names them in the message of Refused."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in body:
        raise Refused(f"{shown} holds a private key: it belongs to who signs; give the file that ends in {SUFFIX}")
    try:
        found = load_pem_public_key(body)
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(f"{shown} is no public key in PEM") from None
    if not isinstance(found, Ed25519PublicKey):
        raise Refused(f"{shown} is a key of another kind than Ed25519")
    return found


def _read(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            body = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror or error}") from None
    if len(body) > _MAX_BYTES:
        raise Refused(f"{path} is too large for a key")
    return body, mode


def sign(private: Ed25519PrivateKey, manifest: Manifest) -> Signature:
    """A signature over the manifest's canonical bytes."""
    key_id = fingerprint(private.public_key())[:16]
    return Signature(key_id=key_id, signature=private.sign(manifest.body).hex())


class Trust:
    """The public keys that a site trusts: one file each in a folder, named by whoever put it there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trusted(self) -> list[TrustedKey]:
        """Keys of all readable files, by name."""
        found = []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            with suppress(Refused):
                public = load_public(path)
                found.append(TrustedKey(path.name.removesuffix(SUFFIX), fingerprint(public), public))
        return found

    def unreadable(self) -> list[tuple[Path, str]]:
        """Files that should hold a key and do not, each with its reason; they are not trusted."""
        found = []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                load_public(path)
            except Refused as error:
                found.append((path, str(error)))
        return found

    def add(self, name: str, public: Ed25519PublicKey) -> TrustedKey:
        """
        Trust a key under a name.

        Raises:
            Refused: the name is none, is taken, the key is there already, or the folder cannot be written.
        """
        self.may_add(name, public)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.chmod(self.folder, 0o755)  # noqa: S103 - public keys, whatever the umask says; core reads them
            _write(self.folder / f"{name}{SUFFIX}", pem(public), 0o644)
        except OSError as error:
            reason = error.strerror or error
            raise Refused(f"{self.folder} cannot be written here ({reason}): copy the file there yourself") from None
        return TrustedKey(name, fingerprint(public), public)

    def may_add(self, name: str, public: Ed25519PublicKey) -> None:
        """Say no where :meth:`add` would. Raises Refused."""
        if not _NAME.fullmatch(name):
            raise Refused(f"{name!r} is no name for a key: letters, digits and . _ -")
        known = next((key.name for key in self.trusted() if key.fingerprint == fingerprint(public)), None)
        if known is not None:
            raise Refused(f"this key is trusted already, as {known}")
        if (self.folder / f"{name}{SUFFIX}").exists():
            raise Refused(f"{self.folder / f'{name}{SUFFIX}'} exists; name the key otherwise")

    def verify(self, signature: Signature, body: bytes) -> TrustedKey:
        """
        The trusted key whose signature over *body* this is.

        Raises:
            Refused: no such key is trusted, or the signature is not over these bytes.
        """
        from cryptography.exceptions import InvalidSignature

        keys = [key for key in self.trusted() if key.key_id == signature.key_id]
        if not keys:
            raise Refused(
                f"signed with key {signature.key_id}, which this site does not trust; compare its fingerprint with who "
                "made the medium, then fairlead model trust add"
            )
        for key in keys:
            with suppress(InvalidSignature):
                key.public.verify(bytes.fromhex(signature.signature), body)
                return key
        raise Refused(f"the signature does not fit: the manifest was changed after {keys[0].name} signed it")
