"""The simulated Modbus server against hand-made frames."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from simulators import SignalValue, modbus_server
from simulators.modbus_server import ModbusServer, RegisterPoint

VALUES: dict[str, SignalValue] = {
    "run": True,
    "idle": False,
    "speed": -2,
    "flow": 1.5,
    "count": 2**40 + 7,
    "name": "AB1",
    "hole": None,
    "low": True,
    "high": True,
    "level": 12.34,
}
POINTS = [
    RegisterPoint("run", "coil", 0, "bool"),
    RegisterPoint("idle", "coil", 1, "bool"),
    RegisterPoint("run", "discrete", 9, "bool"),
    RegisterPoint("speed", "holding", 0, "int16"),
    RegisterPoint("flow", "holding", 1, "float32", "CDAB"),
    RegisterPoint("count", "holding", 3, "uint64", "DCBA"),
    RegisterPoint("name", "holding", 7, "string[4]", "BADC"),
    RegisterPoint("hole", "holding", 9, "uint16"),
    RegisterPoint("low", "input", 0, "bool", bit=0),
    RegisterPoint("high", "input", 0, "bool", bit=15),
    RegisterPoint("level", "input", 1, "uint16", scale=100),
]


@pytest.fixture(autouse=True)
def counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """These requests are the test's, not the product's."""
    monkeypatch.setattr(ModbusServer, "seen", Counter())


@pytest.fixture
async def server() -> AsyncIterator[ModbusServer]:
    async with ModbusServer(lambda: VALUES, POINTS) as running:
        yield running


async def ask(port: int, pdu: bytes, unit: int = 1) -> bytes:
    """The PDU that answers *pdu* on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(struct.pack(">HHHB", 0x1234, 0, len(pdu) + 1, unit) + pdu)
        transaction, protocol, length, answered = struct.unpack(">HHHB", await reader.readexactly(7))
        assert (transaction, protocol, answered) == (0x1234, 0, unit)
        return await reader.readexactly(length - 1)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_hex", "answer_hex"),
    [
        ("0100000002", "010101"),
        ("0200090001", "020101"),
        ("0300000001", "0302fffe"),
        ("0300010002", "030400003fc0"),
        ("0300030004", "03080700000000010000"),
        ("0300070002", "030442410031"),
        ("0300000003", "0306fffe00003fc0"),
        ("0400000002", "0404800104d2"),
        ("0300090001", "8304"),
        ("0300080002", "8304"),
        ("03000a0001", "8302"),
        ("0400020001", "8402"),
        ("0300000000", "8303"),
        ("030000007e", "8303"),
        ("0600000001", "8601"),
        ("2b0e0100", "ab01"),
    ],
)
async def test_answers_by_the_book(server: ModbusServer, request_hex: str, answer_hex: str) -> None:
    """Each request gets the bytes that the Modbus specification gives for the declared points."""
    assert (await ask(server.port, bytes.fromhex(request_hex))).hex() == answer_hex


async def test_counts_requests_by_function(server: ModbusServer) -> None:
    """Every request is counted by its function code, refused ones too, so that a test can prove no write came."""
    for pdu in ("0300000001", "0300000001", "0600000001"):
        await ask(server.port, bytes.fromhex(pdu))
    assert server.requests == {3: 2, 6: 1}


async def test_refuses_another_unit(server: ModbusServer) -> None:
    """A unit that is not there is answered as a gateway does."""
    assert await ask(server.port, bytes.fromhex("0300000001"), unit=9) == bytes([0x83, 11])


async def test_restarts_on_the_same_port() -> None:
    """A stopped server cuts its connections, and listens again where it was."""
    server = ModbusServer(lambda: VALUES, POINTS)
    await server.start()
    port = server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await server.stop()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(1)
    writer.close()
    with pytest.raises(ConnectionError):
        await ask(port, bytes.fromhex("0300000001"))
    async with server:
        assert server.port == port
        assert await ask(port, bytes.fromhex("0300000001")) == bytes.fromhex("0302fffe")


def test_wraps_integers_as_a_plc_does() -> None:
    """A counter that outgrows its register rolls over instead of failing."""
    assert RegisterPoint("n", "holding", 0, "uint16").words(65537) == [1]
    with pytest.raises(ValueError, match="float16"):
        _ = RegisterPoint("n", "holding", 0, "float16").width


async def test_every_server_counts_what_the_suite_sends(server: ModbusServer) -> None:
    """A write is refused and stays in the count that the whole suite is judged by."""
    assert await ask(server.port, b"\x06\x00\x01\x00\x02") == b"\x86\x01"
    assert ModbusServer.seen == {6: 1}


async def test_serial_frames_carry_a_checksum() -> None:
    """The example of the serial line guide: function 2 of unit 2 ends in 0x41 0x12 on the wire."""
    assert modbus_server._checksum(b"\x02\x07") == b"\x41\x12"
    async with ModbusServer(lambda: VALUES, POINTS, framing="rtu") as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        asked = b"\x01\x03\x00\x00\x00\x01"
        writer.write(asked + modbus_server._checksum(asked))
        assert await reader.readexactly(7) == b"\x01\x03\x02\xff\xfe\x78\x34"
        writer.close()
        await writer.wait_closed()


async def test_says_who_it_is() -> None:
    """The device identification comes one object a reply; without one, function 43 is refused."""
    async with ModbusServer(lambda: VALUES, POINTS, identity={0: "Acme", 1: "X1", 2: "2.0"}) as running:
        assert await ask(running.port, b"\x2b\x0e\x01\x00") == b"\x2b\x0e\x01\x82\xff\x01\x01\x00\x04Acme"
        assert await ask(running.port, b"\x2b\x0e\x01\x02") == b"\x2b\x0e\x01\x82\x00\x00\x01\x02\x032.0"
        running.identity = None
        assert await ask(running.port, b"\x2b\x0e\x01\x00") == b"\xab\x01"
