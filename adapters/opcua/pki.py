"""
Our application certificate, and the list of server certificates a person has accepted.

Folders below ``pki/``: ``own`` (certificate.der, key.pem mode 0600), ``trusted``, ``rejected``. A server certificate is
trusted when the same certificate lies in ``trusted``; nothing is accepted by itself (A13: the library's own validator
accepts unknown certificates). The host name is not compared, since the very certificate is pinned. Source: OPC UA
Part 4, 6.1.3; security rules of the house.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import NotConnected

_KEY_BITS: Final = 2048
_YEARS: Final = 10
_MOST_REJECTED: Final = 50  # an unknown peer must not fill the disk
_WEAK_HASHES: Final = (hashes.MD5, hashes.SHA1)


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """Files of our application certificate (DER) and private key (PEM)."""

    certificate: Path
    key: Path


class Pki:
    """The certificate folders of one source."""

    def __init__(self, folder: Path) -> None:
        self.own = folder / "own"
        self.trusted = folder / "trusted"
        self.rejected = folder / "rejected"

    def own_certificate(self, application_uri: str, now_ns: int) -> OwnCertificate:
        """
        The certificate for this application URI; made, self-signed, where there is none.

        A certificate for another URI is replaced, and the server must then trust the new one.
        Raises NotConnected when it has expired, OSError when the folder cannot be written.
        """
        for folder in (self.own, self.trusted, self.rejected):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = OwnCertificate(self.own / "certificate.der", self.own / "key.pem")
        now = datetime.fromtimestamp(now_ns / 1e9, UTC)
        if files.certificate.exists() and files.key.exists():
            held = x509.load_der_x509_certificate(files.certificate.read_bytes())
            if application_uri in _uris(held):
                if now > held.not_valid_after_utc:
                    raise NotConnected(
                        f"our certificate {files.certificate} expired on {held.not_valid_after_utc:%Y-%m-%d}; "
                        f"remove {self.own} for a new one and let the server trust it"
                    )
                return files
        key, certificate = _self_signed(application_uri, now)
        _write(files.key, key, 0o600)
        _write(files.certificate, certificate, 0o644)
        return files

    def check_server(self, der: bytes | None, now_ns: int) -> None:
        """
        Accept the server's certificate, or raise NotConnected with the file to move.

        Raises NotConnected for an unknown, expired, not yet valid or weak certificate.
        """
        if not der:
            raise NotConnected("the server offers no certificate for this security policy")
        try:
            certificate = x509.load_der_x509_certificate(der)
        except ValueError as error:
            raise NotConnected(f"the server's certificate cannot be read: {error}") from None
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        if not any(_same(path, certificate) for path in sorted(self.trusted.glob("*"))):
            path = self._reject(certificate, fingerprint)
            raise NotConnected(
                f"the server's certificate {_name(certificate)} (sha256 {fingerprint}) is not trusted; compare the "
                f"fingerprint at the server, then move {path} to {self.trusted}"
            )
        now = datetime.fromtimestamp(now_ns / 1e9, UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise NotConnected(
                f"the server's certificate {_name(certificate)} is valid from {certificate.not_valid_before_utc} to "
                f"{certificate.not_valid_after_utc}; renew it, or correct this machine's clock"
            )
        public = certificate.public_key()
        if not isinstance(public, rsa.RSAPublicKey) or public.key_size < _KEY_BITS:
            raise NotConnected(
                f"the server's certificate {_name(certificate)} has no RSA key of {_KEY_BITS} bits or more"
            )
        if isinstance(certificate.signature_hash_algorithm, _WEAK_HASHES):
            raise NotConnected(f"the server's certificate {_name(certificate)} is signed with a broken hash; renew it")

    def _reject(self, certificate: x509.Certificate, fingerprint: str) -> Path:
        word = re.sub(r"[^A-Za-z0-9.-]+", "_", _name(certificate))[:40].strip("._")
        path = self.rejected / f"{word or 'server'}-{fingerprint[:16]}.der"
        if not path.exists() and len(list(self.rejected.glob("*.der"))) < _MOST_REJECTED:
            _write(path, certificate.public_bytes(serialization.Encoding.DER), 0o644)
        return path


def _self_signed(application_uri: str, now: datetime) -> tuple[bytes, bytes]:
    """(key as PEM, certificate as DER) with what Part 6, 6.2.2 asks of an application instance certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    host = socket.gethostname()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Fairlead"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Fairlead"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(application_uri), x509.DNSName(host)]), False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=True,
                key_encipherment=True,
                data_encipherment=True,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, certificate.public_bytes(serialization.Encoding.DER)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def _name(certificate: x509.Certificate) -> str:
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else "without a name"


def _same(path: Path, certificate: x509.Certificate) -> bool:
    """Whether the file holds this very certificate, DER or PEM; a file that is no certificate is not."""
    try:
        content = path.read_bytes()
        pem = content.lstrip().startswith(b"-----BEGIN")
        held = x509.load_pem_x509_certificate(content) if pem else x509.load_der_x509_certificate(content)
    except (OSError, ValueError):
        return False
    return held == certificate


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, readable for *mode* from its first byte."""
    part = path.with_suffix(path.suffix + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    part.replace(path)
