"""
Whether a server's certificate is to be believed: chain, revocation, time, strength, use and names.

The library's own validator accepts unknown certificates and compares revocation lists by number only (A13), so the
judging is ours. Source: OPC UA Part 4, 6.1.3 and table 100, RFC 5280.

A person accepts a server in one of three ways: its very certificate lies in ``trusted``, the configuration pins its
fingerprint, or an authority that issued it lies in ``trusted``. The first two name one key, so that a host name that
does not fit, or an authority whose revocation list is missing, is a remark. An authority speaks for every certificate
it issues, so there both are reasons to refuse.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from adapters.opcua.own_certificate import uris

_KEY_BITS: Final = 2048
_STRONG: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_LONGEST_CHAIN: Final = 8
#: What reading an extension or a signature of a strange certificate may raise.
_STRANGE: Final = (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm)


class Distrust(Exception):
    """Why a certificate is refused; ``unknown``: for no other reason than that nobody has accepted it."""

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class Peer:
    """
    Who the server should be.

    ``host`` is that of the configured endpoint, ``application_uri`` what the server calls itself (empty: not known),
    ``pin`` the SHA-256 of its certificate in hex (empty: none).
    """

    host: str
    application_uri: str = ""
    pin: str = ""


@dataclass(frozen=True, slots=True)
class Lists:
    """Certificates and revocation lists of the folders."""

    trusted: Sequence[x509.Certificate] = ()
    issuers: Sequence[x509.Certificate] = ()
    crls: Sequence[x509.CertificateRevocationList] = ()


def split_chain(ders: bytes) -> list[x509.Certificate]:
    """The certificates of a DER sequence, leaf first. Raises ValueError, also when there is none."""
    chain: list[x509.Certificate] = []
    rest = ders
    while rest:
        size = _der_size(rest)
        chain.append(x509.load_der_x509_certificate(rest[:size]))
        rest = rest[size:]
        if len(chain) > _LONGEST_CHAIN:
            raise ValueError(f"more than {_LONGEST_CHAIN} certificates in a chain")
    if not chain:
        raise ValueError("there is none")
    return chain


def _der_size(der: bytes) -> int:
    """Bytes of the first DER element."""
    if len(der) < 2 or der[1] < 0x80:
        return 2 + (der[1] if len(der) > 1 else 0)
    octets = der[1] & 0x7F
    return 2 + octets + int.from_bytes(der[2 : 2 + octets], "big")


def judge(chain: Sequence[x509.Certificate], lists: Lists, peer: Peer, now: datetime) -> list[str]:
    """
    Believe the first certificate of *chain*, which the server sent, or raise :class:`Distrust`.

    Returns remarks: what is not as it should be, and no reason to refuse.
    """
    leaf = chain[0]
    own = leaf.fingerprint(hashes.SHA256()).hex()
    if peer.pin and own != peer.pin:
        raise Distrust(f"is not the one that `pin` names (sha256:{peer.pin})")
    accepted = bool(peer.pin) or leaf in lists.trusted
    path = _path(leaf, [*lists.trusted, *lists.issuers, *chain[1:]])
    if not accepted:
        _check_anchor(path, lists)
    for one in path if not accepted else [leaf]:
        _check_time(one, now)
        _check_strength(one)
    _check_use(leaf)
    _check_uri(leaf, peer.application_uri)
    remarks = _check_revocation(path, lists.crls, now, accepted=accepted)
    named = _hosts(leaf)
    if not _fits(peer.host, named):
        text = f"names {', '.join(named) or 'no host'} and not {peer.host}"
        if not accepted:
            raise Distrust(f"{text}; use one of its names in `endpoint`, or accept this very certificate")
        remarks.append(f"the server's certificate {text}")
    return remarks


def _path(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The leaf and its issuers as far as they are known, each signed by the next."""
    path = [leaf]
    while not _issued(path[-1], path[-1]) and len(path) <= _LONGEST_CHAIN:
        issuer = next((one for one in pool if one not in path and _issued(one, path[-1])), None)
        if issuer is None:
            break
        path.append(issuer)
    return path


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    if issuer.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except _STRANGE:
        return False
    return True


