"""
Quantities as they are written in configuration: ``500ms``, ``64MiB``, ``70%``.

A quantity carries its unit. A bare number is refused with the corrected text, and ``5m`` is refused because it could
be minutes or metres.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

_NUMBER: Final = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%]*)\s*$")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _split(text: object, units: dict[str, float], example: str) -> float:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"want a quantity such as {example}")
    match = _NUMBER.match(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a quantity; write it like {example}")
    number, unit = match.groups()
    if unit in units:
        return float(number) * units[unit]
    if not unit:
        raise ValueError(f"{text!r} has no unit; write {number}{next(iter(units))} or {number}{list(units)[1]}")
    if unit == "m":
        raise ValueError(f"{text!r} could be minutes or metres; write {number}min")
    raise ValueError(f"{text!r}: unit {unit!r} is not one of {', '.join(units)}")


def parse_duration(text: object) -> float:
    """Seconds of a duration such as ``500ms``, ``1s``, ``5min``, ``72h``, ``7d``. Raises ValueError."""
    return _split(text, _SECONDS, "500ms, 1s, 5min, 72h or 7d")


def parse_keep(text: object) -> float:
    """Seconds of a retention period: a duration, or months (``24mo``, 30 days each). Raises ValueError."""
    return _split(text, {**_SECONDS, "mo": 30 * 86400.0}, "72h, 90d or 24mo")


def parse_size(text: object) -> int:
    """Bytes of a size such as ``64MiB``. Raises ValueError."""
    return int(_split(text, {k: float(v) for k, v in _BYTES.items()}, "64MiB or 20GiB"))


def parse_share(text: object) -> float:
    """Fraction of a share such as ``70%``. Raises ValueError outside 0-100 %."""
    share = _split(text, {"%": 0.01}, "70%") if str(text).strip().endswith("%") else None
    if share is None:
        raise ValueError(f"{text!r} has no unit; write it like 70%")
    if share > 1:
        raise ValueError(f"{text!r} is more than 100%")
    return share


def _text(*examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": list(examples)})


#: Seconds, written as a duration.
Duration = Annotated[float, BeforeValidator(parse_duration), _text("500ms", "5min")]
#: Seconds, written as a duration or in months.
Keep = Annotated[float, BeforeValidator(parse_keep), _text("72h", "90d", "24mo")]
#: Bytes, written as a size.
Size = Annotated[int, BeforeValidator(parse_size), _text("64MiB")]
#: Fraction 0-1, written as a share.
Share = Annotated[float, BeforeValidator(parse_share), _text("70%")]
