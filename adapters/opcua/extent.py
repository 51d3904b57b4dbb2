"""
Where an encoded value ends, without decoding it: what a value that cannot be read costs its neighbours is nothing.

Source: OPC UA Part 6, 5.2.2 (the encoding of each built-in type) and 5.2.2.16 (Variant).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from asyncua.ua.uaerrors import UaStructParsingError

#: Levels of Variants within Variants; Part 6, 5.1.5 wants 100, and no value in use comes near either.
_DEEPEST: Final = 50
#: Bytes of each type of fixed size.
_FIXED: Final[Mapping[int, int]] = {
    0: 0, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, 13: 8, 14: 16, 19: 4,
}  # fmt: skip
#: Encoding byte of a NodeId to the bytes of its namespace and identifier; behind 3 and 5 a length follows.
_NODE_IDS: Final[Mapping[int, int]] = {0: 1, 1: 3, 2: 6, 3: 2, 4: 18, 5: 2}
#: Mask bit to bytes of the fields of a DataValue behind its value.
_DATA_VALUE: Final = ((2, 4), (4, 8), (16, 2), (8, 8), (32, 2))


def variant(body: bytes, offset: int, depth: int = 0) -> int:
    """
    Offset behind the Variant that begins at *offset*.

    Raises UaStructParsingError for a type that the standard does not have, and for a value that ends behind *body*.
    """
    if depth > _DEEPEST:
        raise UaStructParsingError(f"a Variant of more than {_DEEPEST} levels")
    head = _byte(body, offset)
    size, of = _FIXED.get(head & 0x3F), _OTHERS.get(head & 0x3F)
    if size is None and of is None:
        raise UaStructParsingError(f"a Variant of type {head & 0x3F}")
    end, count = offset + 1, 1
    if head & 0x80:
        count, end = max(_length(body, end), 0), end + 4
        if count > len(body) - end:  # elements without a size would fill a decoder's memory before they end
            raise UaStructParsingError(f"an array of {count} elements in a message of {len(body)} bytes")
    if size is not None:
        end += count * size
    elif of is not None:
        for _ in range(count):
            end = of(body, end, depth + 1)
    if head & 0x40:
        end += 4 + 4 * max(_length(body, end), 0)
    if end > len(body):
        raise UaStructParsingError("the message ends within a value")
    return end


def _byte(body: bytes, offset: int) -> int:
    if offset >= len(body):
        raise UaStructParsingError("the message ends within a value")
    return body[offset]


def _length(body: bytes, offset: int) -> int:
    if offset + 4 > len(body):
        raise UaStructParsingError("the message ends within a value")
    [length] = struct.unpack_from("<i", body, offset)
    return int(length)


def _text(body: bytes, offset: int, depth: int = 0) -> int:  # noqa: ARG001 - all of _OTHERS have one form
    return offset + 4 + max(_length(body, offset), 0)


def _node_id(body: bytes, offset: int, depth: int = 0) -> int:
    head = _byte(body, offset)
    kind = head & 0x3F
    if kind not in _NODE_IDS:
        raise UaStructParsingError(f"a NodeId of encoding {kind}")
    end = offset + 1 + _NODE_IDS[kind]
    if kind in (3, 5):
        end = _text(body, end, depth)
    if head & 0x80:
        end = _text(body, end, depth)
    return end + 4 * bool(head & 0x40)


def _qualified_name(body: bytes, offset: int, depth: int) -> int:
    return _text(body, offset + 2, depth)


def _localized_text(body: bytes, offset: int, depth: int) -> int:
    mask, end = _byte(body, offset), offset + 1
    for bit in (1, 2):
        if mask & bit:
            end = _text(body, end, depth)
    return end


def _extension_object(body: bytes, offset: int, depth: int) -> int:
    end = _node_id(body, offset, depth)
    return _text(body, end + 1, depth) if _byte(body, end) else end + 1


def _data_value(body: bytes, offset: int, depth: int) -> int:
    mask, end = _byte(body, offset), offset + 1
    if mask & 1:
        end = variant(body, end, depth)
    return end + sum(size for bit, size in _DATA_VALUE if mask & bit)


def _diagnostic_info(body: bytes, offset: int, depth: int) -> int:
    if depth > _DEEPEST:
        raise UaStructParsingError(f"a DiagnosticInfo of more than {_DEEPEST} levels")
    mask = _byte(body, offset)
    end = offset + 1 + 4 * (mask & 0x0F).bit_count()
    if mask & 0x10:
        end = _text(body, end, depth)
    end += 4 * bool(mask & 0x20)
    return _diagnostic_info(body, end, depth + 1) if mask & 0x40 else end


#: Types without a fixed size; 26 to 31 are reserved and read as ByteString (Part 6, 5.1.2).
_OTHERS: Final[Mapping[int, Callable[[bytes, int, int], int]]] = {
    12: _text, 15: _text, 16: _text, 17: _node_id, 18: _node_id, 20: _qualified_name, 21: _localized_text,
    22: _extension_object, 23: _data_value, 24: variant, 25: _diagnostic_info, **dict.fromkeys(range(26, 32), _text),
}  # fmt: skip
