"""Our certificate, and which server certificates are accepted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.opcua.pki import Pki
from adapters.opcua.trust import Peer
from schemas.errors import NotConnected

NOW = time.time_ns()
PEER = Peer("127.0.0.1", "urn:somebody")
YEAR_NS = 365 * 86_400 * 10**9


@pytest.fixture(scope="module")
def server_der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A certificate of somebody else, DER."""
    pki = Pki(tmp_path_factory.mktemp("server"))
    return pki.own_certificate("urn:somebody", NOW).certificate.read_bytes()


def test_the_own_certificate_is_made_once(tmp_path: Path) -> None:
    """It names the application URI, is kept, and is made anew for another URI; the key is for us alone."""
    pki = Pki(tmp_path)
    files = pki.own_certificate("urn:fairlead:cell", NOW)
    first = files.certificate.read_bytes()
    names = x509.load_der_x509_certificate(first).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:fairlead:cell"]
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert pki.own_certificate("urn:fairlead:cell", NOW).certificate.read_bytes() == first
    assert pki.own_certificate("urn:fairlead:other", NOW).certificate.read_bytes() != first
    with pytest.raises(NotConnected, match="expired"):
        pki.own_certificate("urn:fairlead:other", NOW + 11 * YEAR_NS)


def test_pem_and_der_are_read_and_what_is_neither_is_told(tmp_path: Path, server_der: bytes) -> None:
    """A trusted certificate may be DER or PEM; another file is no certificate and stops nothing."""
    pki = Pki(tmp_path)
    pki.own_certificate("urn:fairlead:cell", NOW)
    (pki.trusted / "note.txt").write_text("not a certificate")
    pem = x509.load_der_x509_certificate(server_der).public_bytes(Encoding.PEM)
    (pki.trusted / "server.pem").write_bytes(pem)
    pki.check_server(server_der, PEER, NOW)
    assert pki.unreadable() == [pki.trusted / "note.txt"]
    with pytest.raises(NotConnected, match="valid from"):
        pki.check_server(server_der, PEER, NOW + 11 * YEAR_NS)


@pytest.mark.parametrize("der", [None, b"", b"\x30\x82nonsense"])
def test_no_certificate_is_refused(tmp_path: Path, der: bytes | None) -> None:
    """A server without a readable certificate is not connected to."""
    with pytest.raises(NotConnected, match="certificate"):
        Pki(tmp_path).check_server(der, PEER, NOW)
