"""Our certificate, and which server certificates are accepted."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from adapters.opcua.pki import Pki, fingerprint
from adapters.opcua.trust import Peer
from schemas.errors import NotConnected
from tests.adapters.opcua.authority import Issued, issue

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


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _of_the_site(own: Path, uri: str, *, until: datetime | None = None, name: str = "filler") -> Issued:
    """Put a pair that the site's authority issued into ``pki/own``."""
    now = datetime.fromtimestamp(NOW / 1e9, UTC)
    root = issue("plant root", ca=True, since=now - timedelta(days=5))
    pair = issue(name, root, uri=uri, since=now - timedelta(days=5), until=until or now + timedelta(days=365))
    own.mkdir(parents=True)
    certificate, key = pair.files(own, "site")
    certificate.rename(own / "certificate.der")
    key.rename(own / "key.pem")
    return pair


@pytest.mark.parametrize("name", ["filler", "Fairlead"])
def test_a_pair_of_the_site_is_never_replaced(tmp_path: Path, name: str) -> None:
    """It is used under its URI; under another it is refused with both URIs and the option, and nothing is touched."""
    pki = Pki(tmp_path)
    _of_the_site(pki.own, "urn:plant:filler", name=name)
    before = _content(pki.own)
    assert pki.own_certificate("urn:plant:filler", NOW).remarks == ()
    with pytest.raises(NotConnected, match=r"names urn:plant:filler, .*urn:fairlead:cell; .*`application_uri`"):
        pki.own_certificate("urn:fairlead:cell", NOW)
    assert _content(pki.own) == before
    (pki.own / "key.pem").unlink()
    with pytest.raises(NotConnected, match=r"lacks its key; .*put its key there as key\.pem"):
        pki.own_certificate("urn:plant:filler", NOW)
    assert (pki.own / "certificate.der").read_bytes() == before["certificate.der"]


def test_a_certificate_of_ours_that_is_replaced_stays_beside_the_new_one(tmp_path: Path) -> None:
    """No private key is lost, and the remark says where the earlier pair is; also after a kill half way."""
    pki = Pki(tmp_path)
    files = pki.own_certificate("urn:fairlead:cell", NOW)
    certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
    files.key.rename(pki.own / f"key-{fingerprint(files.load())[:16]}.pem")  # as a kill leaves it
    [remark] = pki.own_certificate("urn:fairlead:other", NOW).remarks
    assert "names urn:fairlead:cell, and this source is urn:fairlead:other" in remark
    kept = _content(pki.own)
    assert set(kept.values()) > {certificate, key}
    assert len(kept) == 4
    assert pki.own_certificate("urn:fairlead:other", NOW).remarks == ()


def test_a_key_without_a_certificate_is_used_and_not_overwritten(tmp_path: Path) -> None:
    """Its certificate may be under way; a key that cannot be used is refused."""
    pki = Pki(tmp_path)
    files = pki.own_certificate("urn:fairlead:cell", NOW)
    key = files.key.read_bytes()
    files.certificate.unlink()
    again = pki.own_certificate("urn:fairlead:cell", NOW).load()
    assert files.key.read_bytes() == key
    held = load_pem_private_key(key, None)
    assert again.public_key() == held.public_key()
    files.certificate.unlink()
    files.key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(NotConnected, match="has no certificate"):
        pki.own_certificate("urn:fairlead:cell", NOW)
    assert not files.certificate.exists()


def test_the_end_of_the_own_certificate_is_told_before_it_comes(tmp_path: Path) -> None:
    """A month before its end there is a remark; after it, one of the site is to be renewed by the site."""
    pki = Pki(tmp_path)
    until = datetime.fromtimestamp(NOW / 1e9, UTC) + timedelta(days=20)
    _of_the_site(pki.own, "urn:plant:filler", until=until)
    assert pki.own_certificate("urn:plant:filler", NOW).remarks == (f"our certificate expires on {until:%Y-%m-%d}",)
    with pytest.raises(NotConnected, match="put the renewed one"):
        pki.own_certificate("urn:plant:filler", NOW + YEAR_NS)


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
