"""Moments as people and programs write them: RFC 3339 with an offset, to the nanosecond."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

MOMENT: Final = re.compile(
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?\s*(Z|[+-]\d{2}:\d{2})$",
    re.IGNORECASE | re.ASCII,
)
_MOST: Final = 2**63 - 1
#: A plus sign that was not escaped in an address arrives as a space.
_SPACED: Final = re.compile(r"^\S+ \d{2}:\d{2}$")


def parse_moment(text: str) -> int:
    """
    UTC ns of a time with its offset (``2026-03-01T08:00:00Z``); digits of a second up to nine.

    What lies beyond 64 bits (before 1677, after 2262) is the nearest that lies within: people write 9999 for "no end".

    Raises:
        ValueError: it is none, or names no day or hour that there is; the text says which.
    """
    found = MOMENT.match(text.strip())
    if found is None:
        hint = "; write + as %2B in an address" if _SPACED.match(text.strip()) else ""
        raise ValueError(f"{text!r} is no time with its offset, such as 2026-03-01T08:00:00Z{hint}")
    day, minute, second, fraction, offset = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}{offset.upper()}")
        seconds = int(at.timestamp())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r}: {error}") from None
    exact = seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    return max(-_MOST - 1, min(exact, _MOST))
