"""A secured server: chains, users by name and by certificate, and the step at which each refusal happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.opcua import OpcUaAdapter
from adapters.opcua.pki import Pki
from schemas.errors import NotConnected
from tests.adapters.opcua.authority import Issued, issue, put_list, revocation_list
from tests.secure_opcua import NAME, NAMESPACE, PASSWORD, URI, SecureOpcUa, secure_server

SINCE = datetime.now(UTC) - timedelta(days=1)
ROOT = issue("plant root", ca=True, since=SINCE)
LEAF = issue("filler", ROOT, since=SINCE)
USER = issue("fairlead reader", uri="", hosts=(), since=SINCE)
STRANGER = issue("somebody", uri="", hosts=(), since=SINCE)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureOpcUa]:
    """A server whose certificate the plant's authority issued; it knows one user by certificate."""
    certificate, key = LEAF.files(tmp_path_factory.mktemp("server"), "server")
    with secure_server(certificate, key, users=[USER.certificate]) as server:
        yield server


@pytest.fixture
def make(secured: SecureOpcUa, make_adapter: Any, make_tags: Any, tmp_path: Path) -> Callable[..., OpcUaAdapter]:
    """An adapter of the secured server that trusts the authority: ``make(user={...}, ...)``."""
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    for one, stem in ((USER, "user"), (STRANGER, "stranger")):
        one.files(tmp_path, stem)
    pki = Pki(tmp_path / "state" / "pki")
    ROOT.put(pki.trusted)
    put_list(revocation_list(ROOT, until=datetime.now(UTC) + timedelta(days=1)), pki.crl)

    def build(**options: Any) -> OpcUaAdapter:
        options.setdefault("user", {"name": NAME, "password": "file:password"})
        tags = make_tags("Speed", uri=NAMESPACE)
        adapter: OpcUaAdapter = make_adapter(
            secured.endpoint, tags, security="Basic256Sha256/SignAndEncrypt", **options
        )
        return adapter

    return build


@pytest.mark.parametrize(
    "user",
    [{"name": NAME, "password": "file:password"}, {"cert": "user.der", "key": "file:user.pem"}],
    ids=["name", "certificate"],
)
async def test_a_user_reads_over_a_channel_that_an_authority_vouches_for(make, take, user) -> None:
    """The chain is believed without a person having seen the leaf, and both kinds of user are let in."""
    adapter = make(user=user)
    await adapter.connect()
    taken = await take(adapter, lambda t: bool(t.values(0)))
    assert taken.values(0) == [1500.0]
    assert adapter.facts["certificate"] == "no remarks"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"user": {"name": "nobody", "password": "file:password"}}, r"user: BadUserAccessDenied: check user\.name"),
        ({"user": {"cert": "stranger.der", "key": "file:stranger.pem"}}, "user: BadUserAccessDenied"),
        ({"user": {"cert": "user.der", "key": "file:stranger.pem"}}, "user: .*is not the key of"),
        ({"user": {"cert": "password", "key": "file:user.pem"}}, "user: .*no certificate in"),
        ({"user": {"cert": "user.der", "key": "file:password"}}, "user: .*no private key"),
        ({"user": {"cert": "user.der", "key": "file:nowhere"}}, "user: .*cannot be read"),
        ({"user": None}, "endpoints: the endpoint takes no anonymous user; it takes name and password, user cert"),
        ({"pin": f"sha256:{ROOT.fingerprint}"}, "server certificate: .*not the one that `pin` names"),
    ],
    ids=["unknown name", "unknown certificate", "foreign key", "no certificate", "no key", "no file", "anonymous",
         "another pin"],
)  # fmt: skip
async def test_each_refusal_names_its_step(make, options, text) -> None:
    """What is wrong is told with the step and what to change, and no secret."""
    with pytest.raises(NotConnected, match=text) as refusal:
        await make(**options).connect()
    assert PASSWORD not in str(refusal.value)


async def test_a_revoked_server_is_not_connected_to(make, tmp_path) -> None:
    """The authority's new list ends it at the next connection."""
    put_list(
        revocation_list(ROOT, LEAF, until=datetime.now(UTC) + timedelta(days=1)), tmp_path / "state" / "pki" / "crl"
    )
    with pytest.raises(NotConnected, match=r"server certificate: .*is revoked"):
        await make().connect()


async def test_a_server_that_lies_about_its_name_is_refused(make, tmp_path, make_adapter, make_tags, take) -> None:
    """A valid certificate of the plant for another application is not that of this server."""
    other: Issued = issue("another", ROOT, uri="urn:example:another", since=SINCE)
    certificate, key = other.files(tmp_path, "other")
    make()
    with secure_server(certificate, key) as server:
        adapter = make_adapter(
            server.endpoint,
            make_tags("Speed", uri=NAMESPACE),
            security="Basic256Sha256/SignAndEncrypt",
            user={"name": NAME, "password": "file:password"},
        )
        with pytest.raises(NotConnected, match=f"server certificate: .*calls itself {URI}"):
            await adapter.connect()
