"""A TCP relay on loopback that can be cut, refuse, and swallow: the network faults that need no rights."""

from __future__ import annotations

import asyncio


class TcpProxy:
    """
    Relays connections to a port of this machine.

    ``refusing``: a new connection is closed at once. ``open_ways`` is clear while nothing gets through in either
    direction, as behind a dead switch; what was sent meanwhile comes later.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.refusing = False
        self.connections = 0
        self.open_ways = asyncio.Event()
        self.open_ways.set()
        self._target = port
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        self._writers += [writer, behind_writer]
        for way in (self._relay(reader, behind_writer), self._relay(behind_reader, writer)):
            self._ways.add(asyncio.ensure_future(way))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.open_ways.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
