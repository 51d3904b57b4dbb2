"""
Test reads for commissioning: the same registers in every type and byte order, and who a device says it is.

Connections of their own, opened and closed at once; a device that serves one client at a time may refuse them while
the broker reads it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from adapters.base import Clock
from adapters.modbus import address, identity, memory, types
from adapters.modbus.config import ModbusOptions
from adapters.modbus.exchange import STATUS_OF
from adapters.modbus.frames import Doubtful, read_request
from adapters.modbus.identity import Identity
from adapters.modbus.link import Link
from adapters.modbus.point import SIGNED_BITS, bits_type, check_register
from adapters.modbus.registers import Decoder
from adapters.modbus.tls import Security
from adapters.modbus.types import BCD, NUMBERS, Field
from schemas import status
from schemas.errors import NotConnected

#: What is shown where no type is asked for, narrow before wide.
TYPES: Final = ("uint16", "int16", "uint32", "int32", "float32", "uint64", "int64", "float64")
#: The orders that are shown; for 16 bits the first and the third say it all.
ORDERS: Final = ("ABCD", "CDAB", "BADC", "DCBA")
_WIDE: Final = (4, 2, 1)

Value = float | int | str | bool | None


class Reading(NamedTuple):
    """
    One place in one type.

    Attributes:
        place: unit, table and zero-based offset, as :class:`address.Address` prints them.
        offset: zero-based.
        type: of the values.
        values: by byte order; one entry, ``""``, where there is none to choose (coils, texts, bits).
    """

    place: str
    offset: int
    type: str
    values: dict[str, Value]


class Answer(NamedTuple):
    """What one test read brought: the raw words or bits, and how they read."""

    where: address.Address
    raw: tuple[int, ...]
    readings: tuple[Reading, ...]


async def read(
    options: ModbusOptions, text: str, type_name: str | None, count: int, now_ns: Clock, base_dir: Path
) -> Answer:
    """
    Read *count* values from address *text* in *type_name*; without one, in every type the device has registers for.

    Raises:
        ValueError: wrong address or type, or more than one request can read.
        NotConnected: no connection, no reply, or an exception reply; the text says which.
    """
    where = address.parse(text, options.address_style, unit=options.unit, bit_base=options.bit_base)
    type_name = type_name or where.type
    if where.bit is not None:
        type_name = bits_type(text, where, type_name)
    elif type_name is not None and where.function not in (address.COIL, address.DISCRETE):
        check_register(text, type_name)
    count = max(count, where.elements)
    link = _link(options, now_ns, base_dir)
    try:
        await link.open()
        if where.function in (address.COIL, address.DISCRETE):
            bits = await _take(link, where, count)
            coils = [bits[i // 8] >> i % 8 & 1 for i in range(count)]
            readings = [_reading(where, i, "bool", {"": bool(bit)}) for i, bit in enumerate(coils)]
            return Answer(where, tuple(coils), tuple(readings))
        if type_name is not None:
            width = types.width_of(type_name, where.location or options.workarounds.string_register_location)
            raw = await _take(link, where, width * count)
        else:
            raw = await _as_much_as_there_is(link, where, count)
    finally:
        link.close()
    words = tuple(int(word) for word in np.frombuffer(raw, ">u2"))
    return Answer(where, words, tuple(_readings(where, raw, type_name, count, options)))


async def identify(options: ModbusOptions, unit: int, now_ns: Clock, base_dir: Path) -> Identity | None:
    """
    Who a unit says it is, by object number (:data:`identity.OBJECTS`); None where it offers no identification.

    Raises:
        NotConnected: no connection, or no reply.
    """
    link = _link(options, now_ns, base_dir)
    try:
        await link.open()
        found = await identity.read_identity(link, unit, regular=True)
        return found if found is not None else await identity.read_identity(link, unit)
    except (TimeoutError, Doubtful, ConnectionError) as error:
        raise NotConnected(f"unit {unit} did not say who it is: {error}") from error
    finally:
        link.close()


def accept(options: ModbusOptions, state_dir: Path, unit: int, found: Identity) -> None:
    """
    Remember *found* as the device of *unit*; the source checks against it from its next connection on.

    Raises:
        OSError, ValueError: the state folder cannot be read or written.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    known = memory.recall(state_dir, f"{options.host}:{options.tcp_port}")
    known.identity[str(unit)] = {str(number): found[number] for number in identity.BASIC if number in found}
    memory.keep(state_dir, known)


