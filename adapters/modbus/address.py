"""
Addresses as people write them: ``40001``, ``400001``, ``HR100``, ``4!40001``, ``HR20.3``.

Modicon numbers carry the table in their first digit and count from 1. The prefix forms HR (holding register), IR
(input register), C (coil) and DI (discrete input) count from 1 under ``modicon`` and ``one_based`` and from 0 under
``zero_based``. A unit goes before ``!``, the bit of a register behind a dot.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

AddressStyle = Literal["modicon", "zero_based", "one_based"]

COIL: Final = 1
DISCRETE: Final = 2
HOLDING: Final = 3
INPUT: Final = 4
#: Function code that reads a table, by the first digit of a Modicon number and by prefix.
_MODICON: Final = {"0": COIL, "1": DISCRETE, "3": INPUT, "4": HOLDING}
_PREFIX: Final = {"HR": HOLDING, "IR": INPUT, "C": COIL, "DI": DISCRETE}
_NAME: Final = {function: prefix for prefix, function in _PREFIX.items()}

_ADDRESS: Final = re.compile(r"(?:([0-9]+)!)?([A-Za-z]*)([0-9]+)(?:\.([0-9]+))?\Z")
_IGNITION: Final = re.compile(
    r"(?:\[[^\]]*\])?(?:([0-9]+)\.)?((?:HR|IR)[A-Za-z_0-9]*?)([0-9]+)(?::[0-9]+)?(?:\.[0-9]+)?\Z"
)
_KEPWARE_TEXT: Final = re.compile(r"([0-9]+)\.([0-9]+)[HhLl]\Z")


class Address(NamedTuple):
    """Place of a value: unit, function code that reads it, zero-based offset, bit counted from 0 or None."""

    unit: int
    function: int
    offset: int
    bit: int | None

    def __str__(self) -> str:
        bit = "" if self.bit is None else f".{self.bit}"
        return f"{self.unit}!{_NAME[self.function]}{self.offset}{bit}"


def parse(text: str, style: AddressStyle = "modicon", *, unit: int = 1, bit_base: int = 0) -> Address:
    """
    Parse one address; *unit* is what an address without ``!`` means.

    Raises ValueError with a text that says what to write instead.
    """
    stripped = text.strip()
    match = _ADDRESS.match(stripped)
    if match is None:
        raise ValueError(f"{text!r} is not a Modbus address; {_suggestion(stripped)}")
    unit_text, prefix, digits, bit_text = match.groups()
    if unit_text is not None:
        unit = int(unit_text)
        if unit > 255:
            raise ValueError(f"{text!r}: unit {unit} is outside 0-255")
    function, offset = _prefixed(text, prefix, digits, style) if prefix else _modicon(text, digits, style)
    if offset > 65535:
        raise ValueError(f"{text!r} is behind the last address of its table (65536 counted from 1)")
    bit = None
    if bit_text is not None:
        if function in (COIL, DISCRETE):
            raise ValueError(f"{text!r}: a coil or discrete input is one bit; leave .{bit_text} away")
        bit = int(bit_text) - bit_base
        if not 0 <= bit <= 15:
            raise ValueError(f"{text!r}: bit {bit_text} is outside {bit_base}-{bit_base + 15} (bit_base {bit_base})")
    return Address(unit, function, offset, bit)


def _modicon(text: str, digits: str, style: AddressStyle) -> tuple[int, int]:
    item = int(digits[1:] or "0")
    if style != "modicon":
        base = 0 if style == "zero_based" else 1
        raise ValueError(
            f"{text!r} names no table under address_style {style}; write HR (holding), IR (input), C (coil) or DI "
            f"(discrete input) before a number that counts from {base}"
        )
    if len(digits) not in (5, 6):
        number = int(digits)
        full = f"4{number:05d}" if 1 <= number <= 65536 else "400001"
        raise ValueError(f"{text!r} has not 5 or 6 digits; write {full} or HR{number} for a holding register")
    function = _MODICON.get(digits[0])
    if function is None:
        raise ValueError(f"{text!r}: the first digit is the table: 0 coil, 1 discrete input, 3 input, 4 holding")
    if item == 0:
        raise ValueError(
            f"{text!r}: Modicon numbers count from 1; the first of this table is {digits[0]:0<{len(digits) - 1}}1"
        )
    return function, item - 1


def _prefixed(text: str, prefix: str, digits: str, style: AddressStyle) -> tuple[int, int]:
    function = _PREFIX.get(prefix.upper())
    if function is None:
        raise ValueError(f"{text!r}: {prefix!r} is no table; {_suggestion(text.strip())}")
    number = int(digits)
    if style == "zero_based":
        return function, number
    if number == 0:
        raise ValueError(
            f"{text!r}: {prefix.upper()} counts from 1; write {prefix.upper()}1, or address_style: zero_based"
        )
    return function, number - 1


def _suggestion(text: str) -> str:
    if match := _KEPWARE_TEXT.match(text):
        return f"write {match.group(1)} with type string[{match.group(2)}]"
    if match := _IGNITION.match(text):
        unit = f"{match.group(1)}!" if match.group(1) else ""
        return f"write {unit}{match.group(2)[:2]}{match.group(3)} and say the type in `type`"
    return "write 40001, 400001, HR1, IR1, C1 or DI1, with unit! before it or .bit behind it"
