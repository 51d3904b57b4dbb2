"""
Registers and coils to numbers: one gather over the whole image of a poll, whatever the types and byte orders.

The bytes A, B, C, .. of a value are big-endian (A is the most significant); a byte order names them as they stand on
the wire. Every order in use moves byte i to place ``i ^ mask`` (swap of bytes in a word = 1, of words = 2, of double
words = 4), so that one number says it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.modbus.types import NUMBERS, Field
from schemas.samples import Exact

#: Largest magnitude up to which float64 holds every integer.
_EXACT_LIMIT: Final = 2**53


@dataclass(frozen=True, slots=True)
class Decoded:
    """
    Columns of one image.

    Attributes:
        value: float64[n]; NaN where ``exact`` has the value, or there is none.
        exact: what float64 cannot hold, by row.
        repaired: rows whose text was repaired.
        undecodable: rows whose registers are no value of the type (a BCD digit above 9).
    """

    value: NDArray[np.float64]
    exact: dict[int, Exact] = field(default_factory=dict)
    repaired: list[int] = field(default_factory=list)
    undecodable: list[int] = field(default_factory=list)


class _Group(NamedTuple):
    """Elements of one type: their bytes are ``begin:end`` of what was gathered, their values go to ``elements``."""

    kind: str
    size: int
    begin: int
    end: int
    elements: NDArray[np.intp]
    bit: NDArray[np.int64]
    bits: NDArray[np.int64]
    signed: NDArray[np.bool_]


class _Text(NamedTuple):
    row: int
    field: Field
    places: NDArray[np.intp]


class _Array(NamedTuple):
    row: int
    field: Field
    first: int


class Decoder:
    """
    Decodes images of one layout; row i is ``places[i]``: a field, the offset of its first byte, and for coils the bit
    in that byte.

    Everything that does not depend on the values is computed here once. Elements of arrays are decoded behind the
    rows, like rows of their own, and then put together.
    """

    def __init__(self, places: Sequence[tuple[Field, int, int]]) -> None:
        self._rows = len(places)
        self._texts: list[_Text] = []
        self._arrays: list[_Array] = []
        elements: dict[tuple[str, int], list[tuple[int, Field, int, int]]] = {}
        count = self._rows
        for row, (item, offset, bit) in enumerate(places):
            if item.kind in ("string", "bytes"):
                self._texts.append(_Text(row, item, _characters(item, offset)))
            elif item.elements:
                self._arrays.append(_Array(row, item, count))
                for i in range(item.elements):
                    at = 8 * offset + bit + i if item.kind == "coil" else 8 * (offset + i * item.size)
                    elements.setdefault((item.kind, item.size), []).append((count, item, at // 8, at % 8))
                    count += 1
            else:
                elements.setdefault((item.kind, item.size), []).append((row, item, offset, bit))
        self._elements = count
        self._groups: list[_Group] = []
        parts: list[NDArray[np.intp]] = []
        begin = 0
        for (kind, size), group in elements.items():
            starts = np.array([offset for _, _, offset, _ in group], np.intp)[:, None]
            masks = np.array([item.mask for _, item, _, _ in group], np.intp)[:, None]
            parts.append((starts + (np.arange(size)[None, :] ^ masks)).ravel())
            end = begin + len(parts[-1])
            bits = [bit if kind == "coil" else -1 if item.bit is None else item.bit for _, item, _, bit in group]
            self._groups.append(
                _Group(
                    kind,
                    size,
                    begin,
                    end,
                    np.array([element for element, _, _, _ in group], np.intp),
                    np.array(bits, np.int64),
                    np.array([item.bits for _, item, _, _ in group], np.int64),
                    np.array([item.signed for _, item, _, _ in group], np.bool_),
                )
            )
            begin = end
        self._index = np.concatenate(parts) if parts else np.empty(0, np.intp)
        #: First byte where the gather is a plain run of bytes.
        self._run = int(self._index[0]) if begin and bool((np.diff(self._index) == 1).all()) else None

    def decode(self, image: NDArray[np.uint8]) -> Decoded:
        """Columns of *image*, which must be at least as long as the layout. Never raises for what a device sends."""
        run = self._run
        raw = image[run : run + len(self._index)] if run is not None else image.take(self._index)
        values = np.full(self._elements, np.nan)
        exact: dict[int, Exact] = {}
        undecodable: list[int] = []
        for group in self._groups:
            part = raw[group.begin : group.end]
            if group.kind in NUMBERS:
                _numbers(group, part, values, exact)
            elif group.kind == "bcd":
                undecodable += _bcd(group, part, values)
            else:
                values[group.elements] = _bits(group, part)
        out = Decoded(values[: self._rows], exact, [], undecodable)
        if self._arrays:
            self._put_together(values, out)
        for row, item, places in self._texts:
            characters = image[places].tobytes()
            if item.kind == "bytes":
                exact[row] = characters
                continue
            text, whole = _text(characters, item.encoding)
            exact[row] = text
            if not whole:
                out.repaired.append(row)
        return out

    def _put_together(self, values: NDArray[np.float64], out: Decoded) -> None:
        for row, item, first in self._arrays:
            end = first + item.elements
            if any(first <= element < end for element in out.undecodable):
                out.undecodable.append(row)
                continue
            out.exact[row] = [_element(item, out.exact.pop(e, None), values[e]) for e in range(first, end)]
        if out.undecodable:
            out.undecodable[:] = [row for row in out.undecodable if row < self._rows]


def _characters(item: Field, offset: int) -> NDArray[np.intp]:
    """Where the bytes of a text lie, in the order of the text."""
    swap = item.mask & 1
    if item.location == "both":
        places = np.arange(item.length + item.length % 2, dtype=np.intp) ^ swap
    else:
        places = 2 * np.arange(item.length, dtype=np.intp) + (swap ^ (item.location == "lower"))
    return offset + places[: item.length]


def _numbers(group: _Group, part: NDArray[np.uint8], values: NDArray[np.float64], exact: dict[int, Exact]) -> None:
    numbers = part.view(NUMBERS[group.kind])
    with np.errstate(invalid="ignore"):  # a signalling NaN is data here
        values[group.elements] = numbers
    if numbers.dtype.itemsize == 8 and numbers.dtype.kind in "iu":
        wide = numbers > _EXACT_LIMIT
        if numbers.dtype.kind == "i":
            wide |= numbers < -_EXACT_LIMIT
        for place in np.flatnonzero(wide):
            exact[int(group.elements[place])] = int(numbers[place])


def _bits(group: _Group, part: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Coils, and bits of registers; a register without a bit is true for any value but 0."""
    words = part.view(">u2" if group.size == 2 else np.uint8).astype(np.int64)
    found = (words >> np.maximum(group.bit, 0)) & ((1 << group.bits) - 1)
    found = np.where(group.signed & (found >> (group.bits - 1) > 0), found - (1 << group.bits), found)
    return np.where(group.bit < 0, words != 0, found)


def _bcd(group: _Group, part: NDArray[np.uint8], values: NDArray[np.float64]) -> list[int]:
    """Two digits a byte; elements with a digit above 9 have no value and are returned."""
    raw = part.reshape(-1, group.size).astype(np.int64)
    wrong = ((raw >> 4 > 9) | (raw & 15 > 9)).any(axis=1)
    numbers = (raw >> 4) * 10 + (raw & 15)
    places = 100 ** np.arange(group.size - 1, -1, -1)
    values[group.elements] = np.where(wrong, np.nan, numbers @ places)
    return [int(element) for element in group.elements[wrong]]


def _element(item: Field, exact: Exact | None, value: np.float64) -> Any:
    """One element of an array as JSON has it; a NaN or an infinity is null."""
    if exact is not None:
        return exact
    if item.kind in ("coil", "bits") and item.bits == 1:
        return bool(value)
    if item.kind.startswith("float"):
        return float(value) if np.isfinite(value) else None
    return int(value)


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
