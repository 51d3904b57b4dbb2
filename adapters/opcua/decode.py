"""
DataValues of the library into the columns of a batch, in one pass.

A number goes into ``value`` as float64. What float64 cannot hold goes into ``exact``: text, date (RFC 3339), GUID,
bytes, localized text, arrays, structures, and integers beyond 2**53, which put the nearest float beside it. A Bad
status carries no value at all, whatever the server sent with it.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from asyncua import ua

from schemas.documents import rfc3339
from schemas.samples import Exact, SampleBatch
from schemas.status import OVERFLOW_MASK, Flag

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT_INTEGERS: Final = 1 << 53
#: Outside these, int64 nanoseconds do not reach; 1601 and 9999 mean "no timestamp" (A19).
_FIRST, _LAST = datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)
_DEEPEST = 16

_NAN: Final = math.nan


def time_ns(stamp: datetime | None) -> int:
    """UTC ns of a timestamp; 0 where there is none (null, 1601, 9999, the very start of 1970)."""
    if stamp is None:
        return 0
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC)
    if not _FIRST <= stamp < _LAST:
        return 0
    return _whole_ns(stamp)


def _whole_ns(stamp: datetime) -> int:
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
        return float(number), None if -_EXACT_INTEGERS <= number <= _EXACT_INTEGERS else number
    if isinstance(value, ua.StatusCode):
        return float(value.value), None
    exact = _plain(value, 0)
    if isinstance(exact, bool | float) or exact is None:
        return (_NAN if exact is None else float(exact)), None
    return _NAN, exact


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


@dataclass(slots=True)
class Times:
    """
    What one batch leaves for the next of the same source.

    ``arrival_ns`` is the last time given to a row without source time, ``last_ns`` the last source time of each tag.
    """

    arrival_ns: int = 0
    last_ns: dict[int, int] = field(default_factory=dict)

    def arrival(self, received_ns: int) -> int:
        """A time of arrival, strictly increasing per source."""
        self.arrival_ns = max(received_ns, self.arrival_ns + 1)
        return self.arrival_ns


@dataclass(frozen=True, slots=True)
class Hole:
    """Values of these tags that the server's queue lost, between two source times."""

    tags: tuple[int, ...]
    from_ns: int
    to_ns: int


class Columns:
    """Rows collected for one batch."""

    def __init__(self, received_ns: int, times: Times) -> None:
        self.received_ns = received_ns
        self._times = times
        self._tag: list[int] = []
        self._source_ns: list[int] = []
        self._server_ns: list[int] = []
        self._value: list[float] = []
        self._status: list[int] = []
        self._flags: list[int] = []
        self._exact: dict[int, Exact] = {}
        self._overflowed: list[int] = []

    def __len__(self) -> int:
        return len(self._tag)

    @property
    def tags(self) -> frozenset[int]:
        """The tags that have rows."""
        return frozenset(self._tag)

    @property
    def overflowed(self) -> int:
        """Number of rows before which the server's queue lost values."""
        return len(self._overflowed)

    @property
    def latest_ns(self) -> int:
        """The latest source time, 0 without rows."""
        return max(self._source_ns, default=0)

    def extend(self, rows: Iterable[tuple[int, ua.DataValue]]) -> None:
        """Append (tag number, DataValue) rows in order."""
        for tag, data in rows:
            code = 0 if data.StatusCode is None else data.StatusCode.value
            number, exact = (_NAN, None) if code >> 31 else number_or_exact(data.Value)
            flags = 0
            if exact is not None:
                self._exact[len(self._tag)] = exact
            elif number != number and not code >> 31 and data.Value is not None and data.Value.Value is not None:
                flags = int(Flag.NAN)
            if code & OVERFLOW_MASK == OVERFLOW_MASK:
                flags |= int(Flag.OVERFLOW)
                self._overflowed.append(len(self._tag))
            stamp = time_ns(data.SourceTimestamp)
            if not stamp:
                stamp = self._times.arrival(self.received_ns)
                flags |= int(Flag.ARRIVAL_TIME)
            self._append(tag, stamp, time_ns(data.ServerTimestamp), number, code, flags)

    def refuse(self, tag: int, code: int) -> None:
        """Append a row without value or source time: the server refused the item with this status."""
        stamp = self._times.arrival(self.received_ns)
        self._append(tag, stamp, 0, _NAN, code, int(Flag.ARRIVAL_TIME))

    def hole(self, covered_ns: int) -> Hole | None:
        """
        What the server's queue lost before rows of this batch.

        *covered_ns* is the time on our clock up to which everything had come (0: not known); a tag without a last
        time, as after a restart, lost values since then.
        """
        if not self._overflowed:
            return None
        last_ns = dict(self._times.last_ns)
        marked = set(self._overflowed)
        tags: set[int] = set()
        since, until = self.received_ns, 0
        for row, (tag, source_ns) in enumerate(zip(self._tag, self._source_ns, strict=True)):
            if row in marked:
                tags.add(tag)
                since = min(since, source_ns, last_ns.get(tag) or self._covered(source_ns, covered_ns))
                until = max(until, source_ns)
            last_ns[tag] = source_ns
        return Hole(tuple(sorted(tags)), since, until)

    def remember(self) -> None:
        """The batch is in the journal: its times are each tag's last."""
        self._times.last_ns.update(zip(self._tag, self._source_ns, strict=True))

    def _covered(self, source_ns: int, covered_ns: int) -> int:
        """A time on the device's clock before which nothing was lost; never later than the true one."""
        if not covered_ns or covered_ns < source_ns:
            return covered_ns or source_ns
        return source_ns - max(0, self.received_ns - covered_ns)  # its clock is behind ours by at most its whole delay

    def batch(self, source: str, map_revision: bytes) -> SampleBatch:
        """The rows as a batch."""
        return SampleBatch.build(
            source,
            map_revision,
            self.received_ns,
            tag=self._tag,
            source_ns=self._source_ns,
            value=self._value,
            status=self._status,
            flags=self._flags,
            server_ns=self._server_ns,
            exact=self._exact,
        )

    def _append(self, tag: int, source_ns: int, server_ns: int, value: float, code: int, flags: int) -> None:
        self._tag.append(tag)
        self._source_ns.append(source_ns)
        self._server_ns.append(server_ns)
        self._value.append(value)
        self._status.append(code)
        self._flags.append(flags)
