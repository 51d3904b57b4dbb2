"""
Values of text and JSON, as the two columns of a batch: a float64, and ``exact`` where float64 cannot hold it.

Nothing is guessed: a text that is not wholly a number where a number belongs is refused, and the refusal says why.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from schemas import status
from schemas.samples import Exact

#: (number or NaN, what float64 cannot hold or None)
Value = tuple[float, Exact | None]
#: Raises ValueError with a text for people.
Converter = Callable[[object], Value]
Numbers = Literal["point", "comma"]
QualityFormat = Literal["text", "opcua", "classic"]

#: Integers up to here are exact in float64.
SAFE_INTEGER: Final = 2**53

_POINT: Final = re.compile(r"^[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$")
_COMMA: Final = re.compile(r"^[+-]?(?:[0-9]+(?:,[0-9]*)?|,[0-9]+)(?:[eE][+-]?[0-9]+)?$")
_INTEGER: Final = re.compile(r"^[+-]?[0-9]+$")
_LONGEST_INTEGER: Final = 40
_INTEGERS: Final[dict[str, tuple[int, int]]] = {
    **{f"int{n}": (-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (8, 16, 32, 64)},
    **{f"uint{n}": (0, 2**n - 1) for n in (8, 16, 32, 64)},
}
_FLOATS: Final = ("float32", "float64")
_TEXT: Final = re.compile(r"^(string|bytes)(?:\[[0-9]+\])?$")
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
#: Words of a switch, for a tag that is declared as one; an inverted contact is ``scale: {factor: -1, offset: 1}``.
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "1", "on", "yes"), 1.0),
    **dict.fromkeys(("false", "0", "off", "no"), 0.0),
}
_WORDS: Final = {"good": status.GOOD, "uncertain": status.UNCERTAIN, "bad": status.BAD} | {
    status.name(code).lower(): code
    for code in vars(status).values()
    if type(code) is int and code != status.OVERFLOW_MASK
}


def known_type(name: str | None) -> bool:
    """Whether a tag's declared type is one that text and JSON can carry."""
    return name is None or name == "bool" or name in _INTEGERS or name in _FLOATS or _TEXT.match(name) is not None


def from_json(name: str | None, numbers: Numbers = "point") -> Converter:
    """Converter of decoded JSON for a tag of this declared type; without a type JSON's own decides."""
    if name is None:
        return _untyped
    return _of_type(name, numbers)


def from_text(name: str | None, numbers: Numbers = "point") -> Converter:
    """Converter of a text (a CSV cell, a plain payload); without a type the text must be a number or true/false."""
    if name is None:
        return lambda value: _guess(str(value), numbers)
    return _of_type(name, numbers)


def _guess(text: str, numbers: Numbers) -> Value:
    boolean = text.strip().lower()
    return (_BOOLEANS[boolean], None) if boolean in ("true", "false") else _number(text, numbers)


def _of_type(name: str, numbers: Numbers) -> Converter:
    if name == "bool":
        return _boolean
    if name in _INTEGERS:
        low, high = _INTEGERS[name]
        return lambda value: _integer(value, numbers, name, low, high)
    if name in _FLOATS:
        return lambda value: _number(value, numbers)
    match = _TEXT.match(name)
    if match is None:
        raise ValueError(f"type {name!r} is not one of bool, int8..uint64, float32, float64, string[n], bytes[n]")
    return _text if match.group(1) == "string" else _bytes


def too_deep(payload: bytes, limit: int) -> bool:
    """Whether JSON nests deeper than *limit*, found before anything is built from it."""
    if payload.count(b"[") + payload.count(b"{") <= limit:
        return False
    depth = 0
    for match in _BRACKETS.finditer(_STRINGS.sub(b"", payload)):
        depth += 1 if match.group() in b"[{" else -1
        if depth > limit:
            return True
    return False


def parse_number(text: str, numbers: Numbers = "point") -> int | float:
    """
    Number of a whole text; integers stay exact.

    Raises:
        ValueError: anything else, such as ``1e400``, ``0x1F``, ``NaN``, ``1 000`` or the other decimal mark.
    """
    body = text.strip(" \t\r\n")
    if _INTEGER.match(body):
        if len(body) > _LONGEST_INTEGER:
            raise ValueError("number does not fit 64 bit")
        return int(body)
    if (_POINT if numbers == "point" else _COMMA).match(body) is None:
        raise ValueError(f"{body[:40]!r} is not a number with decimal {numbers}")
    number = float(body.replace(",", "."))
    if math.isinf(number):
        raise ValueError(f"{body[:40]!r} is beyond float64")
    return number


def _number(value: object, numbers: Numbers) -> Value:
    if isinstance(value, str):
        value = parse_number(value, numbers)
    if isinstance(value, float):
        return value, None
    if isinstance(value, int):
        if -SAFE_INTEGER <= value <= SAFE_INTEGER:
            return float(value), None
        if not -(2**63) <= value < 2**64:
            raise ValueError("number does not fit 64 bit")
        return float(value), value
    raise ValueError(f"{_kind(value)} where a number belongs")


def _integer(value: object, numbers: Numbers, name: str, low: int, high: int) -> Value:
    number, exact = _number(value, numbers)
    if not math.isfinite(number) or number != math.floor(number):
        raise ValueError(f"{str(value)[:40]} is not an {name}")
    if not low <= (exact if isinstance(exact, int) else int(number)) <= high:
        raise ValueError(f"{str(value)[:40]} is outside {name}")
    return number, exact


def _boolean(value: object) -> Value:
    number = _BOOLEANS.get(str(value).strip().lower()) if isinstance(value, bool | int | str) else None
    if number is None:
        raise ValueError(f"{str(value)[:40]!r} is not true, false, 1, 0, on, off, yes or no")
    return number, None


def _text(value: object) -> Value:
    if isinstance(value, bool | int | float):
        try:
            return math.nan, msgspec.json.encode(value).decode()
        except OverflowError as error:
            raise ValueError("number does not fit 64 bit") from error
    if not isinstance(value, str):
        raise ValueError(f"{_kind(value)} where a text belongs")
    return math.nan, value


def _bytes(value: object) -> Value:
    if not isinstance(value, bytes):
        raise ValueError(f"{_kind(value)} where bytes belong")
    return math.nan, value


def _untyped(value: object) -> Value:
    if isinstance(value, str):
        return math.nan, value
    if isinstance(value, list | dict):
        try:
            msgspec.msgpack.encode(value)
        except (OverflowError, TypeError) as error:
            raise ValueError("something in the structure fits no JSON value of 64 bit") from error
        return math.nan, value
    return _number(value, "point")


def _kind(value: object) -> str:
    return {list: "an array", dict: "an object", str: "a text", type(None): "null"}.get(type(value), "another type")


def quality(value: object, form: QualityFormat = "text") -> int | None:
    """
    StatusCode of a quality mark, or None where it says nothing we know.

    ``text``: good, uncertain, bad, a StatusCode's name, true or false. ``opcua``: a StatusCode number.
    ``classic``: OPC DA and Sparkplug, 192 good, 64 uncertain, 0 bad. The numbers contradict each other at 0, so
    the form is never guessed.
    """
    if form == "text":
        if isinstance(value, bool):
            return status.GOOD if value else status.BAD
        return _WORDS.get(value.strip().lower()) if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    if form == "opcua":
        return value if 0 <= value < 2**32 else None
    if not 0 <= value < 256:
        return None
    return (status.BAD, status.UNCERTAIN, None, status.GOOD)[value >> 6]