def _check_anchor(path: Sequence[x509.Certificate], lists: Lists) -> None:
    """An authority above the leaf must be trusted, and the chain must end in a root that a person put there."""
    anchors = [depth for depth, one in enumerate(path) if depth and one in lists.trusted]
    if not anchors:
        raise Distrust("is not trusted", unknown=True)
    root = path[-1]
    if not _issued(root, root) or (root not in lists.trusted and root not in lists.issuers):
        raise Distrust(
            f"is issued by a trusted authority, but the chain ends at {root.issuer.rfc4514_string()}; put the "
            "certificates above it into issuers"
        )
    for depth, one in enumerate(path[1:]):
        _check_authority(one, depth)


def is_authority(one: x509.Certificate) -> bool:
    """Whether a certificate says that it may issue others."""
    try:
        return bool(one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _check_authority(one: x509.Certificate, below: int) -> None:
    name = one.subject.rfc4514_string()
    try:
        basic = one.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        raise Distrust(f"is issued by {name}, which is no authority (no basic constraints)") from None
    if not basic.ca or (basic.path_length is not None and basic.path_length < below):
        raise Distrust(f"is issued by {name}, which may not issue it (basic constraints)")
    usage = _key_usage(one)
    if usage is not None and not usage.key_cert_sign:
        raise Distrust(f"is issued by {name}, whose key may not sign certificates (key usage)")


def _check_time(one: x509.Certificate, now: datetime) -> None:
    if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
        raise Distrust(
            f"is not valid: {one.subject.rfc4514_string()} is valid from {one.not_valid_before_utc:%Y-%m-%d %H:%M} to "
            f"{one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it, or correct this machine's clock"
        )


def _check_strength(one: x509.Certificate) -> None:
    name = one.subject.rfc4514_string()
    try:
        public = one.public_key()
    except _STRANGE:
        public = None
    if not isinstance(public, rsa.RSAPublicKey) or public.key_size < _KEY_BITS:
        raise Distrust(f"is too weak: {name} has no RSA key of {_KEY_BITS} bits or more")
    try:
        strong = isinstance(one.signature_hash_algorithm, _STRONG)
    except UnsupportedAlgorithm:
        strong = False
    if not strong:
        raise Distrust(f"is too weak: {name} is not signed with SHA-256 or better; renew it")


def _check_use(leaf: x509.Certificate) -> None:
    usage = _key_usage(leaf)
    if usage is not None and not usage.digital_signature:
        raise Distrust("may not sign (key usage without digitalSignature)")
    try:
        extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return  # RFC 5280, 4.2.1.12: any use
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(extended):
        raise Distrust("is not that of a server (extended key usage without serverAuth)")


def _key_usage(one: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return one.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    except ValueError as error:
        raise Distrust(f"has extensions that cannot be read: {error}") from None


def _check_uri(leaf: x509.Certificate, application_uri: str) -> None:
    if application_uri and application_uri not in uris(leaf):
        raise Distrust(
            f"names {', '.join(uris(leaf)) or 'no application'}, and the server calls itself {application_uri}; give "
            "the server a certificate for its own URI"
        )


def _check_revocation(
    path: Sequence[x509.Certificate], crls: Sequence[x509.CertificateRevocationList], now: datetime, *, accepted: bool
) -> list[str]:
    """Ask the list of each issuer for what it issued. Returns remarks on lists that are missing or old."""
    remarks = []
    for one, issuer in pairwise(path):
        name = issuer.subject.rfc4514_string()
        usage = _key_usage(issuer)
        named = [crl for crl in crls if crl.issuer == issuer.subject]
        signed = [crl for crl in named if _signed(crl, issuer) and (usage is None or usage.crl_sign)]
        if any(crl.get_revoked_certificate_by_serial_number(one.serial_number) is not None for crl in signed):
            raise Distrust(f"is revoked: {one.subject.rfc4514_string()} stands in the list of {name}")
        ends = [crl.next_update_utc for crl in signed]
        if any(end is None or end >= now for end in ends):
            continue
        if signed:
            text = f"the revocation list of {name} is out of date; put its newest list into crl"
        elif named:
            text = f"the revocation list that names {name} is not signed by it; remove it from crl"
        else:
            text = f"there is no revocation list of {name}; put it into crl"
        if not accepted:
            raise Distrust(f"cannot be checked: {text}")
        remarks.append(text)
    return remarks


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # other kinds raise TypeError
    except _STRANGE:
        return False


def _hosts(leaf: x509.Certificate) -> list[str]:
    """Host names and addresses of a certificate."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]


def _fits(host: str, named: Sequence[str]) -> bool:
    """Whether one of the names is *host*; no wildcards, addresses by value."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") in {name.lower().rstrip(".") for name in named}
    return str(address) in named
