"""Which certificates are believed: chain, revocation, time, strength, use and names, each with its refusal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from adapters.opcua.pki import Pki, fingerprint
from adapters.opcua.trust import Distrust, Lists, Peer, judge, split_chain
from schemas.errors import NotConnected, Refused
from tests.adapters.opcua.authority import NOW, URI, Issued, issue, put_list, revocation_list

PEER = Peer("127.0.0.1", URI)
ROOT = issue("root", ca=True)
SUB = issue("sub", ROOT, ca=True, path_length=0)
LEAF = issue("server", SUB)
CRLS = (revocation_list(ROOT), revocation_list(SUB))
NS = int(NOW.timestamp() * 1e9)


def _judge(leaf: Issued, *sent: Issued, lists: Lists, peer: Peer = PEER) -> list[str]:
    return judge([leaf.certificate, *(one.certificate for one in sent)], lists, peer, NOW)


def _lists(*trusted: Issued, issuers: tuple[Issued, ...] = (), crls: tuple = CRLS) -> Lists:
    return Lists([one.certificate for one in trusted], [one.certificate for one in issuers], crls)


def test_an_authority_speaks_for_what_it_issued() -> None:
    """Root or intermediate in trusted, the rest of the chain in issuers or sent by the server."""
    assert _judge(LEAF, lists=_lists(ROOT, issuers=(SUB,))) == []
    assert _judge(LEAF, SUB, lists=_lists(ROOT)) == []
    assert _judge(LEAF, SUB, lists=_lists(SUB, issuers=(ROOT,))) == []


@pytest.mark.parametrize(
    ("lists", "text", "unknown"),
    [
        (_lists(), "is not trusted", True),
        (_lists(issuers=(ROOT, SUB)), "is not trusted", True),
        (_lists(issue("root", ca=True), issuers=(SUB,)), "is not trusted", True),
        (_lists(SUB), "the chain ends at CN=root", False),
        (_lists(ROOT, issuers=(SUB,), crls=CRLS[:1]), "no revocation list of CN=sub", False),
        (_lists(ROOT, issuers=(SUB,), crls=CRLS[1:]), "no revocation list of CN=root", False),
        (_lists(ROOT, issuers=(SUB,), crls=(CRLS[0], revocation_list(SUB, LEAF))), "is revoked", False),
        (_lists(ROOT, issuers=(SUB,), crls=(revocation_list(ROOT, SUB), CRLS[1])), "is revoked: CN=sub", False),
        (_lists(ROOT, issuers=(SUB,), crls=(CRLS[0], revocation_list(SUB, until=NOW - timedelta(hours=1)))),
         "out of date", False),
        (_lists(ROOT, issuers=(SUB,), crls=(CRLS[0], revocation_list(SUB, signed_by=issue("sub", ca=True)))),
         "not signed by it", False),
    ],
    ids=["nothing", "issuers only", "another root of that name", "no root", "no list", "no list of the root", "revoked",
         "intermediate revoked", "old list", "forged list"],
)  # fmt: skip
def test_a_chain_that_does_not_hold_is_refused(lists: Lists, text: str, unknown: bool) -> None:
    """Each link, each revocation list; only what a person could accept counts as unknown."""
    with pytest.raises(Distrust, match=text) as refusal:
        _judge(LEAF, lists=lists)
    assert refusal.value.unknown is unknown


def test_a_forged_list_does_not_revoke() -> None:
    """A list that somebody else signed in the authority's name has no say over an accepted certificate."""
    forged = revocation_list(SUB, LEAF, signed_by=issue("sub", ca=True))
    remarks = _judge(LEAF, lists=_lists(LEAF, issuers=(SUB, ROOT), crls=(forged, CRLS[0])))
    assert remarks == ["the revocation list that names CN=sub is not signed by it; remove it from crl"]
    with pytest.raises(Distrust, match="is revoked"):
        _judge(LEAF, lists=_lists(LEAF, issuers=(SUB, ROOT), crls=(forged, revocation_list(SUB, LEAF))))


def test_issuers_must_be_allowed_to_issue() -> None:
    """A server's key is no authority, and a path length is kept."""
    fake = issue("fake", ROOT)
    with pytest.raises(Distrust, match="CN=fake, which may not issue"):
        _judge(issue("server", fake), fake, lists=_lists(ROOT))
    narrow = issue("narrow", ROOT, ca=True, path_length=0)
    below = issue("below", narrow, ca=True)
    with pytest.raises(Distrust, match="CN=narrow, which may not issue"):
        _judge(issue("server", below), below, narrow, lists=_lists(ROOT))


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        (issue(since=NOW - timedelta(days=9), until=NOW - timedelta(seconds=1)), "is not valid: .*clock"),
        (issue(since=NOW + timedelta(seconds=1)), "is not valid"),
        (issue(bits=1024), "no RSA key of 2048 bits"),
        (issue(hashed=hashes.SHA224()), "not signed with SHA-256"),
        (issue(use=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "without serverAuth"),
        (issue(may_sign=False), "without digitalSignature"),
        (issue(uri="urn:example:another"), "calls itself urn:example:server"),
        (issue(uri=""), "names no application"),
    ],
    ids=["expired", "not yet valid", "short key", "weak hash", "a client's", "may not sign", "another application",
         "no application"],
)  # fmt: skip
def test_an_accepted_certificate_is_still_checked(leaf: Issued, text: str) -> None:
    """Acceptance says who it is, not that it is good."""
    with pytest.raises(Distrust, match=text):
        _judge(leaf, lists=_lists(leaf))
    with pytest.raises(Distrust, match=text):
        _judge(leaf, lists=_lists(), peer=Peer("127.0.0.1", URI, leaf.fingerprint))


