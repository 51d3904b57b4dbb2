"""
The wire form of Protocol Buffers, as far as a Sparkplug payload needs it, read-only.

Source: protobuf.dev, *Encoding*. A field of another wire type than declared, and a field nobody knows, is passed over,
as the format demands; what is cut or longer than its frame is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

_GROUP_BEGIN: Final = 3
_DOUBLE: Final = struct.Struct("<d").unpack_from
_FLOAT: Final = struct.Struct("<f").unpack_from


class Malformed(ValueError):
    """The bytes are no Protocol Buffers message."""


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Unsigned integer of up to 64 bits at *at*, and the place behind it."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise Malformed("an integer is longer than 10 bytes")
    raise Malformed("an integer is cut")


def span(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Begin and end of a length-delimited field whose length stands at *at*."""
    length, at = varint(data, at, end)
    if length > end - at:
        raise Malformed("a field is longer than its frame")
    return at, at + length


def skip(data: bytes, at: int, end: int, wire: int) -> int:
    """The place behind a field of this wire type whose value begins at *at*."""
    if wire == VARINT:
        return varint(data, at, end)[1]
    if wire == LENGTH:
        return span(data, at, end)[1]
    if wire in (FIXED64, FIXED32):
        at += 8 if wire == FIXED64 else 4
        if at > end:
            raise Malformed("a fixed field is cut")
        return at
    raise Malformed(f"wire type {wire} is not used by Sparkplug" if wire == _GROUP_BEGIN else f"wire type {wire}")


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """
    Each field of a message: number, wire type, and where its value begins and ends.

    For length-delimited fields begin and end are those of the content.
    """
    while at < end:
        key, at = varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise Malformed("field number 0")
        if wire == LENGTH:
            begin, at = span(data, at, end)
        else:
            begin, at = at, skip(data, at, end, wire)
        yield number, wire, begin, at


def text(data: bytes, begin: int, end: int) -> str:
    """Text of a length-delimited field. Raises Malformed where it is not UTF-8."""
    try:
        return data[begin:end].decode()
    except UnicodeDecodeError as error:
        raise Malformed("a text is not UTF-8") from error


def double(data: bytes, at: int) -> float:
    """Value of a 64-bit float field."""
    value: float = _DOUBLE(data, at)[0]
    return value


def single(data: bytes, at: int) -> float:
    """Value of a 32-bit float field, as its exact double."""
    value: float = _FLOAT(data, at)[0]
    return value
