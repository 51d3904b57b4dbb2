"""Types a tag may have, and the integers that fit into them."""

from __future__ import annotations

import re
from typing import Final

_TEXT: Final = re.compile(r"^(string|bytes)(?:\[([1-9][0-9]{0,4})\])?$")

#: Smallest and largest value of each type that holds integers only.
INTEGERS: Final[dict[str, tuple[int, int]]] = {
    "bool": (0, 1),
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    "bcd16": (0, 9999),
    "bcd32": (0, 99_999_999),
}
FLOATS: Final = frozenset({"float16", "float32", "float64"})
NAMES: Final = (*INTEGERS, *sorted(FLOATS), "string", "bytes")


def known(name: str) -> bool:
    """Whether *name* is a type: bool, int8..uint64, bcd16, bcd32, float16..float64, string[n], bytes[n]."""
    return name in INTEGERS or name in FLOATS or _TEXT.match(name) is not None


def is_number(name: str | None) -> bool:
    """Whether values of the type are numbers that want a unit; False where the type is the server's."""
    return name is not None and name != "bool" and (name in INTEGERS or name in FLOATS)
