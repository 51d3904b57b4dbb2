"""
The certificate folders of one source, and what a person decides about the certificates in them.

``own`` (certificate.der, key.pem mode 0600), ``trusted`` (servers, or authorities whose servers are all accepted),
``issuers`` (authorities that only complete a chain), ``crl`` (revocation lists), ``rejected`` (what a server has shown
and nobody has accepted). Files are DER or PEM. Nothing is accepted by itself. Source: OPC UA Part 12, 7.8.3; the rules
of judging stand in :mod:`adapters.opcua.trust`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from adapters.opcua import own_certificate, trust
from adapters.opcua.own_certificate import OwnCertificate
from schemas.errors import NotConnected, Refused

_MOST_REJECTED: Final = 50  # an unknown peer must not fill the disk
_SHORTEST_PREFIX: Final = 8  # hex digits of a fingerprint that a person must give

Folder = Literal["trusted", "rejected", "issuers"]
FOLDERS: Final[tuple[Folder, ...]] = ("trusted", "rejected", "issuers")
#: Where a certificate lies that a person may accept or reject, and where it goes.
DECISIONS: Final[dict[str, tuple[Folder, Folder]]] = {
    "accept": ("rejected", "trusted"),
    "reject": ("trusted", "rejected"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate in a folder."""

    folder: Folder
    path: Path
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, hex."""
        return fingerprint(self.certificate)


class Pki:
    """The certificate folders of the source *name*, below *folder*."""

    def __init__(self, folder: Path, name: str = "SOURCE") -> None:
        self.folder = folder
        self.own = folder / "own"
        self.trusted = folder / "trusted"
        self.issuers = folder / "issuers"
        self.crl = folder / "crl"
        self.rejected = folder / "rejected"
        self._name = name

    def own_certificate(self, application_uri: str, now_ns: int) -> OwnCertificate:
        """Our certificate, see :func:`own_certificate.keep`; the other folders are made with it."""
        for folder in (self.own, self.trusted, self.issuers, self.crl, self.rejected):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return own_certificate.keep(self.own, application_uri, now_ns)

    def check_server(self, ders: bytes | None, peer: trust.Peer, now_ns: int) -> list[str]:
        """
        Accept what the server showed, a DER certificate with its issuers behind it, or raise NotConnected.

        Returns remarks for people. An unknown certificate is kept in ``rejected``; the text says how to accept it.
        """
        if not ders:
            raise NotConnected("the server offers no certificate for this security policy")
        try:
            chain = trust.split_chain(ders)
        except ValueError as error:
            raise NotConnected(f"the server's certificate cannot be read: {error}") from None
        try:
            return trust.judge(chain, self.lists(), peer, datetime.fromtimestamp(now_ns / 1e9, UTC))
        except trust.Distrust as refusal:
            title = f"the server's certificate {common_name(chain[0])} (sha256:{fingerprint(chain[0])})"
            remedy = ""
            if refusal.unknown:
                self._reject(chain[0])
                remedy = (
                    "; compare the fingerprint at the server, then run fairlead trust accept "
                    f"{self._name} {fingerprint(chain[0])[:16]}"
                )
            raise NotConnected(f"{title} {refusal}{remedy}") from None

    def lists(self) -> trust.Lists:
        """What the folders hold now. A file that cannot be read counts as not there."""
        crls = []
        for path in _files(self.crl):
            crl = _load_crl(path)
            if crl is not None:
                crls.append(crl)
        return trust.Lists(
            [entry.certificate for entry in self._of("trusted")],
            [entry.certificate for entry in self._of("issuers")],
            crls,
        )

    def entries(self) -> list[Entry]:
        """All certificates of other parties, folder by folder."""
        return [entry for folder in FOLDERS for entry in self._of(folder)]

    def unreadable(self) -> list[Path]:
        """Files in the folders that are no certificate and no revocation list."""
        known = {entry.path for entry in self.entries()}
        wrong = [path for folder in FOLDERS for path in _files(self.folder / folder) if path not in known]
        return wrong + [path for path in _files(self.crl) if _load_crl(path) is None]

    def find(self, prefix: str, folder: Folder) -> Entry:
        """The one certificate in *folder* whose fingerprint begins so. Raises Refused with what to do."""
        wanted = re.sub(r"^sha256:|[:\s]", "", prefix.strip().lower())
        if len(wanted) < _SHORTEST_PREFIX or not re.fullmatch(r"[0-9a-f]+", wanted):
            raise Refused(f"{prefix!r}: want at least {_SHORTEST_PREFIX} hex digits of the SHA-256 fingerprint")
        found = {entry.fingerprint: entry for entry in self._of(folder) if entry.fingerprint.startswith(wanted)}
        if not found:
            raise Refused(f"no certificate in {folder} of {self._name} has a fingerprint that begins with {wanted}")
        if len(found) > 1:
            raise Refused(f"{len(found)} certificates in {folder} begin with {wanted}; give more digits")
        [entry] = found.values()
        return entry

    def move(self, entry: Entry, target: Folder) -> Entry:
        """Put a certificate into another folder, and remove every copy from its own. Raises OSError."""
        path = self.folder / target / _file_name(entry.certificate)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        own_certificate.save(path, entry.certificate.public_bytes(serialization.Encoding.DER), 0o644)
        for same in self._of(entry.folder):
            if same.fingerprint == entry.fingerprint:
                same.path.unlink()
        return Entry(target, path, entry.certificate)

    def _of(self, folder: Folder) -> Iterator[Entry]:
        for path in _files(self.folder / folder):
            certificate = load_certificate(path)
            if certificate is not None:
                yield Entry(folder, path, certificate)

    def _reject(self, certificate: x509.Certificate) -> None:
        self.rejected.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.rejected / _file_name(certificate)
        if not path.exists() and len(_files(self.rejected)) < _MOST_REJECTED:
            own_certificate.save(path, certificate.public_bytes(serialization.Encoding.DER), 0o644)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def common_name(certificate: x509.Certificate) -> str:
    """The common name of a certificate's subject."""
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else "without a name"


def load_certificate(path: Path) -> x509.Certificate | None:
    """The certificate in a file, DER or PEM; None where there is none."""
    try:
        content = path.read_bytes()
        pem = content.lstrip().startswith(b"-----BEGIN")
        return x509.load_pem_x509_certificate(content) if pem else x509.load_der_x509_certificate(content)
    except (OSError, ValueError):
        return None


def _load_crl(path: Path) -> x509.CertificateRevocationList | None:
    try:
        content = path.read_bytes()
        pem = content.lstrip().startswith(b"-----BEGIN")
        return x509.load_pem_x509_crl(content) if pem else x509.load_der_x509_crl(content)
    except (OSError, ValueError):
        return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file() and path.suffix != ".part")


def _file_name(certificate: x509.Certificate) -> str:
    word = re.sub(r"[^A-Za-z0-9.-]+", "_", common_name(certificate))[:40].strip("._")
    return f"{word or 'server'}-{fingerprint(certificate)[:16]}.der"
