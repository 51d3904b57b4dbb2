"""
The way to one device or gateway: opens connections, opens them anew, and has an exchange asked over them.

Nothing is retried on a socket whose state is in doubt, and the runner owns the waiting between attempts to connect.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from dataclasses import dataclass
from typing import Final

from adapters.base import Clock
from adapters.modbus.channel import Channel, Framing
from adapters.modbus.exchange import Exchange
from adapters.modbus.frames import Reply, Request
from adapters.modbus.tls import Security
from schemas.errors import NotConnected

#: A device that takes fewer connections than configured is asked again for the missing ones so often.
_RETRY_EXTRA_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Manner:
    """
    How a device wants to be spoken to.

    Attributes:
        framing: what stands around a PDU.
        depth: requests under way on one connection.
        connections: sockets at the same time.
        pause_after_connect_s: wait after opening a socket.
        pause_between_s: wait between a reply and the next request.
        close_after: close the sockets after every poll.
    """

    framing: Framing = "mbap"
    depth: int = 1
    connections: int = 1
    pause_after_connect_s: float = 0.0
    pause_between_s: float = 0.0
    close_after: bool = False


class Link:
    """
    Connections that open when they have to.

    It counts ``connections``, ``requests``, ``exceptions``, ``timeouts``, ``doubtful_replies``, ``closed_by_peer`` and
    ``refused_connections`` (beyond the first) in *counters*.
    """

    def __init__(
        self,
        host: str,
        port: int,
        timeout_s: float,
        manner: Manner,
        now_ns: Clock,
        counters: Counter[str],
        security: Security | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._manner = manner
        self._now_ns = now_ns
        self._counters = counters
        self._security = security
        self._channels: list[Channel | None] = [None] * manner.connections
        self._transaction = 0
        self._tls: ssl.SSLContext | None = None
        #: A gateway without transaction ids may still send what it owes: no socket before this time.
        self._quiet_until_s = 0.0
        self._extra_after_s = 0.0

    @property
    def usable(self) -> bool:
        """Whether the first socket stands and nothing doubtful came on it."""
        first = self._channels[0]
        return first is not None and first.usable

    async def open(self) -> None:
        """
        Open the first connection, closing all there were.

        Raises:
            NotConnected: with the step that failed.
        """
        self.close()
        self._extra_after_s = 0.0
        if self._security is not None:
            self._tls = await asyncio.to_thread(self._security.context)
        await self._open(0)

    async def run(self, exchange: Exchange) -> None:
        """
        Have every block of *exchange* answered.

        Raises:
            NotConnected: no connection could be opened; the blocks without an answer have none.
        """
        if self._manner.connections == 1:
            await self._drive(0, exchange)
        else:
            await self._drive_all(exchange)

    def rest(self) -> None:
        """A poll is over: close the sockets where the device wants that."""
        if self._manner.close_after:
            self.close()

    async def ask(self, request: Request) -> Reply:
        """
        Ask one thing that is no block, on the first connection.

        Raises:
            TimeoutError: no reply in time.
            Doubtful: a reply that does not fit.
            ConnectionResetError: the peer closed the connection.
            NotConnected: no connection could be opened.
        """
        channel = await self._channel(0)
        return await channel.ask(request)

    def close(self) -> None:
        """Close every socket."""
        for number in range(len(self._channels)):
            self._drop(number)

    async def _drive_all(self, exchange: Exchange) -> None:
        """Share the blocks among the connections; those beyond the first are a help, not a condition."""
        drives = [asyncio.ensure_future(self._drive(0, exchange))]
        loop = asyncio.get_running_loop()
        if loop.time() >= self._extra_after_s:
            drives += [asyncio.ensure_future(self._help(n, exchange)) for n in range(1, len(self._channels))]
        try:
            await asyncio.gather(*drives)
        except BaseException:
            for drive in drives:
                drive.cancel()
            await asyncio.gather(*drives, return_exceptions=True)
            raise
        if exchange.waits():  # a helper gave blocks back when the first connection was already done
            await self._drive(0, exchange)

    async def _help(self, number: int, exchange: Exchange) -> None:
        if not exchange.waits():
            return
        try:
            await self._drive(number, exchange)
        except NotConnected:
            self._counters["refused_connections"] += 1
            self._extra_after_s = asyncio.get_running_loop().time() + _RETRY_EXTRA_S

    async def _drive(self, number: int, exchange: Exchange) -> None:
        while exchange.waits():
            channel = await self._channel(number)
            await channel.run(exchange)
            if not channel.usable:
                self._drop(number)
                if number and not channel.proven:
                    raise NotConnected("the device cut a connection beyond those it takes")

    async def _channel(self, number: int) -> Channel:
        channel = self._channels[number]
        if channel is None or not channel.usable:
            return await self._open(number)
        return channel

    async def _open(self, number: int) -> Channel:
        self._drop(number)
        loop = asyncio.get_running_loop()
        if (wait_s := self._quiet_until_s - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        manner = self._manner
        channel = Channel(
            manner.framing,
            manner.depth,
            self._timeout_s,
            manner.pause_between_s,
            self._transaction,
            self._now_ns,
            self._counters,
            helper=number > 0,
        )
        peer = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(self._timeout_s):
                await loop.create_connection(lambda: channel, self._host, self._port, ssl=self._tls)
        except TimeoutError:
            channel.close()
            raise NotConnected(
                f"no answer from {peer} within {self._timeout_s:g} s; is the device on, and the way to it open?"
            ) from None
        except BaseException as error:
            channel.close()
            if isinstance(error, OSError):
                raise NotConnected(self._reason(error, peer)) from error
            raise
        self._channels[number] = channel
        self._counters["connections"] += 1
        if manner.pause_after_connect_s:
            await asyncio.sleep(manner.pause_after_connect_s)
        return channel

    def _reason(self, error: OSError, peer: str) -> str:
        if isinstance(error, socket.gaierror):
            return f"the name {self._host} is not known here ({error.strerror}); check `host`"
        if isinstance(error, ssl.SSLError):
            return f"{peer}: TLS failed: {Security.reason(error)}"
        if self._tls is not None and isinstance(error, ConnectionError):
            return f"{peer} broke off before or during the TLS handshake; check `port`, and that it accepts `tls.cert`"
        return f"{peer} refused the connection or is not reachable; check `port` and that Modbus TCP is switched on"

    def _drop(self, number: int) -> None:
        """Close one socket; its transaction ids are used up, so that a reply it is owed fits no other request."""
        channel, self._channels[number] = self._channels[number], None
        if channel is None:
            return
        self._transaction = channel.transaction
        if channel.overdue and self._manner.framing != "mbap":
            self._quiet_until_s = asyncio.get_running_loop().time() + self._timeout_s
        channel.close()
