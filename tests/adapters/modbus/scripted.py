"""A Modbus TCP server that answers each request with the frames of a script."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

#: Frames that answer (transaction, unit, function, address, count).
Script = Callable[[int, int, int, int, int], list[bytes]]


def frame(transaction: int, unit: int, pdu: bytes, protocol: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">HHHB", transaction, protocol, len(pdu) + 1 if length is None else length, unit) + pdu


def registers(function: int, address: int, count: int) -> bytes:
    """The right PDU: every register holds its own address."""
    return struct.pack(f">BB{count}H", function, 2 * count, *range(address, address + count))


def right(t: int, u: int, f: int, a: int, n: int) -> list[bytes]:
    return [frame(t, u, registers(f, a, n))]


def one_byte_at_a_time(t: int, u: int, f: int, a: int, n: int) -> list[bytes]:
    return [bytes([byte]) for byte in right(t, u, f, a, n)[0]]


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """A server whose connections *serve* answers until they end; gives its port, and cuts what is open at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """A server that answers each request with the frames of *script*, each sent by itself; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            t, _, _, u, f, a, n = struct.unpack(">HHHBBHH", await reader.readexactly(12))
            for part in script(t, u, f, a, n):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    async with serving(serve) as port:
        yield port


@asynccontextmanager
async def bytes_server(size: int, reply: Callable[[bytes], list[bytes]]) -> AsyncIterator[int]:
    """A server of any framing: each *size* bytes are answered with the pieces that *reply* gives; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            for piece in reply(await reader.readexactly(size)):
                writer.write(piece)
                await writer.drain()

    async with serving(serve) as port:
        yield port
