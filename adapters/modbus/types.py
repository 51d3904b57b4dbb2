"""Types that registers and coils can carry, and the order of their bytes."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

import numpy as np

#: Which bytes of a register a text takes: both, or one byte a register.
Location = Literal["both", "lower", "upper"]

#: Big-endian numpy type of each type that is a run of bytes in some order.
NUMBERS: Final[dict[str, np.dtype[np.generic]]] = {
    "int16": np.dtype(">i2"),
    "uint16": np.dtype(">u2"),
    "int32": np.dtype(">i4"),
    "uint32": np.dtype(">u4"),
    "int64": np.dtype(">i8"),
    "uint64": np.dtype(">u8"),
    "float16": np.dtype(">f2"),
    "float32": np.dtype(">f4"),
    "float64": np.dtype(">f8"),
}
#: Bytes of the types of two digits a byte.
BCD: Final = {"bcd16": 2, "bcd32": 4}
_TEXT: Final = re.compile(r"(string|bytes)\[([1-9][0-9]*)\]\Z")
_LETTERS: Final = "ABCDEFGH"
#: Byte order to mask; four letters are for 32 bits, eight for 64.
MASKS: Final[dict[str, int]] = {
    "".join(_LETTERS[i ^ mask] for i in range(size)): mask for size in (4, 8) for mask in range(size)
}


class Field(NamedTuple):
    """
    How one value lies in the image of a poll.

    Attributes:
        kind: a key of :data:`NUMBERS`; ``bits`` of a 16-bit word; ``bcd``; ``coil``, one bit of a byte; ``string``;
            ``bytes``.
        size: bytes of one element on the wire (1 for a coil).
        mask: byte i of the big-endian value stands at place ``i ^ mask``.
        bit: lowest bit of ``bits``, counted from 0; None: true for any value but 0.
        bits: how many.
        signed: whether the highest of them is a sign.
        elements: of an array; 0 for a single value.
        length: bytes of a text.
        location: which bytes of a register the text takes.
        encoding: of a string.
    """

    kind: str
    size: int
    mask: int = 0
    bit: int | None = None
    bits: int = 1
    signed: bool = False
    elements: int = 0
    length: int = 0
    location: Location = "both"
    encoding: str = "ascii"


def text_bytes(type_name: str) -> tuple[str, int] | None:
    """``string`` or ``bytes`` and the n of ``string[n]``, ``bytes[n]``; None for another type."""
    match = _TEXT.match(type_name)
    return (match.group(1), int(match.group(2))) if match else None


def width_of(type_name: str, location: Location = "both") -> int:
    """Registers that a single value takes. Raises ValueError for a type that registers cannot carry."""
    if type_name in ("bool", "int8", "uint8"):
        return 1
    if type_name in NUMBERS:
        return NUMBERS[type_name].itemsize // 2
    if type_name in BCD:
        return BCD[type_name] // 2
    if (text := text_bytes(type_name)) is not None:
        return (text[1] + 1) // 2 if location == "both" else text[1]
    known = ", ".join((*NUMBERS, *BCD))
    raise ValueError(f"type {type_name!r} cannot be read here; write one of bool, {known}, string[n], bytes[n]")


def mask_of(byte_order: str | None, type_name: str) -> int:
    """
    Mask of a byte order for a type.

    Four letters mean for 64 bits: ABCD as it is, CDAB words reversed, BADC bytes swapped in each word, DCBA all
    reversed. For 16 bits and texts only the swap inside a word counts. Raises ValueError where a type above 16 bits
    has no order, or the order has eight letters for 32 bits: a guess would be a wrong value.
    """
    size = NUMBERS[type_name].itemsize if type_name in NUMBERS else BCD.get(type_name, 2)
    if byte_order is None:
        if size > 2:
            raise ValueError(
                f"{type_name} needs a byte order; write byte_order: ABCD (high word first) or CDAB (low word first) "
                "on the tag or the source"
            )
        return 0
    if byte_order not in MASKS:
        raise ValueError(f"byte order {byte_order!r} is not known; write one of {', '.join(MASKS)}")
    mask = MASKS[byte_order]
    if size == 2:
        return mask & 1
    if size == 8 and len(byte_order) == 4:
        return mask & 1 | (6 if mask & 2 else 0)
    if size == 4 and len(byte_order) == 8:
        raise ValueError(f"byte order {byte_order} is one of 64 bits; {type_name} needs ABCD, CDAB, BADC or DCBA")
    return mask
