"""fairlead trust: a server's certificate is asked for, compared, accepted, and taken away again; every step is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from adapters.opcua import device
from adapters.opcua.device import Device, DeviceFile
from broker.store import Store, StoreOptions
from tests.adapters.opcua.authority import issue
from tests.secure_opcua import NAME, NAMESPACE, PASSWORD, secure_server
from tests.waiting import PATIENT_STORE

Fairlead = Callable[..., Any]
LEAF = issue("filler 01", since=datetime.now(UTC) - timedelta(days=1))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one secured OPC UA source; the server need not run."""
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.yaml").write_text(
        "version: 1\ndefaults: {source: filler}\ntags:\n"
        f"  - {{path: Acme/Lyon/A/Speed, address: 'nsu={NAMESPACE};s=Speed'}}\n",
        encoding="utf-8",
    )
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    return _write(tmp_path, 4840)


def _write(folder: Path, port: int) -> Path:
    path = folder / "fairlead.yaml"
    path.write_text(
        "version: 1\nsite: {path: Acme/Lyon}\nllm: {backend: none}\nsources:\n"
        f"  filler: {{kind: opcua, endpoint: 'opc.tcp://127.0.0.1:{port}/', "
        f"user: {{name: {NAME}, password: 'file:password'}}}}\n"
        "  plc1: {kind: modbus, host: 127.0.0.1, byte_order: CDAB, enabled: false}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def served(site: Path, tmp_path: Path) -> Iterator[Path]:
    """The site with its server running."""
    certificate, key = LEAF.files(tmp_path, "server")
    with secure_server(certificate, key) as server:
        yield _write(tmp_path, server.port)


def _audit(site: Path) -> list[tuple[str, str, str]]:
    store = Store.open(StoreOptions.model_validate(PATIENT_STORE), site.parent / "var", write=False)
    try:
        return [(row.action, row.object_id, row.actor) for row in store.reader().audit(before=None, limit=10)]
    finally:
        store.close()


def test_a_server_is_accepted_by_its_fingerprint(fairlead: Fairlead, served: Path) -> None:
    """Check --connect keeps what the server showed and names the command; after it the same check reads a value."""
    at = ("-c", str(served))
    first = fairlead("check", "--connect", *at)
    assert first.code == 69
    assert f"fairlead trust accept filler {LEAF.fingerprint[:16]}" in " ".join(first.out.split())
    [row] = json.loads(fairlead("trust", "list", "filler", *at, "-o", "json").out)
    assert (row["folder"], row["name"], row["fingerprint"]) == ("rejected", "filler 01", LEAF.fingerprint)
    assert row["verdict"] == "is not trusted"
    accepted = fairlead("trust", "accept", "filler", LEAF.fingerprint[:16], *at, "-o", "json")
    assert (accepted.code, json.loads(accepted.out)["folder"]) == (0, "trusted")
    [row] = json.loads(fairlead("trust", "list", "filler", *at, "-o", "json").out)
    assert (row["folder"], row["verdict"]) == ("trusted", "accepted")
    second = fairlead("check", "--connect", *at)
    assert second.code == 0
    assert "Speed = 1500.0" in second.out
    assert fairlead("trust", "reject", "filler", LEAF.fingerprint, *at).code == 0
    assert fairlead("check", "--connect", *at).code == 69
    assert _audit(served) == [
        ("certificate_rejected", "filler", "command line"),
        ("certificate_accepted", "filler", "command line"),
    ]


def test_another_device_is_shown_and_accepted(fairlead: Fairlead, served: Path) -> None:
    """Check --connect refuses it and names the command, which shows both, accepts it and notes who did."""
    at, folder = ("-c", str(served)), served.parent / "var" / "sources" / "filler"
    LEAF.put(folder / "pki" / "trusted")
    assert fairlead("trust", "device", "filler", *at).err.startswith("filler was not connected yet")
    assert fairlead("check", "--connect", *at).code == 0
    assert not (folder / device.NAME).exists()  # only the broker's own connections make a device known
    endpoint = served.read_text(encoding="utf-8").split("endpoint: '")[1].split("'")[0]
    device.keep(folder, DeviceFile(endpoint, Device(application_uri="urn:old")))
    refused = fairlead("check", "--connect", *at)
    assert refused.code == 69
    text = " ".join(refused.out.split())
    assert "application was urn:old and is urn:" in text
    assert "fairlead trust device filler --accept" in text
    rows = json.loads(fairlead("trust", "device", "filler", *at, "-o", "json").out)
    assert [row["what"] for row in rows] == ["known", "met, not read"]
    accepted = fairlead("trust", "device", "filler", "--accept", *at)
    assert accepted.code == 0
    assert "before: application urn:old" in accepted.out
    assert fairlead("check", "--connect", *at).code == 0
    again = fairlead("trust", "device", "filler", "--accept", *at)
    assert (again.code, "no other device" in again.err) == (1, True)
    assert _audit(served) == [("device_accepted", "filler", "command line")]


def test_discover_shows_what_is_offered_and_judges_it(fairlead: Fairlead, served: Path) -> None:
    """Security, users and fingerprint of each endpoint; the verdict follows what the source accepts."""
    port = served.read_text(encoding="utf-8").split("127.0.0.1:")[1].split("/")[0]
    url = f"opc.tcp://127.0.0.1:{port}/"
    found = json.loads(fairlead("discover", url, "-o", "json").out)
    [one] = found["endpoints"]
    assert (one["security"], one["users"]) == (
        "Basic256Sha256/SignAndEncrypt",
        ["name and password", "user certificate"],
    )
    assert (one["fingerprint"], one["verdict"]) == (LEAF.fingerprint, "usable once its certificate is accepted")
    assert found["servers"][0]["application_uri"] == "urn:example:server"
    LEAF.put(served.parent / "var" / "sources" / "filler" / "pki" / "trusted")
    said = fairlead("discover", url, "--source", "filler", "-c", str(served))
    assert said.code == 0
    assert LEAF.fingerprint[:16] in said.out
    assert "usable " in said.out + " "
    assert "once" not in said.out


@pytest.mark.parametrize(
    ("url", "code", "text"),
    [
        ("opc.tcp://127.0.0.1:9/", 69, "TCP to 127.0.0.1:9: refused: nothing listens there"),
        ("opc.tcp://plc.invalid/", 69, "resolving plc.invalid"),
        ("http://127.0.0.1/", 2, "want opc.tcp://"),
        ("opc.tcp://me:secret@127.0.0.1/", 2, "without a user"),
    ],
)
def test_discover_says_what_failed(fairlead: Fairlead, url: str, code: int, text: str) -> None:
    """The step and the remedy; a password in an address is not repeated."""
    said = fairlead("discover", url)
    assert said.code == code
    assert text in " ".join(said.err.replace("│", " ").split())
    assert "secret" not in said.err


def test_nothing_is_accepted_that_cannot_be_noted(fairlead: Fairlead, site: Path) -> None:
    """While another process holds the store, the command says so and moves nothing."""
    pki = site.parent / "var" / "sources" / "filler" / "pki"
    LEAF.put(pki / "rejected")
    store = Store.open(StoreOptions.model_validate(PATIENT_STORE), site.parent / "var", write=True)
    try:
        said = fairlead("trust", "accept", "filler", LEAF.fingerprint, "-c", str(site))
    finally:
        store.close()
    assert said.code == 75
    assert len(list((pki / "rejected").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("accept", "filler", "00000000"), 1, "no certificate in rejected of filler"),
        (("accept", "filler", "00"), 1, "at least 8 hex digits"),
        (("list", "plc1"), 2, "no OPC UA source 'plc1'"),
        (("own", "nowhere"), 2, "there are: filler"),
    ],
)
def test_what_cannot_be_done_is_told(fairlead: Fairlead, site: Path, arguments: Any, code: int, text: str) -> None:
    """A wrong fingerprint is refused, a wrong source is a wrong call."""
    said = fairlead("trust", *arguments, "-c", str(site))
    assert said.code == code
    assert text in " ".join(said.err.replace("│", " ").split())


