"""
Our application instance certificate: made once, self-signed, with what OPC UA Part 6, 6.2.2 asks for.

It names the application URI, which the server compares with the one that we introduce ourselves by.
"""

from __future__ import annotations

import os
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


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """Files of our application certificate (DER) and private key (PEM)."""

    certificate: Path
    key: Path

    def load(self) -> x509.Certificate:
        """The certificate. Raises NotConnected where the file holds none."""
        try:
            return x509.load_der_x509_certificate(self.certificate.read_bytes())
        except ValueError:
            raise NotConnected(
                f"our certificate {self.certificate} cannot be read; remove {self.certificate.parent} for a new one"
            ) from None


def keep(folder: Path, application_uri: str, now_ns: int) -> OwnCertificate:
    """
    The certificate for this application URI in *folder*; made where there is none.

    A certificate for another URI is replaced, and the server must then trust the new one. Raises NotConnected when it
    has expired or cannot be read, OSError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = OwnCertificate(folder / "certificate.der", folder / "key.pem")
    now = datetime.fromtimestamp(now_ns / 1e9, UTC)
    if files.certificate.exists() and files.key.exists():
        held = files.load()
        if application_uri in uris(held):
            if now > held.not_valid_after_utc:
                raise NotConnected(
                    f"our certificate {files.certificate} expired on {held.not_valid_after_utc:%Y-%m-%d}; "
                    f"remove {folder} for a new one and let the server trust it"
                )
            return files
    key, certificate = _self_signed(application_uri, now)
    save(files.key, key, 0o600)
    save(files.certificate, certificate, 0o644)
    return files


def _self_signed(application_uri: str, now: datetime) -> tuple[bytes, bytes]:
    """(key as PEM, certificate as DER)."""
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


def uris(certificate: x509.Certificate) -> list[str]:
    """URIs among the names of a certificate: its application URI."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def save(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, readable for *mode* from its first byte. Raises OSError."""
    part = path.with_suffix(path.suffix + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    part.replace(path)
