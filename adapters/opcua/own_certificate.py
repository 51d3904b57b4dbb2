"""
Our application instance certificate: made once, self-signed, with what OPC UA Part 6, 6.2.2 asks for.

It names the application URI, which the server compares with the one that we introduce ourselves by. A pair that the
site put into the folder, issued by an authority of its own say, is used as it is: nothing but a certificate that we
made is ever replaced, and no private key is removed.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import NotConnected

_KEY_BITS: Final = 2048
_YEARS: Final = 10
#: Subject and issuer of what we make.
_NAME: Final = x509.Name(
    [
        x509.NameAttribute(NameOID.COMMON_NAME, "Fairlead"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Fairlead"),
    ]
)
#: From so long before its end on, an expiry is told.
_SOON: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """Files of our application certificate (DER) and private key (PEM), and what people should know of them."""

    certificate: Path
    key: Path
    remarks: tuple[str, ...] = ()

    def load(self) -> x509.Certificate:
        """The certificate. Raises NotConnected where the file holds none."""
        try:
            return x509.load_der_x509_certificate(self.certificate.read_bytes())
        except ValueError:
            raise NotConnected(
                f"our certificate {self.certificate} cannot be read: want DER; "
                f"move {self.certificate.parent} away for a new one"
            ) from None


def keep(folder: Path, application_uri: str, now_ns: int) -> OwnCertificate:
    """
    The certificate for this application URI in *folder*; made where there is none.

    One of ours for another URI is replaced, and the server must then trust the new one; the earlier pair stays beside
    it, named by its fingerprint. A key without a certificate is used for the new one. Raises NotConnected when the
    certificate has expired, cannot be read, or is not ours and names another URI or lacks its key; OSError when the
    folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = OwnCertificate(folder / "certificate.der", folder / "key.pem")
    now = datetime.fromtimestamp(now_ns / 1e9, UTC)
    if not files.certificate.exists():
        return _make(files, application_uri, now, _held_key(files.key))
    held = files.load()
    ours = made_here(held)
    if files.key.exists() and application_uri in uris(held):
        return OwnCertificate(files.certificate, files.key, _validity(files, held, now, ours=ours))
    fits = application_uri in uris(held)
    wrong = (
        "lacks its key"
        if fits
        else f"names {' and '.join(uris(held)) or 'no application URI'}, and this source is {application_uri}"
    )
    if not ours:
        remedy = (
            f"put its key there as {files.key.name}" if fits else "set `application_uri` to the URI of the certificate"
        )
        raise NotConnected(
            f"the certificate {files.certificate} {wrong}; it was not made by us, so it is not replaced: {remedy}, "
            f"or move {folder} away for a new one"
        )
    mark = held.fingerprint(hashes.SHA256()).hex()[:16]
    for path in (files.key, files.certificate):  # the certificate last: what a kill leaves behind is found again
        if path.exists():
            path.replace(path.with_stem(f"{path.stem}-{mark}"))
    remark = (
        f"our certificate is new, since the earlier one {wrong}; the server must trust the new one; the earlier one is "
        f"kept as certificate-{mark}.der, its key as key-{mark}.pem"
    )
    return _make(files, application_uri, now, None, remark)


def made_here(certificate: x509.Certificate) -> bool:
    """Whether :func:`keep` made this certificate: under our name, and signed by the key that it certifies."""
    if certificate.subject != _NAME or certificate.issuer != _NAME:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _validity(files: OwnCertificate, held: x509.Certificate, now: datetime, *, ours: bool) -> tuple[str, ...]:
    """What is to be said of the time in which a certificate is valid. Raises NotConnected where that is over."""
    until = held.not_valid_after_utc
    if now > until:
        remedy = (
            f"move {files.certificate.parent} away for a new one and let the server trust it"
            if ours
            else "put the renewed one and its key there"
        )
        raise NotConnected(f"our certificate {files.certificate} expired on {until:%Y-%m-%d}; {remedy}")
    return (f"our certificate expires on {until:%Y-%m-%d}",) if now > until - _SOON else ()


def _held_key(path: Path) -> rsa.RSAPrivateKey | None:
    """The key in a file, None where there is no file. Raises NotConnected where it holds no RSA key that we can use."""
    if not path.exists():
        return None
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise NotConnected(
            f"the key {path} has no certificate, and is no RSA key in PEM without a passphrase; "
            f"put its certificate beside it, or move it away for a new pair"
        )
    return key


def _make(
    files: OwnCertificate, application_uri: str, now: datetime, key: rsa.RSAPrivateKey | None, *remarks: str
) -> OwnCertificate:
    if key is None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        save(files.key, key.private_bytes(*form), 0o600)
    save(files.certificate, _self_signed(application_uri, now, key), 0o644)
    return OwnCertificate(files.certificate, files.key, remarks)


def _self_signed(application_uri: str, now: datetime, key: rsa.RSAPrivateKey) -> bytes:
    """A certificate for this key, DER."""
    host = socket.gethostname()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
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
    return certificate.public_bytes(serialization.Encoding.DER)


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
