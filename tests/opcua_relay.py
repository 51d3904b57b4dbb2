"""A TCP relay before an OPC UA server that sees the chunks of both directions (security None)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self


class Relay:
    """Passes everything on. Derived classes change :meth:`request` and :meth:`response`, which get whole chunks."""

    def __init__(self, endpoint: str) -> None:
        self._port = int(endpoint.rstrip("/").rpartition(":")[2])
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()
        self.endpoint = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.endpoint = f"opc.tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    def request(self, chunk: bytes) -> bytes | None:
        """What goes to the server in place of *chunk*; None: nothing."""
        return chunk

    def response(self, chunk: bytes) -> bytes | None:
        """What goes to the client in place of *chunk*; None: nothing."""
        return chunk

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ways.add(asyncio.ensure_future(self._connect(reader, writer)))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._port)
        forth = asyncio.ensure_future(_pass_on(reader, behind_writer, self.request))
        back = asyncio.ensure_future(_pass_on(behind_reader, writer, self.response))
        try:
            await asyncio.wait([forth, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in (forth, back):
                way.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)
            for one in (behind_writer, writer):
                one.transport.abort()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes | None]
) -> None:
    while True:
        head = await reader.readexactly(8)
        chunk = change(head + await reader.readexactly(int.from_bytes(head[4:], "little") - 8))
        if chunk is not None:
            writer.write(chunk)
