"""
A Modbus TCP server over simulated signals, on the loopback interface only.

It shares no code with the adapter or with pymodbus, so that an error of theirs cannot hide in it.
Source of the wire format: MODBUS Messaging on TCP/IP 1.0b, MODBUS Application Protocol 1.1b3, MODBUS over Serial
Line 1.02 for frames with checksum.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import struct
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Final, Literal

from simulators import Signals, SignalValue

Table = Literal["coil", "discrete", "input", "holding"]

#: How a frame stands on the wire: Modbus TCP, or a serial frame with checksum as simple gateways pass it on.
Framing = Literal["tcp", "rtu"]

ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
DEVICE_FAILURE: Final = 4
BUSY: Final = 6
GATEWAY_TARGET: Final = 11

_TABLE_OF: Final[dict[int, Table]] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_INTEGERS: Final = {"int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8}
_FLOATS: Final = {"float32": ">f", "float64": ">d"}
_STRING: Final = re.compile(r"string\[([1-9][0-9]*)\]$")


@dataclass(frozen=True, slots=True)
class RegisterPoint:
    """
    One signal in a table of the server.

    Attributes:
        name: name of the signal.
        table: coil, discrete, input or holding.
        address: zero-based address of the first coil or register.
        type: bool, int16 .. uint64, float32, float64 or string[n] (n bytes, padded with NUL).
        byte_order: order on the wire of the big-endian bytes A, B, ..: four letters, or eight for 64 bits. Four
            letters mean for 64 bits: ABCD as it is, CDAB words reversed, BADC bytes swapped in each word, DCBA
            reversed. For 16 bits and strings only the swap inside a word counts.
        bit: for bool in a register: which bit (0 is the lowest); points of one register are combined.
        scale: what is served is ``value * scale``, rounded for integers, which wrap around as a PLC's do.
    """

    name: str
    table: Table
    address: int
    type: str
    byte_order: str = "ABCD"
    bit: int = 0
    scale: float = 1.0

    @property
    def width(self) -> int:
        """Number of coils or registers."""
        if self.table in ("coil", "discrete") or self.type == "bool":
            return 1
        if match := _STRING.match(self.type):
            return (int(match.group(1)) + 1) // 2
        if self.type in _INTEGERS:
            return _INTEGERS[self.type] // 2
        if self.type in _FLOATS:
            return struct.calcsize(_FLOATS[self.type]) // 2
        raise ValueError(f"{self.name}: type {self.type!r} is not known to this server")

    def words(self, value: bool | int | float | str) -> list[int]:
        """The registers (or the single bit) that carry *value*. Raises ValueError for a value of another kind."""
        if self.table in ("coil", "discrete"):
            return [int(bool(value))]
        if self.type == "bool":
            return [int(bool(value)) << self.bit]
        raw = self._ordered(self._big_endian(value))
        return list(struct.unpack(f">{len(raw) // 2}H", raw))

    def _big_endian(self, value: bool | int | float | str) -> bytes:
        if match := _STRING.match(self.type):
            size = int(match.group(1))
            return str(value).encode("utf-8")[:size].ljust(self.width * 2, b"\0")
        number = value if isinstance(value, int) and self.scale == 1.0 else float(value) * self.scale
        if self.type in _FLOATS:
            return struct.pack(_FLOATS[self.type], number)
        size = _INTEGERS[self.type]
        return (round(number) % (1 << 8 * size)).to_bytes(size, "big")

    def _ordered(self, raw: bytes) -> bytes:
        letters = self.byte_order
        if len(raw) == 2 or self.type.startswith("string"):
            swapped = letters[0] in "BDFH"
            return b"".join(raw[i : i + 2][::-1] for i in range(0, len(raw), 2)) if swapped else raw
        if len(letters) < len(raw):
            letters = {"ABCD": "ABCDEFGH", "CDAB": "GHEFCDAB", "BADC": "BADCFEHG", "DCBA": "HGFEDCBA"}[letters]
        if sorted(letters) != [chr(ord("A") + i) for i in range(len(raw))]:
            raise ValueError(f"{self.name}: byte order {self.byte_order!r} does not fit {self.type}")
        return bytes(raw[ord(letter) - ord("A")] for letter in letters)


class ModbusServer:
    """
    Async context manager; may be stopped and started again on the same port.

    Values are computed at each request from ``signals()``. A request that touches an address outside the declared
    points is answered with exception 2, one that touches a point whose signal is None or absent with exception 4
    (the protocol has no "bad" of a single register), one for another unit with exception 11, and a function code
    above 4 with exception 1, but for function 43, type 14, where there is an ``identity``.

    Attributes:
        seen: requests of whatever function code that any server of this process ever got.
        port: the port; chosen at the first start where 0 was given.
        units: the units that are served, all with the same points.
        silent_units: units whose requests are taken and not answered.
        identity: objects of the device identification by number; None: it is not offered.
        most_registers: a request for more is answered with exception 3.
        busy: so many requests are answered with exception 6 before others.
        delay_s: wait before each answer.
        requests: number of requests by function code, of whatever kind.
        connections: number of connections accepted so far.
        exception: a code that answers every request while it is set.
        mode: ``silent`` takes requests and answers none.
    """

    seen: ClassVar[Counter[int]] = Counter()

    def __init__(
        self,
        signals: Signals,
        points: Sequence[RegisterPoint],
        *,
        port: int = 0,
        unit: int = 1,
        units: Collection[int] = (),
        framing: Framing = "tcp",
        tls: ssl.SSLContext | None = None,
        identity: Mapping[int, str] | None = None,
        most_connections: int = 1000,
    ) -> None:
        self.port = port
        self.units = set(units) or {unit}
        self.silent_units: set[int] = set()
        self.identity = identity
        self.most_registers = 125
        self.busy = 0
        self.delay_s = 0.0
        self._framing = framing
        self._tls = tls
        self._most_connections = most_connections
        self.requests: Counter[int] = Counter()
        self.connections = 0
        self.exception: int | None = None
        self.mode: Literal["answer", "silent"] = "answer"
        self._signals = signals
        self._at: dict[tuple[Table, int], list[tuple[RegisterPoint, int]]] = {}
        for point in points:
            for i in range(point.width):
                self._at.setdefault((point.table, point.address + i), []).append((point, i))
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    @property
    def open_connections(self) -> int:
        """Number of connections that stand now; one beyond ``most_connections`` is cut when it comes."""
        return len(self._open)

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
            await self.drop()
            await self._server.wait_closed()
            self._server = None

    async def drop(self) -> None:
        """Cut every connection and go on listening."""
        running = dict(self._open)
        for writer in running:
            writer.transport.abort()
        await asyncio.gather(*running.values(), return_exceptions=True)

    async def __aenter__(self) -> ModbusServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= self._most_connections:
            writer.transport.abort()
            return
        self._open[writer] = task
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    asked = await (self._take_rtu(reader) if self._framing == "rtu" else self._take_tcp(reader))
                    if asked is None:
                        return
                    transaction, unit, pdu = asked
                    self.requests[pdu[0]] += 1
                    self.seen[pdu[0]] += 1
                    if self.mode == "silent" or unit in self.silent_units:
                        continue
                    answer = self._answer(unit, pdu)
                    if not answer:
                        continue
                    if self.delay_s:
                        await asyncio.sleep(self.delay_s)
                    if self._framing == "rtu":
                        frame = bytes([unit]) + answer
                        writer.write(frame + _checksum(frame))
                    else:
                        writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
                    await writer.drain()
        finally:
            del self._open[writer]
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    @staticmethod
    async def _take_tcp(reader: asyncio.StreamReader) -> tuple[int, int, bytes] | None:
        transaction, protocol, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
        if protocol or not 2 <= length <= 254:
            return None
        return transaction, unit, await reader.readexactly(length - 1)

    @staticmethod
    async def _take_rtu(reader: asyncio.StreamReader) -> tuple[int, int, bytes] | None:
        """A serial frame carries no length: it follows from the function code."""
        head = await reader.readexactly(2)
        frame = head + await reader.readexactly(5 if head[1] == 43 else 6)
        if _checksum(frame[:-2]) != frame[-2:]:
            return None
        return 0, frame[0], frame[1:-2]

    def _identify(self, pdu: bytes) -> bytes:
        """Objects from the one asked on, one a reply, so that whoever asks has to follow."""
        category, first = pdu[2], pdu[3]
        known = sorted(number for number in self.identity or {} if number <= (2 if category == 1 else 6))
        left = [number for number in known if number >= first] or known
        value = (self.identity or {})[left[0]].encode()
        more, following = (0xFF, left[1]) if len(left) > 1 else (0, 0)
        return bytes([43, 14, category, 0x82, more, following, 1, left[0], len(value)]) + value

    def _answer(self, unit: int, pdu: bytes) -> bytes:
        function = pdu[0]

        def refuse(code: int) -> bytes:
            return bytes([function | 0x80, code])

        if self.exception is not None:
            return refuse(self.exception)
        if unit not in self.units:
            return refuse(GATEWAY_TARGET)
        if self.busy:
            self.busy -= 1
            return refuse(BUSY)
        if function == 43 and self.identity and len(pdu) == 4 and pdu[1] == 14:
            return self._identify(pdu)
        if function not in _TABLE_OF:
            return refuse(ILLEGAL_FUNCTION)
        if len(pdu) != 5:
            return refuse(ILLEGAL_VALUE)
        address, count = struct.unpack(">HH", pdu[1:])
        if not 1 <= count <= (2000 if function <= 2 else self.most_registers):
            return refuse(ILLEGAL_VALUE)
        cells = [self._at.get((_TABLE_OF[function], address + i)) for i in range(count)]
        signals = self._signals()
        encoded: dict[str, list[int]] = {}
        words: list[int] = []
        for cell in cells:
            if cell is None:
                return refuse(ILLEGAL_ADDRESS)
            word = 0
            for point, i in cell:
                value: SignalValue = signals.get(point.name)
                if value is None:
                    return refuse(DEVICE_FAILURE)
                if point.name not in encoded:
                    encoded[point.name] = point.words(value)
                word |= encoded[point.name][i]
            words.append(word)
        if function <= 2:
            packed = sum(bit << i for i, bit in enumerate(words)).to_bytes((count + 7) // 8, "little")
            return bytes([function, len(packed)]) + packed
        return struct.pack(f">BB{count}H", function, 2 * count, *words)


def _checksum(data: bytes) -> bytes:
    """CRC-16 of a serial frame, bit by bit; low byte first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return struct.pack("<H", value)
