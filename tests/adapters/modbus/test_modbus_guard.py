"""Read-only by construction: nothing but a read can leave."""

from __future__ import annotations

import ast
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

import adapters.modbus
from adapters.modbus.channel import Channel
from adapters.modbus.exchange import Exchange
from adapters.modbus.frames import (
    READS,
    Forbidden,
    Request,
    identification_request,
    only_reads,
    read_request,
    wrap_mbap,
    wrap_rtu,
)
from adapters.modbus.planner import Block, Item
from adapters.modbus.units import Units

#: Bodies (unit and PDU) of every function that writes, controls, or is none of ours.
WRITES: dict[str, bytes] = {
    "write coil": b"\x01\x05\x00\x01\xff\x00",
    "write register": b"\x01\x06\x00\x01\x00\x02",
    "read exception status": b"\x01\x07",
    "diagnostics, restart": b"\x01\x08\x00\x01\xff\x00",
    "write coils": b"\x01\x0f\x00\x01\x00\x01\x01\x01",
    "write registers": b"\x01\x10\x00\x01\x00\x01\x02\x00\x02",
    "write file record": b"\x01\x15\x09\x06\x00\x01\x00\x01\x00\x01\x00\x02",
    "mask write register": b"\x01\x16\x00\x01\x00\xf2\x00\x25",
    "read and write registers": b"\x01\x17\x00\x01\x00\x01\x00\x02\x00\x01\x02\x00\x07",
    "encapsulated, CANopen": b"\x01\x2b\x0d\x01\x00",
    "a read with a tail": b"\x01\x03\x00\x01\x00\x02\x00",
}


class Sink:
    """A server that takes bytes and keeps them."""

    def __init__(self) -> None:
        self.port = 0
        self.got = b""
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(300):
                self.got += data
        except ConnectionError:
            pass
        writer.close()
        self.ended.set()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    taking = Sink()
    server = await asyncio.start_server(taking.serve, "127.0.0.1", 0)
    taking.port = server.sockets[0].getsockname()[1]
    yield taking
    server.close()
    await server.wait_closed()


async def channel_to(port: int, framing: Any) -> Channel:
    channel = Channel(framing, 1, 1.0, 0.0, 0, time.time_ns, Counter())
    await asyncio.get_running_loop().create_connection(lambda: channel, "127.0.0.1", port)
    return channel


@pytest.mark.parametrize("framing", ["mbap", "mbap_zero", "rtu"])
@pytest.mark.parametrize("name", sorted(WRITES))
async def test_no_write_reaches_the_wire(sink: Sink, name: str, framing: str) -> None:
    """A request forged past the encoder is stopped in front of the socket: 0 bytes are sent."""
    channel = await channel_to(sink.port, framing)
    with pytest.raises(Forbidden, match="nothing was sent"):
        await channel.ask(Request(WRITES[name], 1, WRITES[name][1], 4))
    channel.close()
    await asyncio.wait_for(sink.ended.wait(), 30)
    assert sink.got == b""


async def test_a_read_does_reach_the_wire(sink: Sink, eventually: Any) -> None:
    """The same way lets a read out, so the test above can fail (negative control)."""
    channel = await channel_to(sink.port, "mbap")
    asking = asyncio.ensure_future(channel.ask(read_request(1, 3, 0, 2)))
    await eventually(lambda: len(sink.got) == 12)
    asking.cancel()
    await asyncio.wait([asking])
    assert sink.got[7] == 3


async def test_a_forged_block_is_not_encoded(sink: Sink) -> None:
    """A block of a function that is no read, put into an exchange, sends nothing."""
    channel = await channel_to(sink.port, "mbap")
    block = Block.over((Item(1, 6, 0, 1, 0),))
    with pytest.raises(Forbidden):
        await channel.run(Exchange([block], Units(1, 1, 1.0, Counter()), time.time_ns))
    await asyncio.wait_for(sink.ended.wait(), 30)
    assert sink.got == b""


async def test_a_library_that_can_write_does(sink: Sink) -> None:
    """A client with write methods sends a write to this server (negative control)."""
    client = AsyncModbusTcpClient("127.0.0.1", port=sink.port, timeout=0.05, retries=0, reconnect_delay=0)
    await client.connect()
    asking = asyncio.ensure_future(client.write_register(1, 2))
    await asyncio.wait([asking])
    assert asking.exception() is not None
    client.close()
    await asyncio.wait_for(sink.ended.wait(), 30)
    assert sink.got[7] == 6


@pytest.mark.parametrize("function", sorted(set(range(256)) - READS))
def test_any_other_function_is_stopped(function: int) -> None:
    """Function codes other than 1-4 can neither be encoded nor framed."""
    with pytest.raises(Forbidden):
        read_request(1, function, 0, 1)
    body = bytes([1, function]) + b"\0\0\0\1"
    for wrap in (only_reads, wrap_rtu, lambda b: wrap_mbap(7, b)):
        with pytest.raises(Forbidden):
            wrap(body)


def test_the_identification_is_read_and_nothing_else_of_its_function() -> None:
    """Function 43 goes out with type 14 and in its one shape."""
    assert only_reads(identification_request(9, 1, 0).body) == b"\x09\x2b\x0e\x01\x00"
    for kind in set(range(256)) - {14}:
        with pytest.raises(Forbidden):
            only_reads(bytes([9, 43, kind, 1, 0]))
    with pytest.raises(Forbidden):
        only_reads(b"\x09\x2b\x0e\x01\x00\x00")


def test_one_place_alone_writes_to_a_socket() -> None:
    """In the package one call sends bytes, all of them framed behind the lock; and no protocol library is imported."""
    root = Path(adapters.modbus.__file__).parent
    writes: list[tuple[str, int]] = []
    for file in sorted(root.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"write", "writelines", "send", "sendall", "sendto"}:
                writes.append((file.name, node.lineno))
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                named.append(node.module or "")
            assert not any(name.split(".")[0] in {"pymodbus", "socketserver"} for name in named), file.name
    assert [name for name, _ in writes] == ["channel.py"]
