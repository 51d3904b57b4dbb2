"""Certificate authorities, server certificates and revocation lists as a plant may have them, right and wrong."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
URI = "urn:example:server"
_DAY = timedelta(days=1)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def put(self, folder: Path) -> Path:
        """Write the certificate into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.fingerprint[:12]}.der"
        path.write_bytes(self.der)
        return path

    def files(self, folder: Path, stem: str) -> tuple[Path, Path]:
        """Write (certificate DER, key PEM mode 0600)."""
        certificate, key = folder / f"{stem}.der", folder / f"{stem}.pem"
        certificate.write_bytes(self.der)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key.chmod(0o600)
        return certificate, key


def issue(
    common: str = "server",
    by: Issued | None = None,
    *,
    ca: bool = False,
    path_length: int | None = None,
    uri: str = URI,
    hosts: Sequence[str] = ("127.0.0.1", "plc1.example"),
    use: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,),
    may_sign: bool = True,
    bits: int = 2048,
    hashed: hashes.HashAlgorithm | None = None,
    since: datetime = NOW - 10 * _DAY,
    until: datetime = NOW + 365 * _DAY,
) -> Issued:
    """One certificate, self-signed without *by*."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common))
        .issuer_name(_name(common) if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        .add_extension(
            x509.KeyUsage(may_sign, False, True, True, False, ca, ca, False, False),
            critical=True,
        )
    )
    if not ca:
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
        for host in hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if use:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(use)), critical=False)
    signer = key if by is None else by.key
    return Issued(builder.sign(signer, hashed or hashes.SHA256()), key)


def revocation_list(
    by: Issued,
    *revoked: Issued,
    signed_by: Issued | None = None,
    until: datetime = NOW + 30 * _DAY,
) -> x509.CertificateRevocationList:
    """The list of an authority; *signed_by* somebody else makes it a forgery."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject)
        .last_update(NOW - 20 * _DAY)
        .next_update(until)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - _DAY).build())
    return builder.sign((signed_by or by).key, hashes.SHA256())


def put_list(crl: x509.CertificateRevocationList, folder: Path) -> None:
    """Write a revocation list into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list.crl").write_bytes(crl.public_bytes(Encoding.DER))
