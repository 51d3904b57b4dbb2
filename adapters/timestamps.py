"""
Times written by a device or a file, as UTC nanoseconds since 1970.

Source of the text form: ISO 8601 / RFC 3339. Digits behind the nanosecond are cut.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

TimeFormat = Literal["iso8601", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"]


class TimeParser(Protocol):
    """
    Time of one sample; raises ValueError with a text for people.

    ``near_ns`` is when the sample came, where that is known: a local time that the clocks showed twice is the reading
    nearer to it, else the earlier one.
    """

    def __call__(self, value: object, near_ns: int | None = None) -> int:
        """UTC ns since 1970."""
        ...


_UNIT_NS: Final = {"epoch_s": 10**9, "epoch_ms": 10**6, "epoch_us": 10**3, "epoch_ns": 1}
_ISO: Final = re.compile(
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]+))?"
    r"\s*(Z|z|[+-][0-9]{2}:?[0-9]{2})?$"
)
_NUMBER: Final = re.compile(r"^([0-9]{1,19})(?:\.([0-9]{1,18}))?$")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_LIMIT_NS: Final = 2**63


def zone(name: str) -> tzinfo:
    """Time zone by IANA name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not an IANA time zone such as Europe/Paris") from error


def fits(time_ns: int) -> bool:
    """Whether a time fits into the 64 bits of a column."""
    return -_LIMIT_NS <= time_ns < _LIMIT_NS


def parser(form: TimeFormat | Literal["auto"], naive: tzinfo | None) -> TimeParser:
    """
    Parser for one form of time.

    ``naive`` is the zone of texts that name none; without it they are refused. ``auto`` takes ISO 8601 texts, and
    numbers as epoch time whose unit follows from its size (seconds below 1e11, then ms, us, ns).
    """
    if form == "iso8601":
        return lambda value, near_ns=None: _iso(value, naive, near_ns)
    if form == "auto":
        return lambda value, near_ns=None: _auto(value, naive, near_ns)
    unit_ns = _UNIT_NS[form]
    return lambda value, near_ns=None: _epoch(value, unit_ns)  # noqa: ARG005 - numbers are never ambiguous


def _auto(value: object, naive: tzinfo | None, near_ns: int | None) -> int:
    if isinstance(value, str) and _NUMBER.match(value.strip()) is None:
        return _iso(value, naive, near_ns)
    # An integer is compared as it is: one of 400 digits has no float.
    size = float(value) if isinstance(value, str) else value if isinstance(value, int | float) else 0.0
    unit = next((u for u, limit in zip(_UNIT_NS, (1e11, 1e14, 1e17), strict=False) if size < limit), "epoch_ns")
    return _epoch(value, _UNIT_NS[unit])


def _iso(value: object, naive: tzinfo | None, near_ns: int | None) -> int:
    match = _ISO.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"time {_shown(value)} is not an ISO 8601 text; name the right time_format")
    day, clock, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if offset in ('Z', 'z') else offset or ''}")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"time {_shown(value)}: {error}") from None
    if moment.tzinfo is None:
        if naive is None:
            raise ValueError(f"time {_shown(value)} names no zone; set timezone")
        moment = _local(moment.replace(tzinfo=naive), near_ns, value)
    try:
        seconds = (moment - _EPOCH) // _SECOND
    except OverflowError as error:  # a zone's offset at the edge of the years 1 and 9999
        raise ValueError(f"time {_shown(value)} is out of range") from error
    return _believable(seconds * 10**9 + int((fraction or "0")[:9].ljust(9, "0")), value)


def _local(moment: datetime, near_ns: int | None, value: object) -> datetime:
    """The reading of a local time that is meant. Raises ValueError for one that the clocks skipped (W9)."""
    try:
        later = moment.replace(fold=1)
        if moment.utcoffset() == later.utcoffset():
            return moment
        first, second = moment.astimezone(UTC), later.astimezone(UTC)
        if first.astimezone(moment.tzinfo).replace(tzinfo=None) != moment.replace(tzinfo=None):
            raise ValueError(f"time {_shown(value)} does not exist: the clocks were set forward over it")
    except OverflowError:
        return moment  # at the edge of the years 1 and 9999; refused behind this
    if near_ns is None:
        return first
    near = _EPOCH + timedelta(microseconds=near_ns // 1000)
    return min(first, second, key=lambda reading: abs(reading - near))


def _epoch(value: object, unit_ns: int) -> int:
    if isinstance(value, str):
        match = _NUMBER.match(value.strip())
        if match is None:
            raise ValueError(f"time {_shown(value)} is not a number")
        whole, fraction = match.groups()
        digits = fraction or ""
        return _believable(int(whole) * unit_ns + int(digits or "0") * unit_ns // 10 ** len(digits), value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"time {_shown(value)} is not a number")
    if isinstance(value, int):
        return _believable(value * unit_ns, value)
    if not 0 <= value * unit_ns < _LIMIT_NS:
        raise ValueError(f"time {_shown(value)} is out of range")
    # A double of today's epoch time carries about a quarter of a microsecond, so finer digits are noise.
    return round(value * unit_ns / 1000) * 1000


def _believable(ns: int, value: object) -> int:
    if not 0 <= ns < _LIMIT_NS:
        raise ValueError(f"time {_shown(value)} is out of range")
    return ns


def _shown(value: object) -> str:
    try:
        return repr(value)[:60]
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "of thousands of digits"
