"""Deciding on a server's certificate or device through the API: done, in the audit chain, refused for other sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.opcua import device
from adapters.opcua.device import Device, DeviceFile
from tests.adapters.opcua.authority import issue
from tests.broker.api.core import Core, running_core

LEAF = issue("filler 01")
ADDRESS = "/api/v1/sources/filler/trust"


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A core whose configuration has an OPC UA source; the server has shown its certificate."""
    more = "  filler: {kind: opcua, endpoint: 'opc.tcp://127.0.0.1:4840/'}\n"
    with running_core(tmp_path, sources=more) as core:
        LEAF.put(core.services.config.state_dir("filler") / "pki" / "rejected")
        yield core


def test_a_decision_moves_the_certificate_and_is_audited(core: Core) -> None:
    """Accepted, then rejected again; the chain names who decided, on what."""
    pki = core.services.config.state_dir("filler") / "pki"
    client = core.as_role("integrator", name="i.kaya")
    for decision, folder in (("accept", "trusted"), ("reject", "rejected")):
        answer = client.post(ADDRESS, json={"fingerprint": LEAF.fingerprint[:16], "decision": decision})
        assert (answer.status_code, answer.json()["folder"]) == (200, folder)
        assert [path.parent.name for path in pki.glob("*/*.der")] == [folder]
    rows = core.as_role("auditor").get("/api/v1/audit").json()["audit"]
    assert [(row["actor"], row["action"], row["object_id"]) for row in rows] == [
        ("i.kaya", "certificate_rejected", "filler"),
        ("i.kaya", "certificate_accepted", "filler"),
    ]
    assert LEAF.fingerprint in str(rows[0]["detail"])


@pytest.mark.parametrize(
    ("address", "fingerprint", "text"),
    [
        (ADDRESS, "00000000", "no certificate in rejected"),
        (ADDRESS, "../../x", "hex digits"),
        ("/api/v1/sources/pumps/trust", LEAF.fingerprint, "no OPC UA source 'pumps'"),
    ],
)
def test_what_cannot_be_decided_is_refused(core: Core, address: str, fingerprint: str, text: str) -> None:
    """409 with the reason, and no entry in the chain."""
    answer = core.as_role("admin").post(address, json={"fingerprint": fingerprint, "decision": "accept"})
    assert answer.status_code == 409
    assert text in answer.json()["detail"]
    assert core.as_role("auditor").get("/api/v1/audit").json()["audit"] == []


def test_another_device_is_accepted_as_it_was_shown(core: Core) -> None:
    """The device met becomes the known one, with who decided in the chain; one that was met since is refused."""
    folder, endpoint = core.services.config.state_dir("filler"), "opc.tcp://127.0.0.1:4840/"
    client, address = core.as_role("integrator", name="i.kaya"), "/api/v1/sources/filler/device"
    assert "no other device" in client.post(address, json={"device": "product X2"}).json()["detail"]
    device.keep(folder, DeviceFile(endpoint, Device(product="X1"), Device(product="X3")))
    answer = client.post(address, json={"device": "product X2"})
    assert (answer.status_code, answer.json()["detail"]) == (409, "filler has met another device since: product X3")
    answer = client.post(address, json={"device": "product X3"})
    assert (answer.status_code, answer.json()["before"]) == (200, "product X1")
    assert device.recall(folder, endpoint) == DeviceFile(endpoint, Device(product="X3"))
    [row] = core.as_role("auditor").get("/api/v1/audit").json()["audit"]
    assert (row["actor"], row["action"], row["object_id"]) == ("i.kaya", "device_accepted", "filler")
    assert "product X3" in str(row["detail"])
