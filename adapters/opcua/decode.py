"""
One value of the library, and one time of the wire, as a batch has them.

A number goes into ``value`` as float64. What float64 cannot hold goes into ``exact``: text, date (RFC 3339), GUID,
bytes, localized text, arrays, structures, and integers beyond 2**53, which put the nearest float beside it. A Bad
status carries no value at all, whatever the server sent with it.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from schemas.documents import rfc3339
from schemas.samples import Exact

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Integers up to here are a float64 exactly.
EXACT_INTEGERS: Final = 1 << 53
#: Outside these, int64 nanoseconds do not reach; 1601 and 9999 mean "no timestamp" (A19).
_FIRST, _LAST = datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)
#: The wire counts 100 ns since 1601 (Part 6, 5.2.2.5).
_TICKS_1970: Final = 116_444_736_000_000_000
_FIRST_TICK: Final = int((_FIRST - _EPOCH).total_seconds()) * 10**7 + _TICKS_1970
_LAST_TICK: Final = int((_LAST - _EPOCH).total_seconds()) * 10**7 + _TICKS_1970
_PLAIN_TICKS: Final = _LAST_TICK - _TICKS_1970 - 10
_ALL_TICKS: Final = 2_650_467_743_990_000_000  # 9999-12-31T23:59:59, the largest time of the standard
_DEEPEST = 16

_NAN: Final = math.nan


class Stamp(datetime):
    """A time of the wire, with the 100 ns that a datetime drops (A19): ``ns`` is UTC ns since 1970, unbounded."""

    ns: int

    @classmethod
    def of(cls, ticks: int) -> Stamp:
        """From 100 ns since 1601; before and behind the range of the standard, its ends."""
        ticks = min(max(ticks, 0), _ALL_TICKS)
        whole = datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10)
        one = cls.combine(whole.date(), whole.timetz())
        one.ns = (ticks - _TICKS_1970) * 100
        return one


def ticks_ns(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """UTC ns of times of the wire; 0 where there is none, by the rule of :func:`time_ns`."""
    since = ticks - _TICKS_1970  # wraps only where the range is left anyway
    if since.size and (since - 10).view(np.uint64).max() < _PLAIN_TICKS:  # all of them after 1970, in one comparison
        return since * 100
    there = (ticks >= _FIRST_TICK) & (ticks < _LAST_TICK) & ((since < 0) | (since >= 10))
    ns: NDArray[np.int64] = np.where(there, since, 0) * 100
    return ns


def time_ns(stamp: datetime | None) -> int:
    """UTC ns of a timestamp; 0 where there is none (null, 1601, 9999, the very start of 1970)."""
    if stamp is None:
        return 0
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC)
    if not _FIRST <= stamp < _LAST:
        return 0
    ns = _whole_ns(stamp)
    return 0 if 0 <= ns < 1000 else ns


def _whole_ns(stamp: datetime) -> int:
    if isinstance(stamp, Stamp):
        return stamp.ns
    since = stamp - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def number_or_exact(variant: ua.Variant | None) -> tuple[float, Exact | None]:
    """The value column and the exact value of one variant; ``(nan, None)`` for a null."""
    if variant is None or variant.Value is None:
        return _NAN, None
    value = variant.Value
    if type(value) is float:
        return value, None
    if isinstance(value, int):  # also bool and the library's enumerations
        number = int(value)
        return float(number), None if -EXACT_INTEGERS <= number <= EXACT_INTEGERS else number
    if isinstance(value, ua.StatusCode):
        return float(value.value), None
    exact = _plain(value, 0)
    if isinstance(exact, bool | float) or exact is None:
        return (_NAN if exact is None else float(exact)), None
    return _NAN, exact


def plain(value: Any) -> Any:
    """A library value as text, number, bytes, list or dict."""
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> Any:
    """Text, number, bytes, list or dict of a library value, at most 16 levels deep."""
    if value is None or isinstance(value, str | bytes | bool | float):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        return rfc3339(_whole_ns(value if value.tzinfo else value.replace(tzinfo=UTC)))
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, ua.LocalizedText):
        return value.Text or ""
    if isinstance(value, ua.NodeId | ua.QualifiedName):
        return value.to_string()
    if depth >= _DEEPEST:
        return repr(value)
    if isinstance(value, ua.ExtensionObject):
        return {"type": value.TypeId.to_string(), "body": value.Body or b""}
    if isinstance(value, ua.Variant):
        return _plain(value.Value, depth + 1)
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name), depth + 1) for part in fields(value) if part.repr}
    return str(value)