def test_our_own_certificate_is_shown_and_exported(fairlead: Fairlead, site: Path, tmp_path: Path) -> None:
    """It names the application URI; what is exported is the very certificate, and it stays the same."""
    for name, load in (("own.pem", x509.load_pem_x509_certificate), ("own.der", x509.load_der_x509_certificate)):
        said = fairlead("trust", "own", "filler", "--export", str(tmp_path / name), "-c", str(site), "-o", "json")
        shown = json.loads(said.out)
        assert shown["application_uri"] == "urn:fairlead:filler"
        exported = load((tmp_path / name).read_bytes())
        assert shown["fingerprint"] == f"sha256:{exported.fingerprint(hashes.SHA256()).hex()}"
    assert "urn:fairlead:filler" in fairlead("trust", "own", "filler", "-c", str(site)).out
    assert fairlead("trust", "list", "filler", "-c", str(site)).err.startswith("no certificate is known to filler")


def test_a_certificate_for_another_name_is_made_anew_and_the_earlier_kept(
    fairlead: Fairlead, site: Path, served: Path
) -> None:
    """A new application URI: what is new, and where the earlier pair is, stands in the error of the connection."""
    fairlead("trust", "own", "filler", "-c", str(site))
    served.write_text(served.read_text().replace("kind: opcua,", "kind: opcua, application_uri: 'urn:plant:edge1',"))
    said = fairlead("check", "--connect", "-c", str(served))
    text = " ".join(said.out.split())
    assert "names urn:fairlead:filler, and this source is urn:plant:edge1" in text
    assert "its key as key-" in text


def test_a_certificate_of_the_site_is_left_alone(fairlead: Fairlead, site: Path, served: Path) -> None:
    """One for another URI than the source's is refused with both, by every command, and stays as it is."""
    own = Path(json.loads(fairlead("trust", "own", "filler", "-c", str(site), "-o", "json").out)["file"])
    pair = issue("edge 1", issue("plant root", ca=True), uri="urn:plant:edge1")
    certificate, key = pair.files(own.parent, "site")
    certificate.replace(own)
    key.replace(own.with_name("key.pem"))
    before = {path: path.read_bytes() for path in own.parent.iterdir()}
    said = fairlead("trust", "own", "filler", "-c", str(served))
    assert said.code == 69
    assert "names urn:plant:edge1, and this source is urn:fairlead:filler" in said.err
    checked = fairlead("check", "--connect", "-c", str(served), "-o", "json")
    assert checked.code == 69
    assert "application_uri" in checked.out
    assert str(own) in checked.out
    assert {path: path.read_bytes() for path in own.parent.iterdir()} == before
