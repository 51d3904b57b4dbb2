"""
Addresses as people and other systems write them.

Modicon numbers (``40001``, ``400001``) carry the table in their first digit and count from 1. The prefix forms HR
(holding register), IR (input register), C (coil) and DI (discrete input) count from 1 under ``modicon`` and
``one_based`` and from 0 under ``zero_based``. Around them:

========================  =====================================================================
``4!40001``               unit before ``!`` (Neuron)
``[Dev]3.HR1024``         device, left aside, and unit before a dot (Ignition)
``HR20.3``, ``HR20.0-3``  a bit of the register, or several as a number; counted from ``bit_base``
``HR20.L``, ``HR20.H``    low or high byte
``HR100[10]``             array of ten values
``HRF1024``               Ignition's types: HRUS HRI HRUI HRI_64 HRUI_64 HRF HRD HRBCD HRBCD_32 HRS, IR alike
``HRS1024:20``            text of 20 bytes (Ignition)
``400100.20H``            text of 20 bytes, high byte first (Kepware, Neuron); L low byte first;
                          D only the high, E only the low byte of each register (Neuron)
``40001#BL``              Neuron's order: B or L of the words, then of the bytes in a word; B alone of the bytes
========================  =====================================================================
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from adapters.modbus.types import Location

AddressStyle = Literal["modicon", "zero_based", "one_based"]

COIL: Final = 1
DISCRETE: Final = 2
HOLDING: Final = 3
INPUT: Final = 4
#: Function code that reads a table, by the first digit of a Modicon number and by prefix.
_MODICON: Final = {"0": COIL, "1": DISCRETE, "3": INPUT, "4": HOLDING}
_PREFIX: Final = {"HR": HOLDING, "IR": INPUT, "C": COIL, "DI": DISCRETE}
_NAME: Final = {function: prefix for prefix, function in _PREFIX.items()}
#: What stands behind HR or IR in Ignition, and the type it says.
_IGNITION: Final = {
    "US": "uint16",
    "I": "int32",
    "UI": "uint32",
    "I_64": "int64",
    "UI_64": "uint64",
    "F": "float32",
    "D": "float64",
    "BCD": "bcd16",
    "BCD_32": "bcd32",
    "S": "string",
}
_NEURON: Final = {"BB": "ABCD", "BL": "BADC", "LB": "CDAB", "LL": "DCBA", "B": "ABCD", "L": "BADC"}
_LOCATION: Final[dict[str, Location]] = {"H": "both", "L": "both", "D": "upper", "E": "lower"}

_ADDRESS: Final = re.compile(
    r"""
    (?:\[[^\]]*\])?
    (?:(?P<unit>[0-9]+)(?:!|\.(?=[A-Za-z])))?
    (?P<prefix>[A-Za-z]+(?:_(?:64|32))?)?
    (?P<digits>[0-9]+)
    (?:
        \.(?P<length>[0-9]+)(?P<halves>[HLDE])
      | \.(?P<bit>[0-9]+)(?:-(?P<last>[0-9]+))?
      | \.(?P<byte>[HL])
      | :(?P<text>[0-9]+)
    )?
    (?:[ ]?\[(?P<count>[0-9]+)\])?
    (?:\#(?P<order>[BL]{1,2}))?
    \Z""",
    re.VERBOSE | re.IGNORECASE,
)
_LONGEST_TEXT: Final = 2 * 125


class Address(NamedTuple):
    """
    Place of a value, and what the address itself says of its form.

    Attributes:
        unit: the unit.
        function: function code that reads the table.
        offset: zero-based.
        bit: lowest bit in the register, counted from 0; None where the whole register is meant.
        bits: how many, from ``bit`` on.
        elements: of an array; 0 for a single value.
        type: type that the address names.
        byte_order: order that the address names.
        location: which bytes of a register a text takes.
    """

    unit: int
    function: int
    offset: int
    bit: int | None = None
    bits: int = 1
    elements: int = 0
    type: str | None = None
    byte_order: str | None = None
    location: Location | None = None

    def __str__(self) -> str:
        last = f"-{self.bit + self.bits - 1}" if self.bit is not None and self.bits > 1 else ""
        bit = "" if self.bit is None else f".{self.bit}{last}"
        elements = f"[{self.elements}]" if self.elements else ""
        return f"{self.unit}!{_NAME[self.function]}{self.offset}{bit}{elements}"


def parse(text: str, style: AddressStyle = "modicon", *, unit: int = 1, bit_base: int = 0) -> Address:
    """
    Parse one address; *unit* is what an address without one means.

    Raises ValueError with a text that says what to write instead.
    """
    match = _ADDRESS.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a Modbus address; {_FORMS}")
    part = match.groupdict()
    if part["unit"] is not None and (unit := int(part["unit"])) > 255:
        raise ValueError(f"{text!r}: unit {unit} is outside 0-255")
    said: str | None = None
    if part["prefix"]:
        function, offset, said = _prefixed(text, part["prefix"].upper(), part["digits"], style)
    else:
        function, offset = _modicon(text, part["digits"], style)
    if offset > 65535:
        raise ValueError(f"{text!r} is behind the last address of its table (65536 counted from 1)")
    bit, bits = _bits(text, part, function, bit_base)
    order = _NEURON[part["order"].upper()] if part["order"] else None
    location: Location | None = None
    if part["halves"]:
        said, location = f"string[{_length(text, part['length'])}]", _LOCATION[part["halves"].upper()]
        order = order or {"H": "ABCD", "L": "BADC"}.get(part["halves"].upper())
    elif part["text"]:
        if said != "string":
            raise ValueError(f"{text!r}: only a text has a length; write HRS{part['digits']}:{part['text']}")
        said = f"string[{_length(text, part['text'])}]"
    elif said == "string":
        raise ValueError(f"{text!r}: a text needs its length in bytes; write {text.strip()}:20")
    count = int(part["count"]) if part["count"] else 0
    if part["count"] and not 1 <= count <= 2000:
        raise ValueError(f"{text!r}: an array has 1 to 2000 elements")
    return Address(unit, function, offset, bit, bits, count, said, order, location)


_FORMS: Final = (
    "write 40001, 400001, HR1, IR1, C1 or DI1, with unit! before it, and .bit, .first-last bit, .L, .H or [elements] "
    "behind it"
)


def _bits(text: str, part: dict[str, str | None], function: int, bit_base: int) -> tuple[int | None, int]:
    """Lowest bit, counted from 0, and how many."""
    if part["byte"]:
        if function in (COIL, DISCRETE):
            raise ValueError(f"{text!r}: a coil or discrete input is one bit; leave .{part['byte']} away")
        return (8 if part["byte"].upper() == "H" else 0), 8
    if part["bit"] is None:
        return None, 1
    if function in (COIL, DISCRETE):
        raise ValueError(f"{text!r}: a coil or discrete input is one bit; leave .{part['bit']} away")
    first = int(part["bit"])
    last = int(part["last"]) if part["last"] is not None else first
    for number in (first, last):
        if not bit_base <= number <= bit_base + 15:
            raise ValueError(f"{text!r}: bit {number} is outside {bit_base}-{bit_base + 15} (bit_base {bit_base})")
    if last < first:
        raise ValueError(f"{text!r}: the lower bit comes first; write .{last}-{first}")
    return first - bit_base, last - first + 1


def _length(text: str, digits: str | None) -> int:
    length = int(digits or "0")
    if not 1 <= length <= _LONGEST_TEXT:
        raise ValueError(f"{text!r}: a text has 1 to {_LONGEST_TEXT} bytes, as many as one request can read")
    return length


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
        said = f"write {full} or HR{number} for a holding register"
        if 2 <= len(digits) <= 4 and digits[0] in _MODICON and item:  # Kepware's numbers may be short
            table, name = digits[0], _NAME[_MODICON[digits[0]]]
            said += f", or {table}{item:05d} or {name}{item} where it is item {item} of table {table}, as in Kepware"
        raise ValueError(f"{text!r} has not 5 or 6 digits; {said}")
    function = _MODICON.get(digits[0])
    if function is None:
        raise ValueError(f"{text!r}: the first digit is the table: 0 coil, 1 discrete input, 3 input, 4 holding")
    if item == 0:
        raise ValueError(
            f"{text!r}: Modicon numbers count from 1; the first of this table is {digits[0]:0<{len(digits) - 1}}1"
        )
    return function, item - 1


def _prefixed(text: str, prefix: str, digits: str, style: AddressStyle) -> tuple[int, int, str | None]:
    """Function code, offset, and the type that an Ignition prefix names."""
    said = None
    function = _PREFIX.get(prefix)
    if function is None:
        function, said = _PREFIX.get(prefix[:2]), _IGNITION.get(prefix[2:])
        if function not in (HOLDING, INPUT) or said is None:
            raise ValueError(f"{text!r}: {prefix!r} is no table; {_FORMS}")
    number = int(digits)
    if style == "zero_based":
        return function, number, said
    if number == 0:
        raise ValueError(f"{text!r}: {prefix} counts from 1; write {prefix}1, or address_style: zero_based")
    return function, number - 1, said
