"""What a tag means on its source: which registers to read, and how its value lies in them."""

from __future__ import annotations

from typing import Final, NamedTuple

from adapters.modbus import address, types
from adapters.modbus.config import ModbusOptions, text_encoding
from adapters.modbus.planner import Item
from adapters.modbus.types import Field
from schemas.tagmap import Tag, uncountable

#: Types of several bits of a register, and those whose highest bit is a sign.
_BIT_FIELDS: Final = ("uint8", "uint16", "int8", "int16")
SIGNED_BITS: Final = ("int8", "int16")


class Point(NamedTuple):
    """A tag resolved: what to read, and how its value lies in it."""

    item: Item
    field: Field
    address: address.Address


def resolve(options: ModbusOptions, tag: Tag) -> Point:
    """
    What a tag means on this source.

    A tag whose encoding is the default ``ascii`` takes the source's ``string_encoding``. An order in the address stands
    before the tag's, and the tag's before the source's. A bool in a register without a bit is true for every value
    but 0. Raises ValueError saying what to write instead.
    """
    where = address.parse(tag.address, options.address_style, unit=options.unit, bit_base=options.bit_base)
    if where.type is not None and tag.type is not None and where.type != tag.type:
        raise ValueError(f"{tag.address} says {where.type}, but type says {tag.type}; leave one of them away")
    type_name = where.type or tag.type
    coil = where.function in (address.COIL, address.DISCRETE)
    if coil or where.bit is not None:
        field = _coil(where, tag, type_name) if coil else _bits(where, tag, type_name, options)
        width = 1
    else:
        if type_name is None:
            raise ValueError("a register carries no type; write one, such as type: uint16")
        location = where.location or options.workarounds.string_register_location
        width = types.width_of(type_name, location)
        field = _registers(where, tag, type_name, options)
    if tag.counter is not None:
        if where.elements:
            raise ValueError(f"{tag.address} is an array; a counter is one value")
        switch = coil or (where.bit is not None and where.bits == 1)
        why = uncountable(tag.counter, "bool" if switch else type_name or "uint16")
        if why is not None:
            raise ValueError(why)
    width *= max(1, where.elements)
    most = options.limits.bits if coil else options.limits.registers
    if width > most:
        what = "coils" if coil else "registers"
        raise ValueError(
            f"{type_name or 'bool'} at {tag.address} takes {width} {what}, more than one request may ask ({most})"
        )
    if where.offset + width > 65536:
        raise ValueError(f"{type_name} at {tag.address} ends behind the last address of its table")
    return Point(Item(where.unit, where.function, where.offset, width, tag.number), field, where)


def check_tag(options: ModbusOptions, tag: Tag) -> str | None:
    """What is wrong with a tag of this source, or None."""
    try:
        resolve(options, tag)
    except ValueError as error:
        return str(error)
    return None


def bits_type(text: str, where: address.Address, type_name: str | None) -> str:
    """The type of bits of a register at address *text*. Raises ValueError where they cannot be *type_name*."""
    if where.bits == 1:
        if type_name not in (None, "bool"):
            raise ValueError(f"{text} is a bit of a register and cannot be {type_name}; write type: bool")
        return "bool"
    type_name = type_name or "uint16"
    if type_name not in _BIT_FIELDS or (type_name.endswith("8") and where.bits > 8):
        raise ValueError(
            f"{text} is {where.bits} bits of a register and cannot be {type_name}; write type: uint16, or int16 where "
            "the highest bit is a sign"
        )
    return type_name


def check_register(text: str, type_name: str) -> None:
    """Raise ValueError for a type that is only a part of the register at address *text*."""
    if type_name in ("int8", "uint8"):
        raise ValueError(
            f"a register has 16 bits; write {text}.L for its low byte, {text}.H for its high byte, or type: "
            f"{type_name.replace('8', '16')}"
        )


def _coil(where: address.Address, tag: Tag, type_name: str | None) -> Field:
    if type_name not in (None, "bool"):
        raise ValueError(f"{tag.address} is a coil or discrete input and cannot be {type_name}; write type: bool")
    return Field("coil", 1, elements=where.elements)


def _bits(where: address.Address, tag: Tag, type_name: str | None, options: ModbusOptions) -> Field:
    if where.elements:
        raise ValueError(f"{tag.address}: bits make no array; write one tag for each, or an array of coils")
    type_name = bits_type(tag.address, where, type_name)
    mask = types.mask_of(where.byte_order or tag.byte_order or options.byte_order, "uint16")
    return Field("bits", 2, mask, where.bit, where.bits, type_name in SIGNED_BITS)


def _registers(where: address.Address, tag: Tag, type_name: str, options: ModbusOptions) -> Field:
    mask = types.mask_of(where.byte_order or tag.byte_order or options.byte_order, type_name)
    text = types.text_bytes(type_name)
    if text is not None:
        if where.elements:
            raise ValueError(f"{tag.address}: texts make no array; write one tag for each")
        encoding = tag.encoding if tag.encoding != "ascii" else options.string_encoding
        location = where.location or options.workarounds.string_register_location
        return Field(text[0], 2, mask, length=text[1], location=location, encoding=text_encoding(encoding))
    check_register(tag.address, type_name)
    if type_name == "bool":
        if where.elements:
            raise ValueError(f"{tag.address}: an array of bool is one of coils; write C or DI, or type: uint16")
        return Field("bits", 2, mask)
    if type_name in types.BCD:
        return Field("bcd", types.BCD[type_name], mask, elements=where.elements)
    return Field(type_name, types.NUMBERS[type_name].itemsize, mask, elements=where.elements)
