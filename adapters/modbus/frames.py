"""
The bytes of requests and replies; the only place where a request is encoded, and it can encode reads alone.

Sources: MODBUS Application Protocol 1.1b3, MODBUS Messaging on TCP/IP 1.0b, MODBUS over Serial Line 1.02 (CRC).
"""

from __future__ import annotations

import struct
from typing import Final, Literal, NamedTuple

#: Read coils, discrete inputs, holding registers, input registers. A list in code, not in configuration.
READS: Final = frozenset({1, 2, 3, 4})
#: Encapsulated interface transport; its type 14 reads the device identification.
IDENTIFICATION: Final = 43
_IDENTIFICATION_TYPE: Final = 14
#: Set in the function code of an exception reply.
REFUSED: Final = 0x80

MBAP: Final = struct.Struct(">HHHBB")
_READ: Final = struct.Struct(">BBHH")
_MBAP_HEAD: Final = struct.Struct(">HHH")


class Forbidden(RuntimeError):
    """Something other than a read was asked for; nothing was sent."""


class Doubtful(Exception):
    """A reply that does not fit its request; the connection that it came on cannot be trusted any more."""


class Request(NamedTuple):
    """
    A read, ready to be framed.

    Attributes:
        body: unit and PDU.
        unit: whom it is for.
        function: function code that the reply must carry.
        payload_bytes: bytes that the reply must carry; -1 where the reply says itself (device identification).
    """

    body: bytes
    unit: int
    function: int
    payload_bytes: int


def read_request(unit: int, function: int, address: int, count: int) -> Request:
    """
    Read *count* coils (functions 1, 2) or registers (3, 4) from zero-based *address*.

    Raises Forbidden for any other function code.
    """
    if function not in READS:
        raise Forbidden(f"function code {function} is not a read; nothing was sent")
    body = _READ.pack(unit, function, address, count)
    return Request(body, unit, function, 2 * count if function > 2 else (count + 7) // 8)


def identification_request(unit: int, category: Literal[1, 2, 3, 4], first: int) -> Request:
    """Read device identification, from object *first* on; *category* 1 basic, 2 regular, 3 extended, 4 one object."""
    return Request(bytes([unit, IDENTIFICATION, _IDENTIFICATION_TYPE, category, first]), unit, IDENTIFICATION, -1)


def only_reads(body: bytes) -> bytes:
    """
    *body* as it is when it is a read; the second lock, behind the encoder and in front of every socket.

    Raises Forbidden for anything else.
    """
    function = body[1]
    if function in READS:
        if len(body) == _READ.size:
            return body
    elif function == IDENTIFICATION and len(body) == 5 and body[2] == _IDENTIFICATION_TYPE:
        return body
    raise Forbidden("bytes that are not a read request were about to be sent; nothing was sent")


def wrap_mbap(transaction: int, body: bytes) -> bytes:
    """The frame of Modbus TCP. Raises Forbidden for anything but a read."""
    return _MBAP_HEAD.pack(transaction, 0, len(body)) + only_reads(body)


def wrap_rtu(body: bytes) -> bytes:
    """The frame of a serial line. Raises Forbidden for anything but a read."""
    return only_reads(body) + crc(body)


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC: Final = _crc_table()


def crc(data: bytes) -> bytes:
    """CRC-16 of a serial frame, as it stands on the wire (low byte first)."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value.to_bytes(2, "little")


class Reply(NamedTuple):
    """
    A reply that fits its request.

    ``size`` is its length as a frame; ``code`` the exception code, 0 where ``payload`` carries what was asked.
    """

    size: int
    payload: bytes
    code: int


def judge_mbap(asked: Request, data: bytes, at: int) -> Reply | None:
    """
    The reply to *asked* at *at* of *data*, whose transaction id was found to be its own.

    None: it has not wholly come yet, and there is nothing wrong with what has (at least 8 bytes have). Raises
    Doubtful as soon as a byte is wrong.
    """
    _, protocol, length, unit, function = MBAP.unpack_from(data, at)
    if protocol:
        raise Doubtful(f"protocol id {protocol} where 0 was due")
    if unit != asked.unit:
        raise Doubtful(f"unit {unit} where {asked.unit} was due")
    size = length + 6
    have = len(data) - at
    if function == asked.function:
        body = asked.payload_bytes
        if body < 0:
            if not 8 <= length <= 254:
                raise Doubtful(f"length {length} where a device identification was due")
            return Reply(size, data[at + 8 : at + size], 0) if have >= size else None
        if length != body + 3:
            raise Doubtful(f"length {length} where {body + 3} was due")
        if have > 8 and data[at + 8] != body:
            raise Doubtful(f"byte count {data[at + 8]} where {body} was due")
        return Reply(size, data[at + 9 : at + size], 0) if have >= size else None
    return _exception(asked, function, length == 3, size, data, at + 8, have)


def judge_rtu(asked: Request, data: bytes) -> Reply | None:
    """Like :func:`judge_mbap` for the frame of a serial line, which begins *data*; at least 3 bytes have come."""
    unit, function, third = data[0], data[1], data[2]
    if unit != asked.unit:
        raise Doubtful(f"unit {unit} where {asked.unit} was due")
    if function == asked.function:
        body = asked.payload_bytes
        if body < 0:
            size = _identification_size(data)
            if size is None or len(data) < size:
                return None
            reply = Reply(size, data[2 : size - 2], 0)
        else:
            if third != body:
                raise Doubtful(f"byte count {third} where {body} was due")
            size = body + 5
            if len(data) < size:
                return None
            reply = Reply(size, data[3 : size - 2], 0)
    else:
        found = _exception(asked, function, True, 5, data, 2, len(data))
        if found is None:
            return None
        reply = found
    if crc(data[: reply.size - 2]) != data[reply.size - 2 : reply.size]:
        raise Doubtful("checksum (CRC) of the reply is wrong")
    return reply


def _exception(
    asked: Request, function: int, right_length: bool, size: int, data: bytes, code_at: int, have: int
) -> Reply | None:
    if function != asked.function | REFUSED:
        raise Doubtful(f"function code {function & ~REFUSED} where {asked.function} was due")
    if not right_length:
        raise Doubtful(f"an exception reply of {size} bytes where 9 were due")
    if have < size:
        return None
    code = data[code_at]
    if code == 0:
        raise Doubtful("exception code 0, which does not exist")
    return Reply(size, b"", code)


def _identification_size(data: bytes) -> int | None:
    """Length of a serial device identification reply, which only its list of objects tells; None: not yet known."""
    if len(data) < 8:
        return None
    at = 8
    for _ in range(data[7]):
        if len(data) < at + 2:
            return None
        at += 2 + data[at + 1]
    if at + 2 > 256:
        raise Doubtful("a device identification that is longer than a frame can be")
    return at + 2
