"""Decoded DataValues as columns of one length, and the collector of those that come as the library's objects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from adapters.opcua.decode import number_or_exact, time_ns
from schemas.samples import Exact
from schemas.status import Flag


class Poison(NamedTuple):
    """A DataValue that could not be decoded: its ClientHandle, its bytes (the first 4096), and why."""

    tag: int
    raw: bytes
    reason: str


@dataclass(slots=True)
class Rows:
    """
    Decoded values, columns of one length.

    Attributes:
        tag: int64[n], the ClientHandle; 0 where the message has none (Read, HistoryRead).
        value: float64[n], NaN where there is no number or the status is Bad.
        status: uint32[n], all bits.
        source_ns: int64[n], UTC ns to the 100 ns of the wire; 0 where there is none (null, 1601, 9999, 1970).
        server_ns: int64[n], likewise.
        flags: uint32[n], ``Flag.NAN`` where the device said NaN, ``Flag.FLOAT32`` where the number is a Float.
        exact: row to the value that float64 cannot hold.
        general: number of values that took the library's decoder.
        poison: what could not be decoded; each of them is a row, too.
    """

    tag: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    source_ns: NDArray[np.int64]
    server_ns: NDArray[np.int64]
    flags: NDArray[np.uint32]
    exact: dict[int, Exact] = field(default_factory=dict)
    general: int = 0
    poison: list[Poison] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tag)

    def take(self, keep: NDArray[np.bool_]) -> Rows:
        """The rows where *keep* is true."""
        place = np.cumsum(keep) - 1
        return Rows(
            self.tag[keep],
            self.value[keep],
            self.status[keep],
            self.source_ns[keep],
            self.server_ns[keep],
            self.flags[keep],
            {int(place[row]): value for row, value in self.exact.items() if keep[row]},
            self.general,
            [one for one in self.poison if (self.tag[keep] == one.tag).any()],
        )

    @classmethod
    def join(cls, parts: list[Rows]) -> Rows:
        """Parts one after another."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return OneByOne().rows()
        exact: dict[int, Exact] = {}
        start = 0
        for part in parts:
            exact.update({start + row: value for row, value in part.exact.items()})
            start += len(part)
        return cls(
            np.concatenate([part.tag for part in parts]),
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.source_ns for part in parts]),
            np.concatenate([part.server_ns for part in parts]),
            np.concatenate([part.flags for part in parts]),
            exact,
            sum(part.general for part in parts),
            [one for part in parts for one in part.poison],
        )


class OneByOne:
    """Collects values that come as the library's objects."""

    __slots__ = ("_exact", "_flags", "_server_ns", "_source_ns", "_status", "_tag", "_value", "poison")

    def __init__(self) -> None:
        self._tag: list[int] = []
        self._value: list[float] = []
        self._status: list[int] = []
        self._source_ns: list[int] = []
        self._server_ns: list[int] = []
        self._flags: list[int] = []
        self._exact: dict[int, Exact] = {}
        self.poison: list[Poison] = []

    def add(self, tag: int, data: ua.DataValue) -> None:
        """Append a value."""
        status = 0 if data.StatusCode is None else int(data.StatusCode.value)
        number, exact = (math.nan, None) if status >> 31 else number_or_exact(data.Value)
        said = data.Value is not None and data.Value.Value is not None and not status >> 31
        if exact is not None:
            self._exact[len(self._tag)] = exact
        flag = 0
        if exact is None and said:
            assert data.Value is not None
            if number != number:
                flag = int(Flag.NAN)
            elif data.Value.VariantType is ua.VariantType.Float:
                flag = int(Flag.FLOAT32)
        self._flags.append(flag)
        self._tag.append(tag)
        self._value.append(number)
        self._status.append(status)
        self._source_ns.append(time_ns(data.SourceTimestamp))
        self._server_ns.append(time_ns(data.ServerTimestamp))

    def rows(self) -> Rows:
        """What was collected."""
        return Rows(
            np.array(self._tag, np.int64),
            np.array(self._value, np.float64),
            np.array(self._status, np.uint32),
            np.array(self._source_ns, np.int64),
            np.array(self._server_ns, np.int64),
            np.array(self._flags, np.uint32),
            self._exact,
            len(self._tag),
            self.poison,
        )
