"""Another device behind the address gives no value until a person accepts it; another firmware is noted (W22)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from asyncua import ua

from adapters.opcua import device
from adapters.opcua.device import Device, DeviceFile
from broker import tagmap
from broker.cli.connect import probe_all
from broker.config import load_config
from schemas.errors import NotConnected, OtherDevice
from tests import scripted_opcua
from tests.opcua_relay import Relay

PEER: Final = Path(__file__).resolve().parents[2] / "identity_peer.js"
URI: Final = "urn:example:identity"
SERIAL: Final = f"nsu={URI};s=Serial"
FIRST: Final = {"application": "urn:plc:1", "product": "X1", "version": "1.0", "serial": "4711", "first": 0}
#: The other device counts from here, so that its values are known from those of the first.
ELSEWHERE: Final = 1_000_000

Serve = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def serve(peer_folder: Path, need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """One device after another behind the address of this test, each with its changes of :data:`FIRST`."""
    port, pki = scripted_opcua.free_port(), tmp_path_factory.mktemp("pki")

    @asynccontextmanager
    async def one(**changes: Any) -> AsyncIterator[str]:
        identity = json.dumps({**FIRST, **changes})
        async with scripted_opcua.serving(need("node"), PEER, peer_folder, pki, port, IDENTITY=identity) as (
            endpoint,
            _,
        ):
            yield endpoint

    return one


async def _values(adapter: Any, take: Any) -> list[float]:
    taken = await take(adapter, lambda t: len(t.values(0)) >= 3)
    values: list[float] = taken.values(0)
    return values


@pytest.mark.parametrize("read", ["subscribe", "cyclic"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"application": "urn:plc:2"}, "application was urn:plc:1 and is urn:plc:2"),
        ({"product": "X2"}, "product URI was urn:X1 and is urn:X2; product was X1 and is X2"),
        ({"serial": "4712"}, "serial number was 4711 and is 4712"),
    ],
)
async def test_a_swapped_device_is_not_read(
    serve: Serve, make_tags, make_adapter, take, tmp_path: Path, change: dict[str, str], told: str, read: str
) -> None:
    """Over a reconnect and over a restart; the first one back is read on, and the other one once it is accepted."""
    state, tags = tmp_path / "state", make_tags("N", uri=URI)
    async with serve() as endpoint:

        def adapter_() -> Any:
            return make_adapter(endpoint, tags, serial_number=SERIAL, read=read)

        first = adapter_()
        await first.connect()
        assert max(await _values(first, take)) < ELSEWHERE
        assert first.facts["device"] == (
            "application urn:plc:1, product URI urn:X1, manufacturer Acme, product X1, serial number 4711, "
            "software 1.0, build 1"
        )
    with pytest.raises(NotConnected):
        await take(first, lambda _: False)
    async with serve(**change, first=ELSEWHERE):
        for again in (first, adapter_()):
            with pytest.raises(OtherDevice, match=told) as refused:
                await again.connect()
            assert "fairlead trust device cell --accept" in str(refused.value)
            assert again.counters["identity_mismatches"] == 1
            assert again.facts["device"].startswith("refused: ")
            with pytest.raises(NotConnected):
                await again.read()
    async with serve():
        await first.connect()
        assert max(await _values(first, take)) < ELSEWHERE
        assert device.recall(state, endpoint).met is None
        await first.close()
    async with serve(**change, first=ELSEWHERE):
        with pytest.raises(OtherDevice):
            await first.connect()
        device.keep(state, device.accept(device.recall(state, endpoint)))
        await first.connect()
        assert min(await _values(first, take)) >= ELSEWHERE


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_check_does_not_undo_an_acceptance(serve: Serve, tmp_path: Path, accepted: bool) -> None:
    """
    What ``fairlead check --connect`` met is kept beside the known device; not where a person accepted it meanwhile.

    The relay is what comes between the copy that the check works on and its end.
    """
    state = tmp_path / "var" / "sources" / "cell"
    known, other = Device(product="X0", manufacturer="Acme"), Device(product="X1", manufacturer="Acme")

    class Meanwhile(Relay):
        def request(self, chunk: bytes) -> bytes:
            if accepted and (kept := device.recall(state, self.endpoint)).met is not None:
                device.keep(state, device.accept(kept))
            return chunk

    async with serve() as endpoint, Meanwhile(endpoint) as relay:
        (tmp_path / "map.yaml").write_text(
            "version: 1\ndefaults: {source: cell}\ntags:\n"
            f"  - {{path: Acme/Lyon/A/N, address: 'nsu={URI};s=N', type: float64, unit: '1'}}\n"
        )
        (tmp_path / "fairlead.yaml").write_text(
            "version: 1\nsite: {path: Acme/Lyon}\nllm: {backend: none}\ntag_maps: [map.yaml]\n"
            f"sources:\n  cell: {{kind: opcua, endpoint: '{relay.endpoint}', security: None}}\n"
        )
        config = load_config(tmp_path / "fairlead.yaml", {})
        state.mkdir(parents=True)
        device.keep(state, DeviceFile(relay.endpoint, known, other if accepted else None, firmware="of before"))
        [row], code = await asyncio.to_thread(probe_all, config, tagmap.load(config), 60)
        assert (code, row["result"]) == (69, "failed: connect")
        kept = device.recall(state, relay.endpoint)
    if accepted:
        assert (kept.known, kept.met) == (other, None)
    else:
        assert (kept.known, kept.firmware) == (known, "of before")
        assert kept.met is not None
        assert kept.met.serial == ""
        assert kept.met.product == "X1"


async def test_another_firmware_is_noted_and_read(serve: Serve, make_tags, make_adapter, take) -> None:
    """Counted once, told from then on, over restarts, too."""
    tags = make_tags("N", uri=URI)
    async with serve() as endpoint:
        adapter = make_adapter(endpoint, tags)
        await adapter.connect()
    async with serve(version="1.1", first=ELSEWHERE):
        await adapter.connect()
        assert min(await _values(adapter, take)) >= ELSEWHERE
        assert adapter.counters["firmware_changes"] == 1
        assert adapter.counters["identity_mismatches"] == 0
        again = make_adapter(endpoint, tags)
        await again.connect()
        assert again.counters["firmware_changes"] == 0
        assert again.facts["device"].endswith("software 1.1, build 1 (last change: software was 1.0 and is 1.1)")


async def test_ignoring_reads_any_device(serve: Serve, make_tags, make_adapter, take, tmp_path: Path) -> None:
    """Without the check the other device's values come under the first one's tag (negative control)."""
    async with serve() as endpoint:
        adapter = make_adapter(endpoint, make_tags("N", uri=URI), identity="ignore")
        await adapter.connect()
        assert max(await _values(adapter, take)) < ELSEWHERE
    async with serve(product="X2", first=ELSEWHERE):
        await adapter.connect()
        assert min(await _values(adapter, take)) >= ELSEWHERE
    assert not (tmp_path / "state" / device.NAME).exists()


async def test_a_device_that_says_less_is_not_read(serve: Serve, make_tags, make_adapter, take) -> None:
    """A serial number that is not there any more is no sign of the same device, and none of another one."""
    async with serve() as endpoint:
        adapter = make_adapter(endpoint, make_tags("N", uri=URI), serial_number=SERIAL)
        await adapter.connect()
    async with serve(serial=""):
        with pytest.raises(NotConnected, match="does not say its serial number") as refused:
            await adapter.connect()
        assert not isinstance(refused.value, OtherDevice)
    async with serve():
        await adapter.connect()
        assert await _values(adapter, take)


async def test_a_damaged_file_stops_the_source(server, make_tags, make_adapter, take, tmp_path: Path) -> None:
    """It says which file; one that cannot be written costs nothing but its count."""
    path = tmp_path / "state" / device.NAME
    path.write_text("{torn")
    adapter = make_adapter(server.endpoint, make_tags("N"))
    with pytest.raises(NotConnected, match=r"device\.json: which device is known cannot be read"):
        await adapter.connect()
    path.unlink()
    path.with_suffix(".part").mkdir()
    await adapter.connect()
    assert await _values(adapter, take)
    assert adapter.counters["state_unsaved"] >= 1


def test_what_is_not_said_tells_nothing() -> None:
    """Only fields that both devices say are compared; what comes to be said is learnt."""
    known, now = Device(product="X1", serial="1"), Device(product="X1", application_uri="urn:a")
    assert not now.against(known)
    assert now.withheld(known) == ["serial number"]
    assert now.over(known) == Device(product="X1", serial="1", application_uri="urn:a")
    assert str(Device()) == "a server that says nothing of itself"
    with pytest.raises(ValueError, match="no other device"):
        device.accept(DeviceFile("opc.tcp://x/", known))


def test_another_endpoint_begins_anew(tmp_path: Path) -> None:
    """Who changes the address in the configuration means another device."""
    device.keep(tmp_path, DeviceFile("opc.tcp://a:4840/", Device(product="X1")))
    assert device.recall(tmp_path, "opc.tcp://a:4840/").known == Device(product="X1")
    assert device.recall(tmp_path, "opc.tcp://b:4840/").known is None
    assert ua.ObjectIds.Server_ServerArray == 2254
