"""Options of a Modbus source, and what one of its tags means."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from adapters.base import Options, SourceOptions
from adapters.modbus import address, planner, registers
from adapters.modbus.planner import Item
from schemas.quantities import Duration
from schemas.tagmap import Tag

ByteOrder = Literal[
    "ABCD",
    "CDAB",
    "BADC",
    "DCBA",
    "ABCDEFGH",
    "GHEFCDAB",
    "EFGHABCD",
    "CDABGHEF",
    "BADCFEHG",
    "HGFEDCBA",
    "FEHGBADC",
    "DCBAHGFE",
]


def _text_encoding(name: str) -> str:
    try:
        codec = codecs.lookup(name)
    except LookupError as error:
        raise ValueError(f"encoding {name!r} is not known; write ascii, latin-1, cp1252, utf-8 or utf-16-le") from error
    if not codec._is_text_encoding:
        raise ValueError(f"{name!r} is no text encoding; write ascii, latin-1, cp1252, utf-8 or utf-16-le")
    return name


class RequestLimits(Options):
    """What one request may ask of the device or gateway."""

    registers: Annotated[int, Field(ge=1, le=125, description="Registers a request.")] = 125
    bits: Annotated[int, Field(ge=1, le=2000, description="Coils or discrete inputs a request.")] = 2000


class ModbusOptions(SourceOptions):
    """Options of kind ``modbus``: one source is one TCP connection; units behind one gateway share it."""

    kind: Literal["modbus"] = "modbus"
    host: Annotated[str, Field(min_length=1, description="Name or address of the device or gateway.")]
    port: Annotated[int, Field(ge=1, le=65535, description="TCP port.")] = 502
    unit: Annotated[int, Field(ge=0, le=255, description="Unit that a plain address means; 4!40001 names another.")] = 1
    timeout: Annotated[Duration, Field(gt=0, description="Waiting time for a connection and for a reply.")] = 1.0
    fail_after: Annotated[
        int,
        Field(
            ge=1,
            description="Requests of a unit without a usable reply, in a row, before it is given up for the "
            "poll; when no unit answers, the connection is closed.",
        ),
    ] = 2
    byte_order: Annotated[
        ByteOrder | None,
        Field(
            description="Order of the bytes of values above 16 bits; a tag may differ. Without one here or in the "
            "tag such a tag is an error."
        ),
    ] = None
    address_style: Annotated[
        address.AddressStyle,
        Field(description="modicon: 40001 and HR1 are the first register. one_based: HR1 is. zero_based: HR0 is."),
    ] = "modicon"
    bit_base: Annotated[Literal[0, 1], Field(description="Number of the lowest bit in HR20.<bit>.")] = 0
    max_gap: Annotated[
        int, Field(ge=0, le=124, description="Unwanted registers (16 coils each) read over to save a request.")
    ] = 8
    limits: Annotated[RequestLimits, Field(description="What one request may ask.")] = RequestLimits()
    string_encoding: Annotated[
        str,
        AfterValidator(_text_encoding),
        Field(description="Encoding of texts; a tag may name another, but `ascii` in a tag means this one."),
    ] = "ascii"

    def planner_limits(self) -> planner.Limits:
        """The limits as the planner takes them."""
        return planner.Limits(self.limits.registers, self.limits.bits, self.max_gap)


class Point(NamedTuple):
    """A tag resolved: what to read, and how its value lies in it."""

    item: Item
    field: registers.Field
    address: address.Address


def resolve(options: ModbusOptions, tag: Tag) -> Point:
    """
    What a tag means on this source.

    A tag whose encoding is the default ``ascii`` takes the source's ``string_encoding``. A bool in a register
    without a bit is true for every value but 0. Raises ValueError saying what to write instead.
    """
    where = address.parse(tag.address, options.address_style, unit=options.unit, bit_base=options.bit_base)
    one_bit = where.function in (address.COIL, address.DISCRETE) or where.bit is not None
    type_name = tag.type or ("bool" if one_bit else None)
    if type_name is None:
        raise ValueError("a register carries no type; write one, such as type: uint16")
    if one_bit and type_name != "bool":
        place = "a bit of a register" if where.bit is not None else "a coil or discrete input"
        raise ValueError(f"{tag.address} is {place} and cannot be {type_name}; write type: bool")
    width = registers.width_of(type_name)
    if width > options.limits.registers:
        raise ValueError(
            f"{type_name} takes {width} registers, more than one request may ask ({options.limits.registers})"
        )
    if where.offset + width > 65536:
        raise ValueError(f"{type_name} at {tag.address} ends behind the last address of its table")
    item = Item(where.unit, where.function, where.offset, width, tag.number)
    if where.function in (address.COIL, address.DISCRETE):
        return Point(item, registers.Field("coil", 1), where)
    mask = registers.mask_of(tag.byte_order or options.byte_order, type_name)
    size = registers.string_bytes(type_name)
    if size is None:
        return Point(item, registers.Field(type_name, 2 * width, mask, where.bit), where)
    encoding = tag.encoding if tag.encoding != "ascii" else options.string_encoding
    return Point(item, registers.Field("string", size, mask, None, _text_encoding(encoding)), where)


def check_tag(options: ModbusOptions, tag: Tag) -> str | None:
    """What is wrong with a tag of this source, or None."""
    try:
        resolve(options, tag)
    except ValueError as error:
        return str(error)
    return None
