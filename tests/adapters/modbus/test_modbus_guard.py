"""Read-only by construction: nothing but a read can leave."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.client.mixin import ModbusClientMixin

import adapters.modbus
from adapters.modbus.guard import READS, Doubtful, Forbidden, Guard
from schemas.tagmap import Tag

WRITES: dict[str, Callable[[Any], Any]] = {
    "write_coil": lambda c: c.write_coil(1, True),
    "write_register": lambda c: c.write_register(1, 2),
    "write_coils": lambda c: c.write_coils(1, [True]),
    "write_registers": lambda c: c.write_registers(1, [1]),
    "mask_write_register": lambda c: c.mask_write_register(address=1),
    "readwrite_registers": lambda c: c.readwrite_registers(read_address=1, read_count=1, address=1, values=[1]),
    "write_file_record": lambda c: c.write_file_record([]),
    "diag_restart_communication": lambda c: c.diag_restart_communication(True),
    "diag_clear_counters": lambda c: c.diag_clear_counters(),
    "read_device_information": lambda c: c.read_device_information(),
}


class Sink:
    """A server that takes bytes and keeps them."""

    def __init__(self) -> None:
        self.port = 0
        self.got = b""
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(300):
            self.got += data
        writer.close()
        await writer.wait_closed()
        self.ended.set()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    taking = Sink()
    server = await asyncio.start_server(taking.serve, "127.0.0.1", 0)
    taking.port = server.sockets[0].getsockname()[1]
    yield taking
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("name", sorted(WRITES))
async def test_no_write_reaches_the_wire(
    sink: Sink, make_tag: Callable[..., Tag], make_adapter: Callable[..., Any], name: str
) -> None:
    """Every writing method of the library, called on the adapter's own client, raises and sends 0 bytes."""
    adapter = make_adapter(sink.port, [make_tag(0, "HR1")])
    await adapter.connect()
    with pytest.raises(Forbidden, match="nothing was sent"):
        await WRITES[name](adapter._link.client)
    await adapter.close()
    await asyncio.wait_for(sink.ended.wait(), 5)
    assert sink.got == b""


async def test_without_the_guard_a_write_goes_out(sink: Sink) -> None:
    """The library alone does send a write to this server (negative control)."""
    client = AsyncModbusTcpClient("127.0.0.1", port=sink.port, timeout=0.05, retries=0, reconnect_delay=0)
    await client.connect()
    asking = asyncio.ensure_future(client.write_register(1, 2))
    await asyncio.wait([asking])
    assert asking.exception() is not None
    client.close()
    await asyncio.wait_for(sink.ended.wait(), 5)
    assert sink.got[7] == 6


def test_every_writing_method_is_tried() -> None:
    """The list above names every method of the library that writes, so a new one cannot be overlooked."""
    writing = {name for name in dir(ModbusClientMixin) if "write" in name}
    assert writing <= set(WRITES)


@pytest.mark.parametrize("function", sorted(set(range(256)) - READS))
def test_bytes_of_any_other_function_are_stopped(function: int) -> None:
    """The second lock: bytes of any function code but 1-4 are stopped behind the encoder too."""
    packet = b"\0\1\0\0\0\6\1" + bytes([function]) + b"\0\0\0\1"
    with pytest.raises(Forbidden):
        Guard().trace_packet(True, packet)


def test_only_the_shape_of_a_read_passes() -> None:
    """A request of another length is stopped, whatever its function code."""
    with pytest.raises(Forbidden):
        Guard().trace_packet(True, b"\0\1\0\0\0\7\1\3\0\0\0\1\0")
    assert Guard().trace_packet(True, b"\0\1\0\0\0\6\1\3\0\0\0\1") == b"\0\1\0\0\0\6\1\3\0\0\0\1"


def test_the_adapter_names_no_writing_method() -> None:
    """No source file of the package names a method of the library that could write or control."""
    root = Path(adapters.modbus.__file__).parent
    files = list(root.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            used = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            assert not used.startswith(("write_", "readwrite_", "mask_write_", "diag_")), f"{file.name}: {used}"


def test_after_a_doubt_nothing_passes() -> None:
    """Once a reply was doubtful, a right one on the same connection is not believed either."""
    guard = Guard()
    guard.trace_packet(True, b"\0\1\0\0\0\6\1\3\0\0\0\1")
    assert guard.trace_packet(False, b"\0\0\0\0\0\5\1\3\2\0\7")[7] == 0x83
    assert guard.doubt is not None
    assert guard.trace_packet(False, b"\0\1\0\0\0\5\1\3\2\0\7") == b""
    assert issubclass(Doubtful, Exception)
