"""
Where an encoded value ends, without decoding it: what a value that cannot be read costs its neighbours is nothing.

Source: OPC UA Part 6, 5.2.2 (the encoding of each built-in type) and 5.2.2.16 (Variant).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from asyncua.ua.uaerrors import UaStructParsingError

#: Levels of Variants within Variants; Part 6, 5.1.5 wants 100, and no value in use comes near either.
_DEEPEST: Final = 50
#: Lists without an element that an array may consist of.
_MOST_EMPTY: Final = 1000
#: Bytes of each type of fixed size.
_FIXED: Final[Mapping[int, int]] = {
    0: 0, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, 13: 8, 14: 16, 19: 4,
}  # fmt: skip
#: Encoding byte of a NodeId to the bytes of its namespace and identifier; behind 3 and 5 a length follows.
_NODE_IDS: Final[Mapping[int, int]] = {0: 1, 1: 3, 2: 6, 3: 2, 4: 18, 5: 2}
#: Mask bit to bytes of the fields of a DataValue behind its value.
_DATA_VALUE: Final = ((2, 4), (4, 8), (16, 2), (8, 8), (32, 2))


@dataclass(slots=True)
class _Walk:
    """Where a walk is, and whether an array on its way has other dimensions than elements."""

    depth: int = 0
    misshapen: bool = False


def variant(body: bytes, offset: int) -> tuple[int, bool]:
    """
    Offset behind the Variant that begins at *offset*, and whether it may be decoded.

    An array whose dimensions do not agree with its length may not: a decoder would make as many lists as they say.
    Raises UaStructParsingError for a type that the standard does not have, and for a value that ends behind *body*.
    """
    walk = _Walk()
    end = _variant(body, offset, walk)
    return end, not walk.misshapen


def _variant(body: bytes, offset: int, walk: _Walk) -> int:
    if walk.depth > _DEEPEST:
        raise UaStructParsingError(f"a Variant of more than {_DEEPEST} levels")
    walk.depth += 1
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
            end = of(body, end, walk)
    if head & 0x40:
        rank = max(_length(body, end), 0)
        end += 4
        if end + 4 * rank > len(body):
            raise UaStructParsingError("the message ends within a value")
        dimensions = struct.unpack_from(f"<{rank}i", body, end)
        end += 4 * rank
        walk.misshapen |= rank > 0 and not _agree(dimensions, count)
    if end > len(body):
        raise UaStructParsingError("the message ends within a value")
    walk.depth -= 1
    return end


def _agree(dimensions: Sequence[int], count: int) -> bool:
    """Whether an array of *count* elements can have these dimensions, and makes no more lists than it should."""
    lists = math.prod(size for size in dimensions if size)
    return min(dimensions) >= 0 and math.prod(dimensions) == count and lists <= max(count, _MOST_EMPTY)


def _byte(body: bytes, offset: int) -> int:
    if offset >= len(body):
        raise UaStructParsingError("the message ends within a value")
    return body[offset]


def _length(body: bytes, offset: int) -> int:
    if offset + 4 > len(body):
        raise UaStructParsingError("the message ends within a value")
    [length] = struct.unpack_from("<i", body, offset)
    return int(length)


def _text(body: bytes, offset: int, walk: _Walk) -> int:  # noqa: ARG001 - all of _OTHERS have one form
    return offset + 4 + max(_length(body, offset), 0)


def _node_id(body: bytes, offset: int, walk: _Walk) -> int:
    head = _byte(body, offset)
    kind = head & 0x3F
    if kind not in _NODE_IDS:
        raise UaStructParsingError(f"a NodeId of encoding {kind}")
    end = offset + 1 + _NODE_IDS[kind]
    if kind in (3, 5):
        end = _text(body, end, walk)
    if head & 0x80:
        end = _text(body, end, walk)
    return end + 4 * bool(head & 0x40)


def _qualified_name(body: bytes, offset: int, walk: _Walk) -> int:
    return _text(body, offset + 2, walk)


def _localized_text(body: bytes, offset: int, walk: _Walk) -> int:
    mask, end = _byte(body, offset), offset + 1
    for bit in (1, 2):
        if mask & bit:
            end = _text(body, end, walk)
    return end


def _extension_object(body: bytes, offset: int, walk: _Walk) -> int:
    end = _node_id(body, offset, walk)
    return _text(body, end + 1, walk) if _byte(body, end) else end + 1


def _data_value(body: bytes, offset: int, walk: _Walk) -> int:
    mask, end = _byte(body, offset), offset + 1
    if mask & 1:
        end = _variant(body, end, walk)
    return end + sum(size for bit, size in _DATA_VALUE if mask & bit)


def _diagnostic_info(body: bytes, offset: int, walk: _Walk) -> int:
    if walk.depth > _DEEPEST:
        raise UaStructParsingError(f"a DiagnosticInfo of more than {_DEEPEST} levels")
    mask = _byte(body, offset)
    end = offset + 1 + 4 * (mask & 0x0F).bit_count()
    if mask & 0x10:
        end = _text(body, end, walk)
    end += 4 * bool(mask & 0x20)
    if mask & 0x40:
        walk.depth += 1
        end = _diagnostic_info(body, end, walk)
        walk.depth -= 1
    return end


#: Types without a fixed size; 26 to 31 are reserved and read as ByteString (Part 6, 5.1.2).
_OTHERS: Final[Mapping[int, Callable[[bytes, int, _Walk], int]]] = {
    12: _text, 15: _text, 16: _text, 17: _node_id, 18: _node_id, 20: _qualified_name, 21: _localized_text,
    22: _extension_object, 23: _data_value, 24: _variant, 25: _diagnostic_info, **dict.fromkeys(range(26, 32), _text),
}  # fmt: skip