def _link(options: ModbusOptions, now_ns: Clock, base_dir: Path) -> Link:
    security = None if options.tls is None else Security(options.tls, base_dir)
    return Link(
        options.host,
        options.tcp_port,
        options.timeout,
        replace(options.manner(), depth=1, connections=1),
        now_ns,
        Counter(),
        security,
    )


async def _take(link: Link, where: address.Address, count: int) -> bytes:
    most = 2000 if where.function in (address.COIL, address.DISCRETE) else 125
    if not 1 <= count <= most or where.offset + count > 65536:
        raise ValueError(f"{where}: {count} are more than one request can read ({most}), or end behind the table")
    try:
        reply = await link.ask(read_request(where.unit, where.function, where.offset, count))
    except (TimeoutError, Doubtful, ConnectionError) as error:
        raise NotConnected(f"{where}: {error}") from error
    if reply.code:
        said = status.name(STATUS_OF.get(reply.code, status.BAD_UNEXPECTED_ERROR))
        raise Refused(f"{where}, {count} of them: the device answered with exception {reply.code} ({said})")
    return reply.payload


class Refused(NotConnected):
    """The device answered with an exception."""


async def _as_much_as_there_is(link: Link, where: address.Address, count: int) -> bytes:
    """Enough registers for *count* values of 64 bits, or of as many bits as the device has registers for."""
    for width in _WIDE[:-1]:
        if width * count <= 125 and where.offset + width * count <= 65536:
            try:
                return await _take(link, where, width * count)
            except Refused:
                continue
    return await _take(link, where, count)


def _readings(
    where: address.Address, raw: bytes, type_name: str | None, count: int, options: ModbusOptions
) -> list[Reading]:
    names: Sequence[str] = (type_name,) if type_name is not None else TYPES
    found = []
    for name in names:
        width = types.width_of(name, where.location or options.workarounds.string_register_location)
        for i in range(count):
            if 2 * width * (i + 1) > len(raw):
                break
            orders = _orders(name)
            values = {order: _value(where, raw, name, 2 * width * i, order or "ABCD", options) for order in orders}
            found.append(_reading(where, width * i, name, values))
    return found


def _orders(type_name: str) -> Sequence[str]:
    """The orders that can make a difference."""
    if type_name == "bool":
        return ("",)
    return ORDERS if types.width_of(type_name) > 1 and types.text_bytes(type_name) is None else ("ABCD", "BADC")


def _reading(where: address.Address, step: int, type_name: str, values: dict[str, Value]) -> Reading:
    place = where._replace(offset=where.offset + step, elements=0)
    return Reading(str(place), place.offset, type_name, values)


def _value(
    where: address.Address, raw: bytes, type_name: str, offset: int, order: str, options: ModbusOptions
) -> Value:
    mask = types.mask_of(order, type_name)
    text = types.text_bytes(type_name)
    if where.bit is not None or type_name == "bool":
        field = Field("bits", 2, mask, where.bit, where.bits, type_name in SIGNED_BITS)
    elif text is not None:
        location = where.location or options.workarounds.string_register_location
        field = Field(text[0], 2, mask, length=text[1], location=location, encoding=options.string_encoding)
    elif type_name in NUMBERS:
        field = Field(type_name, NUMBERS[type_name].itemsize, mask)
    else:
        field = Field("bcd", BCD[type_name], mask)
    out = Decoder([(field, offset, 0)]).decode(np.frombuffer(raw, np.uint8))
    exact = out.exact.get(0)
    if isinstance(exact, bytes):
        return exact.hex(" ")
    if isinstance(exact, str | int):
        return exact
    number = float(out.value[0])
    if not math.isfinite(number):
        return None
    if type_name == "bool":
        return bool(number)
    if type_name == "float32":
        return float(np.format_float_positional(np.float32(number), unique=True, trim="0"))
    return number if type_name.startswith("float") else int(number)
