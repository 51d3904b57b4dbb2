"""
The guard between pymodbus and the wire: no write leaves, no doubtful reply comes in.

pymodbus takes transaction id 0 for any request (P1), another function code (P3), too few registers, an odd byte
count and extra bytes (P4), and waits in silence for what it cannot decode (P5). So every reply is judged here, byte
by byte, before pymodbus sees it; and a request other than a read is stopped before it is encoded (P11).
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

#: Read coils, discrete inputs, holding registers, input registers. A list in code, not in configuration.
READS: Final = frozenset({1, 2, 3, 4})
_REQUEST: Final = struct.Struct(">HHHBBHH")
_HEADER: Final = struct.Struct(">HHHBB")
_REFUSED: Final = 0x80


class Forbidden(RuntimeError):
    """Something other than a read was asked for; nothing was sent."""


class Doubtful(Exception):
    """A reply that does not fit its request; the connection that it came on cannot be trusted any more."""


class _Request(NamedTuple):
    transaction: int
    unit: int
    function: int
    quantity: int

    @property
    def body_bytes(self) -> int:
        return 2 * self.quantity if self.function > 2 else (self.quantity + 7) // 8


class Guard:
    """
    One connection's guard; ``trace_pdu`` and ``trace_packet`` are handed to the pymodbus client.

    One request is under way at a time. ``doubt`` says what was wrong with the first doubtful reply: from then on
    nothing that arrives is let through, and whoever asked gets a refusal at once instead of a time-out.
    """

    def __init__(self) -> None:
        self.doubt: str | None = None
        self._asked: _Request | None = None

    def trace_pdu(self, sending: bool, pdu: Any) -> Any:
        """Pass a PDU on. Raises Forbidden before a request that is not a read is encoded."""
        if sending and pdu.function_code not in READS:
            raise Forbidden(f"function code {pdu.function_code} is not a read; nothing was sent")
        return pdu

    def trace_packet(self, sending: bool, data: bytes) -> bytes:
        """Pass the bytes of a read request, or of a reply without doubt. Raises Forbidden for any other request."""
        if sending:
            self._sent(data)
            return data
        return self._received(data)

    def _sent(self, data: bytes) -> None:
        if len(data) != _REQUEST.size or data[7] not in READS:
            raise Forbidden("bytes that are not a read request were about to be sent; nothing was sent")
        transaction, _protocol, _length, unit, function, _address, count = _REQUEST.unpack(data)
        self._asked = _Request(transaction, unit, function, count)

    def _received(self, data: bytes) -> bytes:
        """
        *data* is all that came since the request; incomplete frames pass, since pymodbus waits for the rest.

        A doubtful reply is replaced by a refusal (or by nothing where nothing was asked).
        """
        if self.doubt is not None:
            return b""
        asked = self._asked
        if asked is None:
            self.doubt = f"{len(data)} bytes came that nobody asked for"
            return b""
        self.doubt = _doubt(asked, data)
        if self.doubt is not None:
            return _HEADER.pack(asked.transaction, 0, 3, asked.unit, asked.function | _REFUSED) + b"\x04"
        if len(data) >= _HEADER.size and len(data) == 6 + int.from_bytes(data[4:6], "big"):
            self._asked = None
        return data


def _doubt(asked: _Request, data: bytes) -> str | None:
    """What is wrong with the beginning of a reply, as far as it has come; None: nothing yet."""
    if len(data) < _HEADER.size:
        return None
    transaction, protocol, length, unit, function = _HEADER.unpack_from(data)
    body = asked.body_bytes
    checks = (
        ("transaction id", transaction, asked.transaction),
        ("protocol id", protocol, 0),
        ("unit", unit, asked.unit),
        ("function code", function & ~_REFUSED, asked.function),
        ("length", length, 3 if function & _REFUSED else 3 + body),
    )
    for what, got, want in checks:
        if got != want:
            return f"{what} {got} where {want} was due"
    if not function & _REFUSED and len(data) > _HEADER.size and data[8] != body:
        return f"byte count {data[8]} where {body} was due"
    if len(data) > 6 + length:
        return f"{len(data) - 6 - length} bytes behind the reply"
    return None
