"""
Values that float64 cannot hold: texts are made storable, wide integers are scaled where the tag asks for it.

Source of the rules: W15 (integers beyond 2**53), W17 (NUL, undecodable bytes), F28 (PostgreSQL refuses NUL in text).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.samples import Exact

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
#: Deeper structures are refused: JSON readers downstream give up at about 1,000 levels, SQL's own earlier.
_DEEPEST: Final = 64


class TooDeep(ValueError):
    """A structure nested deeper than any reader of records takes."""


def repair(item: Exact) -> Exact:
    """
    The value without NUL and lone surrogates; the same object where nothing had to change.

    Trailing NUL is padding and is cut, any other NUL and each lone surrogate become U+FFFD. Raises TooDeep.
    """
    if isinstance(item, int | bytes):
        return item
    if isinstance(item, str):
        return _text(item)
    fixed, changed = _tree(item, 0)
    return fixed if changed else item


def _text(text: str) -> str:
    if "\0" in text:
        text = text.rstrip("\0").replace("\0", _REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _tree(item: Any, depth: int) -> tuple[Any, bool]:
    if depth > _DEEPEST:
        raise TooDeep(f"nested deeper than {_DEEPEST} levels")
    if isinstance(item, str):
        text = _text(item)
        return text, text != item
    if isinstance(item, list):
        parts = [_tree(part, depth + 1) for part in item]
        return [part for part, _ in parts], any(changed for _, changed in parts)
    if isinstance(item, dict):
        pairs = [(_tree(key, depth + 1), _tree(part, depth + 1)) for key, part in item.items()]
        return {key[0]: part[0] for key, part in pairs}, any(key[1] or part[1] for key, part in pairs)
    return item, False


def as_number(item: Exact) -> float | None:
    """The integer as the nearest double (infinite beyond its range), None for anything else."""
    if isinstance(item, bool) or not isinstance(item, int):
        return None
    try:
        return float(item)
    except OverflowError:
        return float("inf") if item > 0 else float("-inf")


def encodable(item: Exact) -> bool:
    """Whether a fingerprint and a JSON column can be made of it."""
    if isinstance(item, bytes):
        return True
    try:
        msgspec.json.encode(item, order="sorted")
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return False
    return True