def test_a_host_that_does_not_fit_is_refused_or_remarked() -> None:
    """An authority's certificate must name the host; an accepted one may not, and a person is told."""
    elsewhere = Peer("10.0.0.9", URI)
    assert _judge(LEAF, SUB, lists=_lists(ROOT), peer=Peer("PLC1.example.", URI)) == []
    with pytest.raises(Distrust, match=r"names plc1\.example, 127\.0\.0\.1 and not 10\.0\.0\.9"):
        _judge(LEAF, SUB, lists=_lists(ROOT), peer=elsewhere)
    [remark] = _judge(issued := issue(), lists=_lists(issued), peer=elsewhere)
    assert "not 10.0.0.9" in remark


def test_a_pin_accepts_one_certificate_and_no_other() -> None:
    """Pinned it needs no folder; with a pin a trusted one is refused."""
    leaf = issue()
    assert _judge(leaf, lists=_lists(), peer=Peer("127.0.0.1", URI, leaf.fingerprint)) == []
    with pytest.raises(Distrust, match="not the one that `pin` names"):
        _judge(leaf, lists=_lists(leaf), peer=Peer("127.0.0.1", URI, LEAF.fingerprint))


def test_a_chain_is_split_as_it_was_sent() -> None:
    """Leaf first; rubbish behind it is an error, not ignored."""
    assert split_chain(LEAF.der + SUB.der) == [LEAF.certificate, SUB.certificate]
    for bad in (b"", b"\x30", LEAF.der + b"\0\0", LEAF.der[:-1], LEAF.der * 9):
        with pytest.raises(ValueError):  # noqa: PT011 - any text
            split_chain(bad)


def test_folders_accept_and_reject(tmp_path: Path) -> None:
    """What a server shows lies in rejected; a person moves it by fingerprint, and back."""
    pki = Pki(tmp_path, "filler")
    leaf = issue()
    with pytest.raises(NotConnected, match=rf"not trusted.*fairlead trust accept filler {leaf.fingerprint[:16]}"):
        pki.check_server(leaf.der, PEER, NS)
    [entry] = pki.entries()
    assert (entry.folder, entry.fingerprint) == ("rejected", leaf.fingerprint)
    colons = ":".join(leaf.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    pki.move(pki.find(f"sha256:{colons}", "rejected"), "trusted")
    assert pki.check_server(leaf.der, PEER, NS) == []
    pki.move(pki.find(leaf.fingerprint[:8], "trusted"), "rejected")
    with pytest.raises(NotConnected, match="not trusted"):
        pki.check_server(leaf.der, PEER, NS)
    for prefix, text in [("abc", "at least 8"), ("zz" * 8, "at least 8"), ("0" * 64, "no certificate in rejected")]:
        with pytest.raises(Refused, match=text):
            pki.find(prefix, "rejected")


def test_a_refusal_that_nobody_can_accept_offers_no_remedy(tmp_path: Path) -> None:
    """A revoked certificate is not put where a person could accept it."""
    pki = Pki(tmp_path)
    ROOT.put(pki.trusted)
    leaf = issue("server", ROOT)
    put_list(revocation_list(ROOT, leaf), pki.crl)
    (pki.crl / "note.txt").write_text("not a list")
    with pytest.raises(NotConnected, match="revoked") as refusal:
        pki.check_server(leaf.der, PEER, NS)
    assert "accept" not in str(refusal.value)
    assert [fingerprint(entry.certificate) for entry in pki.entries()] == [ROOT.fingerprint]
    assert pki.unreadable() == [pki.crl / "note.txt"]


def test_an_unknown_peer_cannot_fill_the_disk(tmp_path: Path) -> None:
    """At most fifty rejected certificates are kept."""
    pki = Pki(tmp_path)
    pki.rejected.mkdir(parents=True)
    for n in range(50):
        (pki.rejected / f"{n}.der").write_bytes(b"")
    with pytest.raises(NotConnected, match="not trusted"):
        pki.check_server(LEAF.der, PEER, NS)
    assert len(list(pki.rejected.iterdir())) == 50
