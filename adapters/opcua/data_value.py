"""
DataValues one by one as the library's objects: what has no fixed size, and the answers to a Read.

The Variant is decoded by the library. Where it ends is measured before, and the fields around it are decoded here, so
that times keep their 100 ns (A19) and picoseconds stand where the standard puts them (A23). Source: OPC UA Part 6,
5.2.2.17 (DataValue) and 5.2.2.16 (Variant).
"""

from __future__ import annotations

import struct
from typing import Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import variant_from_binary
from asyncua.ua.uaerrors import UaStructParsingError

from adapters.opcua import extent
from adapters.opcua.decode import Stamp
from adapters.opcua.faults import DECODE_ERRORS, describe
from schemas.status import BAD_DECODING_ERROR

#: Bits of the mask that a DataValue begins with: the fields that follow.
VALUE, STATUS, SOURCE, SERVER, SOURCE_PS, SERVER_PS = 1, 2, 4, 8, 16, 32
#: What stands behind the value, in the order of the wire.
_FIELDS: Final = (
    (STATUS, "<I", 4),
    (SOURCE, "<q", 8),
    (SOURCE_PS, "<H", 2),
    (SERVER, "<q", 8),
    (SERVER_PS, "<H", 2),
)
_DATE_TIME: Final = 13


def objects(body: bytes, offset: int, count: int) -> tuple[list[ua.DataValue], int]:
    """
    *count* DataValues as the library's objects, with times that keep their 100 ns (:class:`Stamp`).

    One whose value cannot be decoded has none, and the status BadDecodingError. Raises as :func:`data_value`.
    """
    found: list[ua.DataValue] = []
    for _ in range(count):
        data, offset, _ = data_value(body, offset)
        found.append(data)
    return found, offset


def data_value(body: bytes, offset: int) -> tuple[ua.DataValue, int, str]:
    """
    A DataValue, the offset behind it, and why its value could not be decoded where it could not.

    Raises :data:`adapters.opcua.faults.DECODE_ERRORS` where its end cannot be found.
    """
    mask, value, reason = body[offset], None, ""
    offset += 1
    if mask & VALUE:
        end, sound = extent.variant(body, offset)
        try:
            value = decoded(body, offset, end, sound=sound)
        except DECODE_ERRORS as error:
            reason = f"the value cannot be decoded: {describe(error)}"
        offset = end
    parts: dict[int, int] = {}
    for bit, form, size in _FIELDS:
        if mask & bit:
            [parts[bit]] = struct.unpack_from(form, body, offset)
            offset += size
    status = parts.get(STATUS, 0)
    data = ua.DataValue(
        value,
        StatusCode=ua.StatusCode(BAD_DECODING_ERROR if reason and not status >> 31 else status),
        SourceTimestamp=Stamp.of(parts[SOURCE]) if mask & SOURCE else None,
        ServerTimestamp=Stamp.of(parts[SERVER]) if mask & SERVER else None,
        SourcePicoseconds=parts.get(SOURCE_PS),
        ServerPicoseconds=parts.get(SERVER_PS),
    )
    return data, offset, reason


def decoded(body: bytes, offset: int, end: int, *, sound: bool) -> ua.Variant:
    """
    The Variant from *offset* to *end* as the library's object, with a time that keeps its 100 ns.

    *end* and *sound* are what :func:`adapters.opcua.extent.variant` gives. Raises DECODE_ERRORS.
    """
    if not sound:
        raise UaStructParsingError("an array of other dimensions than elements")
    if body[offset] == _DATE_TIME:
        [ticks] = struct.unpack_from("<q", body, offset + 1)
        return ua.Variant(Stamp.of(ticks), ua.VariantType.DateTime)
    buffer = Buffer(body, offset)
    found: ua.Variant = variant_from_binary(buffer)
    if buffer.cur_pos != end:  # a negative length takes the library back to bytes it has read
        raise UaStructParsingError(f"it is {end - offset} bytes and was read as {buffer.cur_pos - offset}")
    return found
