"""
Registers and coils to numbers: one gather over the whole image of a poll for each type, whatever the byte orders.

The bytes A, B, C, .. of a value are big-endian (A is the most significant); a byte order names them as they stand on
the wire. Every order in use moves byte i to place ``i ^ mask`` (swap of bytes in a word = 1, of words = 2, of double
words = 4), so that one number says it all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.samples import Exact

#: Big-endian numpy type of each numeric type name.
NUMBERS: Final[dict[str, np.dtype[np.generic]]] = {
    "int16": np.dtype(">i2"),
    "uint16": np.dtype(">u2"),
    "int32": np.dtype(">i4"),
    "uint32": np.dtype(">u4"),
    "int64": np.dtype(">i8"),
    "uint64": np.dtype(">u8"),
    "float32": np.dtype(">f4"),
    "float64": np.dtype(">f8"),
}
_STRING: Final = re.compile(r"string\[([1-9][0-9]*)\]\Z")
_LETTERS: Final = "ABCDEFGH"
#: Byte order to mask; four letters are for 32 bits, eight for 64.
MASKS: Final[dict[str, int]] = {
    "".join(_LETTERS[i ^ mask] for i in range(size)): mask for size in (4, 8) for mask in range(size)
}
#: Largest magnitude up to which float64 holds every integer.
_EXACT_LIMIT: Final = 2**53


class Field(NamedTuple):
    """
    How one value lies in the image.

    ``size`` bytes; ``mask`` as in the module text; ``bit`` of the 16-bit word counted from 0, for a bool in a
    register. ``type`` ``coil`` is one byte of 0 or 1 in the image.
    """

    type: str
    size: int
    mask: int = 0
    bit: int | None = None
    encoding: str = "ascii"


def string_bytes(type_name: str) -> int | None:
    """Number of bytes n of ``string[n]``; None for another type."""
    match = _STRING.match(type_name)
    return int(match.group(1)) if match else None


def width_of(type_name: str) -> int:
    """Registers that a type takes. Raises ValueError for a type that Modbus registers cannot carry."""
    if type_name == "bool":
        return 1
    if type_name in NUMBERS:
        return NUMBERS[type_name].itemsize // 2
    if (size := string_bytes(type_name)) is not None:
        return (size + 1) // 2
    if type_name in ("int8", "uint8"):
        raise ValueError(f"a register has 16 bits; write {type_name.replace('8', '16')} instead of {type_name}")
    raise ValueError(f"type {type_name!r} cannot be read here; write one of bool, {', '.join(NUMBERS)}, string[n]")


def mask_of(byte_order: str | None, type_name: str) -> int:
    """
    Mask of a byte order for a type.

    Four letters mean for 64 bits: ABCD as it is, CDAB words reversed, BADC bytes swapped in each word, DCBA all
    reversed. For 16 bits and strings only the swap inside a word counts. Raises ValueError where a type above 16
    bits has no order, or the order has eight letters for 32 bits: a guess would be a wrong value.
    """
    size = NUMBERS[type_name].itemsize if type_name in NUMBERS else 2
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


@dataclass(frozen=True, slots=True)
class Decoded:
    """Columns of one image: float64[n]; what float64 cannot hold, by row; rows whose text was repaired."""

    value: NDArray[np.float64]
    exact: dict[int, Exact] = field(default_factory=dict)
    repaired: list[int] = field(default_factory=list)


class Decoder:
    """
    Decodes images of one layout; row i is ``places[i]``: a field and the offset of its first byte.

    Everything that does not depend on the values is computed here once.
    """

    def __init__(self, places: Sequence[tuple[Field, int]]) -> None:
        self._count = len(places)
        groups: dict[str, list[int]] = {}
        self._text: list[tuple[int, Field, NDArray[np.intp]]] = []
        for row, (item, offset) in enumerate(places):
            if item.type.startswith("string"):
                padded = item.size + item.size % 2
                index = offset + (np.arange(padded, dtype=np.intp) ^ item.mask)
                self._text.append((row, item, index[: item.size]))
            else:
                groups.setdefault(item.type, []).append(row)
        self._groups: list[tuple[str, NDArray[np.intp], NDArray[np.intp]]] = []
        for type_name, rows in groups.items():
            size = places[rows[0]][0].size
            starts = np.array([places[row][1] for row in rows], np.intp)[:, None]
            masks = np.array([places[row][0].mask for row in rows], np.intp)[:, None]
            self._groups.append((type_name, np.array(rows, np.intp), starts + (np.arange(size)[None, :] ^ masks)))
        #: Bit of each bool in a register, in the order of its group; -1: any bit.
        self._bits = np.array(
            [-1 if (bit := places[row][0].bit) is None else bit for row in groups.get("bool", [])], np.int64
        )

    def decode(self, image: NDArray[np.uint8]) -> Decoded:
        """Columns of *image*, which must be at least as long as the layout. Never raises for what a device sends."""
        out = Decoded(np.full(self._count, np.nan))
        for type_name, rows, index in self._groups:
            raw = image[index]
            if type_name == "coil":
                out.value[rows] = raw[:, 0]
            elif type_name == "bool":
                words = raw.view(">u2")[:, 0].astype(np.int64)
                out.value[rows] = np.where(self._bits < 0, words != 0, words >> np.maximum(self._bits, 0) & 1)
            else:
                numbers = raw.view(NUMBERS[type_name])[:, 0]
                with np.errstate(invalid="ignore"):  # a signalling NaN is data here
                    out.value[rows] = numbers
                if numbers.dtype.itemsize == 8 and numbers.dtype.kind in "iu":
                    wide = numbers > _EXACT_LIMIT
                    if numbers.dtype.kind == "i":
                        wide |= numbers < -_EXACT_LIMIT
                    for place in np.flatnonzero(wide):
                        out.exact[int(rows[place])] = int(numbers[place])
        for row, item, index in self._text:
            text, whole = _text(image[index].tobytes(), item.encoding)
            out.exact[row] = text
            if not whole:
                out.repaired.append(row)
        return out


def _text(raw: bytes, encoding: str) -> tuple[str, bool]:
    """
    Text without the NULs that pad its end, and whether nothing had to be repaired.

    Undecodable bytes and NULs inside become U+FFFD (no SQL text column takes a NUL).
    """
    try:
        text, whole = raw.decode(encoding), True
    except UnicodeDecodeError:
        text, whole = raw.decode(encoding, errors="replace"), False
    text = text.rstrip("\0")
    if "\0" in text:
        return text.replace("\0", "\ufffd"), False
    return text, whole
