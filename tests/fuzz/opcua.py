"""What an OPC UA server's bytes go through: responses, values, columns, and a vendor's structures."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.uaerrors import UaStructParsingError

from adapters.opcua import extent, responses, wire
from adapters.opcua.columns import Columns, Times
from adapters.opcua.faults import DECODE_ERRORS
from adapters.opcua.rows import Rows
from adapters.opcua.structures import Structures
from broker.acquire import quarantine
from broker.journal import codec

NOW_NS = 1_800_000_000 * 10**9
_REFUSALS = (ua.UaStatusCodeError, UaStructParsingError)


def _journalled(rows: Rows) -> None:
    """Rows become a sound batch, which the journal takes, at worst without some rows that it names."""
    columns = Columns(NOW_NS, Times())
    columns.add(rows.take(rows.tag < 2**20))
    columns.rejects("s", {})
    columns.hole(NOW_NS)
    columns.remember()
    batch = columns.batch("s", b"m" * 16)
    batch.check()
    try:
        codec.encode(batch)
    except ValueError as error:
        rest, rejects = quarantine.divide(batch, error)
        assert rejects
        if rest is not None:
            codec.encode(rest)


def publish(data: bytes) -> None:
    """A PublishResponse."""
    with contextlib.suppress(*_REFUSALS):
        for part in responses.published(Buffer(data)).message.parts:
            if isinstance(part, Rows):
                _journalled(part)


def republish(data: bytes) -> None:
    """A RepublishResponse."""
    with contextlib.suppress(*_REFUSALS):
        responses.republished(Buffer(data))


def read(data: bytes) -> None:
    """A ReadResponse."""
    with contextlib.suppress(*_REFUSALS):
        columns = Columns(NOW_NS, Times())
        columns.extend(enumerate(responses.values(Buffer(data))))
        columns.batch("s", b"m" * 16).check()


def history(data: bytes) -> None:
    """A HistoryReadResponse."""
    with contextlib.suppress(*_REFUSALS):
        for result in responses.history(Buffer(data)):
            _journalled(result.rows)


def items(data: bytes) -> None:
    """Monitored items, as many as the first byte says: all are rows, and they end within the message."""
    data = data or b"\0"
    count = data[0]
    with contextlib.suppress(*DECODE_ERRORS):
        rows, end = wire.values(data, 1, count, handles=True)
        assert len(rows) == count
        assert end <= len(data)
        _journalled(rows)


def variant(data: bytes) -> None:
    """A Variant: it ends within the message, and what stands behind it is read from there."""
    with contextlib.suppress(UaStructParsingError):
        end, _ = extent.variant(data, 0)
        assert end <= len(data)
        rows, offset = wire.values(b"\1" + data[:end] + b"\1\6\7\0\0\0", 0, 2, handles=False)
        assert offset == end + 7
        assert rows.value[1] == 7


def structure(data: bytes) -> None:
    """The body of a structure that the server described: named fields, or its bytes as they are."""
    known = Structures()
    fields = [
        ua.StructureField(Name=f"f{number}", DataType=ua.NodeId(number), ValueRank=rank, IsOptional=optional)
        for number, rank, optional in ((1, -1, False), (12, -1, True), (11, 1, True), (22, -1, False), (24, 1, False))
    ]
    kinds = list(ua.StructureType)
    definition = ua.StructureDefinition(
        StructureType=kinds[(data[0] if data else 0) % len(kinds)], DefaultEncodingId=ua.NodeId(9, 2), Fields=fields
    )
    name = ua.NodeId(9, 2).to_string()
    known._by_encoding[name] = definition
    exact: dict[int, object] = {0: {"type": name, "body": data[1:]}}
    known.name(exact)  # type: ignore[arg-type]
    assert exact[0] is not None


def _response(type_id: int, body: bytes) -> bytes:
    return struct.pack("<BBHqIIBiBBB", 1, 0, type_id, 0, 5, 0, 0, 0, 0, 0, 0) + body


_NUMBER = b"\x0f\x0b" + struct.pack("<dIqq", 1.5, 0, 134_000_000_000_000_007, 134_000_000_000_000_007)
_TEXT = b"\x01\x0c" + struct.pack("<i", 2) + b"ab"
_POISON = b"\x01\x16\x01\x00" + struct.pack("<HBi", 886, 1, 1) + b"\x07"
_ITEMS = b"".join(struct.pack("<I", n) + item for n, item in enumerate([_NUMBER, _TEXT, _POISON, _NUMBER]))
_NOTIFICATION = struct.pack("<i", 4) + _ITEMS + struct.pack("<i", -1)
_MESSAGE = struct.pack("<IqiBBHBi", 41, 0, 1, 1, 0, 811, 1, len(_NOTIFICATION)) + _NOTIFICATION
_DATA = struct.pack("<i", 2) + _NUMBER + _TEXT

TARGETS: dict[str, Callable[[bytes], None]] = {
    "opcua_publish": publish,
    "opcua_republish": republish,
    "opcua_read": read,
    "opcua_history": history,
    "opcua_items": items,
    "opcua_variant": variant,
    "opcua_structure": structure,
}
GOOD: dict[str, list[bytes]] = {
    "opcua_publish": [_response(829, struct.pack("<IiI?", 77, 1, 41, False) + _MESSAGE + struct.pack("<iIi", 1, 0, 0))],
    "opcua_republish": [_response(835, _MESSAGE)],
    "opcua_read": [_response(634, struct.pack("<i", 2) + _NUMBER + _POISON + struct.pack("<i", -1))],
    "opcua_history": [
        _response(
            667, struct.pack("<iIi", 1, 0, -1) + struct.pack("<BBHBi", 1, 0, 658, 1, len(_DATA)) + _DATA + b"\0\0\0\0"
        )
    ],
    "opcua_items": [b"\x04" + _ITEMS, bytes([64]) + b"".join(struct.pack("<I", n) + _NUMBER for n in range(64))],
    "opcua_variant": [
        b"\xc6\0\0\0\0\2\0\0\0\xff\xff\xff\7\0\0\0\0",
        _TEXT[1:],
        _POISON[1:],
        b"\xc6\2\0\0\0" + bytes(8) + b"\2\0\0\0\1\0\0\0\2\0\0\0",
    ],
    "opcua_structure": [b"\0\1\2\0\0\0ab\1\0\0\0" + bytes(8)],
}
