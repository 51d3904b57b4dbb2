"""Another device behind the address is noticed before a value of it is handed over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.frames import Doubtful
from adapters.modbus.identity import decode
from schemas import status
from schemas.errors import NotConnected, OtherDevice
from schemas.samples import SampleBatch
from schemas.tagmap import Tag
from simulators.modbus_server import ModbusServer, RegisterPoint

MakeTag = Callable[..., Tag]
MakeAdapter = Callable[..., Any]
Take = Callable[[Any], Awaitable[SampleBatch]]

POINTS = [RegisterPoint("x", "holding", 0, "uint16")]
ACME = {0: "Acme", 1: "X1", 2: "2.0", 4: "Mixer"}


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp"])
async def test_a_swapped_device_is_not_read(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, transport: str
) -> None:
    """What a device says the first time is remembered over restarts; another one gives no value at all (W22)."""
    framing: Any = "rtu" if transport == "rtu_over_tcp" else "tcp"
    async with ModbusServer(lambda: {"x": 5}, POINTS, identity=ACME, framing=framing) as server:

        def adapter_() -> Any:
            return make_adapter(server.port, [make_tag(0, "HR1")], identity="check", transport=transport)

        first = adapter_()
        await first.connect()
        assert (await take(first)).value.tolist() == [5]
        assert first.facts["identity"] == "unit 1: Acme X1 2.0"
        again = adapter_()
        await again.connect()
        assert (await take(again)).value.tolist() == [5]
        server.identity = {**ACME, 1: "X2"}
        swapped = adapter_()
        await swapped.connect()
        with pytest.raises(OtherDevice, match=r"unit 1 is Acme X2 2\.0 and was Acme X1 2\.0"):
            await take(swapped)
        assert swapped.counters["identity_mismatches"] == 1
        server.identity = None
        await swapped.connect()
        with pytest.raises(NotConnected, match="without identification"):
            await take(swapped)
        server.identity = ACME
        await swapped.connect()
        assert (await take(swapped)).value.tolist() == [5]


async def test_ignoring_reads_any_device(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Without the check the other device's value comes through, and nobody is asked (negative control)."""
    async with ModbusServer(lambda: {"x": 5}, POINTS, identity=ACME) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1")])
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5]
        server.identity = {**ACME, 1: "X2"}
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5]
        assert server.requests[43] == 0


async def test_a_unit_swapped_while_it_was_away(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A unit that comes back behind its gateway is asked again although the connection never broke."""
    async with ModbusServer(lambda: {"x": 5}, POINTS, identity=ACME, units=(1, 2)) as server:
        adapter = make_adapter(server.port, [make_tag(u, f"{u}!HR1") for u in (1, 2)], identity="check")
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5, 5]
        server.units = {1}
        while (await take(adapter)).status.tolist() != [status.GOOD, status.BAD_NO_COMMUNICATION]:
            pass
        assert adapter.counters["connections"] == 1
        adapter._units.degraded.clear()
        server.units, server.identity = {1, 2}, {**ACME, 1: "X9"}
        with pytest.raises(OtherDevice, match=r"is Acme X9 2\.0 and was Acme X1 2\.0"):
            await take(adapter)


async def test_a_device_without_identification_is_read(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """Many devices offer none: they are read, and the fact is shown."""
    async with ModbusServer(lambda: {"x": 5}, POINTS) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1")], identity="check")
        await adapter.connect()
        for _ in range(2):
            assert (await take(adapter)).value.tolist() == [5]
        assert adapter.facts["identity"] == "unit 1: a device without identification"
        assert server.requests[43] == 1


async def test_another_firmware_is_noted_and_read(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """The revision is counted and told once, and is the known one from then on."""
    async with ModbusServer(lambda: {"x": 5}, POINTS, identity=ACME) as server:
        for revision, changes in (("2.0", 0), ("3.0", 1), ("3.0", 0)):
            server.identity = {**ACME, 2: revision}
            adapter = make_adapter(server.port, [make_tag(0, "HR1")], identity="check")
            await adapter.connect()
            assert (await take(adapter)).value.tolist() == [5]
            assert adapter.counters["firmware_changes"] == changes
            assert adapter.facts["identity"] == f"unit 1: Acme X1 {revision}"
            assert (adapter.facts.get("firmware") == "unit 1: revision was 2.0 and is 3.0") == bool(changes)


class _Mute(ModbusServer):
    """Says nothing at all to function codes that it does not know."""

    def _answer(self, unit: int, pdu: bytes) -> bytes:
        return b"" if pdu[0] == 43 else super()._answer(unit, pdu)


async def test_a_device_that_is_mute_about_itself_is_read(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """Two questions without an answer, and it is read as one without identification; one that did answer is not."""
    async with _Mute(lambda: {"x": 5}, POINTS) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1")], identity="check", timeout="200ms")
        for _ in range(2):
            await adapter.connect()
            with pytest.raises(NotConnected, match="did not say who it is"):
                await take(adapter)
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5]
        assert "read without identification" in adapter.facts["identity"]
        adapter._warden._memory.identity["1"] = {"0": "Acme", "1": "X1"}
        await adapter.connect()
        with pytest.raises(NotConnected, match="did not say who it is"):
            await take(adapter)


async def test_damaged_memory_is_said(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, tmp_path: Path) -> None:
    """A damaged file stops a source that must check identities, and costs another only what it had learnt."""
    (tmp_path / "device.json").write_bytes(b"{torn")
    async with ModbusServer(lambda: {"x": 5}, POINTS, identity=ACME) as server:
        strict = make_adapter(server.port, [make_tag(0, "HR1")], identity="check")
        with pytest.raises(NotConnected, match=r"mend or remove device\.json"):
            await strict.connect()
        adapter = make_adapter(server.port, [make_tag(0, "HR1")])
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5]
        assert adapter.counters["state_errors"] == 1


@given(st.binary(max_size=80))
def test_any_bytes_are_an_identity_or_doubtful(payload: bytes) -> None:
    """Whatever a device sends as its identification, it is texts by number, or Doubtful."""
    try:
        found, following = decode(payload)
    except Doubtful:
        return
    assert all(isinstance(number, int) and isinstance(text, str) for number, text in found.items())
    assert following is None or 0 <= following <= 255
