"""
One TCP connection to a device or gateway: ask for one block, get its bytes or the reason why not.

pymodbus does framing and transport. Its reconnecting and retrying are off, because the runner owns the first and a
retry on the same socket can take a late reply for the next one (P1, P7); after a time-out or a doubtful reply the
socket is thrown away and the next question opens a new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any, Final

import numpy as np
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException

from adapters.modbus.guard import Doubtful, Guard
from adapters.modbus.planner import Block
from schemas import status
from schemas.errors import NotConnected

#: Exception codes that say "this address or this number of addresses is not there": the block is divided.
ILLEGAL: Final = frozenset({2, 3})

#: Status of a block that was answered with an exception; the connection stays. Busy (5, 6) is the server's own
#: word for "ask later", and the next poll does: BadServerTooBusy, not a failure of the device.
STATUS_OF: Final[dict[int, int]] = {
    1: status.BAD_CONFIGURATION_ERROR,
    2: status.BAD_CONFIGURATION_ERROR,
    3: status.BAD_CONFIGURATION_ERROR,
    4: status.BAD_DEVICE_FAILURE,
    5: status.BAD_SERVER_TOO_BUSY,
    6: status.BAD_SERVER_TOO_BUSY,
    7: status.BAD_DEVICE_FAILURE,
    8: status.BAD_DEVICE_FAILURE,
    10: status.BAD_NO_COMMUNICATION,
    11: status.BAD_NO_COMMUNICATION,
}

# What pymodbus would log of a lost peer is raised here, and said once by the runner.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class Refusal(Exception):
    """The device answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Link:
    """
    A connection that opens anew when it has to.

    It counts ``connections``, ``requests``, ``exceptions``, ``timeouts`` and ``doubtful_replies`` in *counters*.
    """

    def __init__(self, host: str, port: int, timeout_s: float, counters: Counter[str]) -> None:
        self._counters = counters
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._guard = Guard()
        self._transaction = 0
        self.client: Any = None

    @property
    def usable(self) -> bool:
        """Whether the socket stands and nothing doubtful came on it."""
        return self.client is not None and self.client.connected and self._guard.doubt is None

    async def open(self) -> None:
        """
        Open the connection, closing the one before.

        Raises:
            NotConnected: with the step that failed.
        """
        self.close()
        self._guard = Guard()
        self.client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_pdu=self._guard.trace_pdu,
            trace_packet=self._guard.trace_packet,
        )
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if not await self.client.connect():
            waited = loop.time() - begun
            self.close()
            raise NotConnected(await self._reason(waited))
        # A gateway may send what it owed the last connection: ids go on where that one ended, and do not match.
        self.client.ctx.next_tid = self._transaction
        self._counters["connections"] += 1

    async def _reason(self, waited_s: float) -> str:
        """Why no connection came about; pymodbus only says that it did not."""
        peer = f"{self._host}:{self._port}"
        if waited_s >= 0.9 * self._timeout_s:
            return f"no answer from {peer} within {self._timeout_s:g} s; is the device on, and the way to it open?"
        try:
            await asyncio.get_running_loop().getaddrinfo(self._host, self._port)
        except OSError as error:
            return f"the name {self._host} is not known here ({error.strerror}); check `host`"
        return f"{peer} refused the connection or is not reachable; check `port` and that Modbus TCP is switched on"

    async def ask(self, block: Block) -> bytes:
        """
        The block as it stands now: two bytes a register as on the wire, or one byte 0 or 1 a coil.

        Raises:
            Refusal: the device answered with an exception; the connection stays.
            TimeoutError: no reply in time; the socket is closed.
            Doubtful: a reply that does not fit; the socket is closed.
            NotConnected: no connection could be opened.
        """
        if self._guard.doubt is not None and self.client is not None:
            self._counters["doubtful_replies"] += 1  # it came when nothing was asked
        if not self.usable:
            await self.open()
        self._counters["requests"] += 1
        try:
            reply = await self._read(block)
        except ConnectionException as error:
            self.close()
            raise NotConnected(f"{self._host}:{self._port} closed the connection") from error
        except ModbusIOException as error:
            reason = "closed the connection" if not self.client.connected else f"no reply within {self._timeout_s:g} s"
            self._counters["timeouts"] += 1
            self.close()
            raise TimeoutError(f"{reason} (unit {block.unit})") from error
        except asyncio.CancelledError:
            self.close()  # the reply may still come, and must not meet the next request (P8)
            raise
        if self._guard.doubt is not None:
            raise self._distrust(self._guard.doubt, block)
        if reply.isError():
            self._counters["exceptions"] += 1
            raise Refusal(reply.exception_code)
        return self._payload(block, reply)

    async def _read(self, block: Block) -> Any:
        reads = (
            self.client.read_coils,
            self.client.read_discrete_inputs,
            self.client.read_holding_registers,
            self.client.read_input_registers,
        )
        return await reads[block.function - 1](block.address, count=block.count, device_id=block.unit)

    def _payload(self, block: Block, reply: Any) -> bytes:
        values = reply.bits[: block.count] if block.function <= 2 else reply.registers
        if len(values) != block.count:
            raise self._distrust(f"{len(values)} values where {block.count} were due", block)
        return bytes(values) if block.function <= 2 else np.array(values, ">u2").tobytes()

    def _distrust(self, doubt: str, block: Block) -> Doubtful:
        self._counters["doubtful_replies"] += 1
        self.close()
        return Doubtful(f"{doubt} (unit {block.unit})")

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self.client is not None:
            self._transaction = self.client.ctx.next_tid or self._transaction
            self.client.close()
            self.client = None
