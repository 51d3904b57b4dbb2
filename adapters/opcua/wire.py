"""
DataValues on the wire straight into columns: no Python object per value where their type has a fixed size.

Runs of one layout become numpy views, mixed layouts are gathered layout by layout. What has no fixed layout
(text, arrays, structures, dates) is decoded value by value with the library's own decoder; the fields around it are
still ours, so that times keep their 100 ns everywhere (A19) and picoseconds stand where the standard puts them (A23).
A value that the library cannot decode is a row with BadDecodingError, and its neighbours are what they were (A20).
Source: OPC UA Part 6, 5.2.2.17 (DataValue) and 5.2.2.16 (Variant).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import variant_from_binary
from asyncua.ua.uaerrors import UaStructParsingError
from numpy.typing import NDArray

from adapters.opcua import extent
from adapters.opcua.decode import EXACT_INTEGERS, Stamp, number_or_exact, ticks_ns, time_ns
from adapters.opcua.faults import DECODE_ERRORS, describe
from schemas.samples import Exact
from schemas.status import BAD_DECODING_ERROR, Flag

#: A run of one layout shorter than this is cheaper value by value.
SHORTEST_RUN: Final = 32
#: Values of mixed layouts decoded before a run is looked for again.
_LOT: Final = 1024
_GENERAL: Final = -1
_NAN: Final = math.nan
#: Bytes of a value that could not be decoded that are kept.
_MOST_RAW: Final = 4096
_DATE_TIME = 13
_BOOLEAN: Final = 1
_FLOAT: Final = 10
#: Numpy type of each Variant type of fixed size; 0 is the null Variant, 19 a StatusCode.
_TYPES: Final[Mapping[int, str]] = {
    0: "", 1: "u1", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8",
    19: "<u4",
}  # fmt: skip
_VALUE, _STATUS, _SOURCE, _SERVER, _SOURCE_PS, _SERVER_PS = 1, 2, 4, 8, 16, 32
#: What stands behind the value, in the order of the wire.
_FIELDS: Final = (
    (_STATUS, "<I", 4),
    (_SOURCE, "<q", 8),
    (_SOURCE_PS, "<H", 2),
    (_SERVER, "<q", 8),
    (_SERVER_PS, "<H", 2),
)


class _Layout(NamedTuple):
    """
    One mask with one Variant type, ``size`` bytes.

    ``dtype`` has the fields ``k`` (mask and type, or the mask alone), and where they are: ``h`` ClientHandle, ``v``
    value, ``s`` status, ``src`` and ``srv`` the two times.
    """

    size: int
    key: int
    variant: int
    dtype: np.dtype[np.void]


def _layout(mask: int, variant: int, *, handles: bool) -> _Layout:
    valued = bool(mask & _VALUE)
    parts = [("h", "<u4")] if handles else []
    parts.append(("k", "<u2" if valued else "u1"))
    if valued and _TYPES[variant]:
        parts.append(("v", _TYPES[variant]))
    optional = ((_STATUS, "s", "<u4"), (_SOURCE, "src", "<i8"), (_SOURCE_PS, "sp", "<u2"), (_SERVER, "srv", "<i8"),
                (_SERVER_PS, "vp", "<u2"))  # fmt: skip
    parts += [(name, kind) for bit, name, kind in optional if mask & bit]
    dtype = np.dtype(parts)
    return _Layout(dtype.itemsize, mask | variant << 8 if valued else mask, variant, dtype)


def _layouts(*, handles: bool) -> dict[int, _Layout]:
    """Every layout by its key: the mask, and the Variant's type in the second byte."""
    made = [
        _layout(mask, variant, handles=handles) for mask in range(64) for variant in (_TYPES if mask & _VALUE else (0,))
    ]
    return {one.key: one for one in made}


_WITH_HANDLES: Final = _layouts(handles=True)
_BARE: Final = _layouts(handles=False)


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
    """Collects values that the library's decoder made."""

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
        number, exact = (_NAN, None) if status >> 31 else number_or_exact(data.Value)
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


def _columns(view: NDArray[np.void], layout: _Layout) -> Rows:
    """A run of one layout."""
    n, names = len(view), view.dtype.names or ()
    none = np.zeros(n, np.int64)
    status = view["s"].astype(np.uint32) if "s" in names else np.zeros(n, np.uint32)
    flags = np.zeros(n, np.uint32)
    exact: dict[int, Exact] = {}
    if "v" in names:
        raw = view["v"]
        bad = status >> np.uint32(31) != 0 if "s" in names else None
        value = (raw != 0).astype(np.float64) if layout.variant == _BOOLEAN else raw.astype(np.float64)
        if layout.variant in (8, 9):
            large = np.abs(value) >= EXACT_INTEGERS
            for row in np.flatnonzero(large if bad is None else large & ~bad):
                number = int(raw[row])
                if not -EXACT_INTEGERS <= number <= EXACT_INTEGERS:
                    exact[int(row)] = number
        if bad is not None and bad.any():
            value[bad] = _NAN
        if layout.variant == _FLOAT:
            flags[:] = int(Flag.FLOAT32)
            if bad is not None:
                flags[bad] = 0
        if layout.variant in (_FLOAT, 11) and np.isnan(value.min()):
            said_nan = np.isnan(value)
            flags[said_nan if bad is None else said_nan & ~bad] = int(Flag.NAN)
    else:
        value = np.full(n, _NAN)
    if "src" in names and "srv" in names:  # both at once: the work is in the calls
        ticks = np.empty((2, n), np.int64)
        ticks[0], ticks[1] = view["src"], view["srv"]
        source_ns, server_ns = ticks_ns(ticks)
    else:
        source_ns = ticks_ns(view["src"]) if "src" in names else none
        server_ns = ticks_ns(view["srv"]) if "srv" in names else none
    return Rows(
        view["h"].astype(np.int64) if "h" in names else none,
        value,
        status,
        source_ns,
        server_ns,
        flags,
        exact,
    )


def _run(body: bytes, offset: int, count: int, layout: _Layout) -> NDArray[np.void] | None:
    """The items of this layout from *offset* on; None where they are fewer than :data:`SHORTEST_RUN`."""
    fitting = min(count, (len(body) - offset) // layout.size)
    if fitting < SHORTEST_RUN:
        return None
    view = np.frombuffer(body, layout.dtype, fitting, offset)
    other = view["k"] != layout.key
    length = int(other.argmax())
    if not other[length]:
        return view
    return view[:length] if length >= SHORTEST_RUN else None


def _mixed(body: bytes, offset: int, count: int, layouts: dict[int, _Layout]) -> tuple[Rows, int]:
    """*count* items of any layouts: one walk over their sizes, then one gather for each layout."""
    skip = 4 if layouts is _WITH_HANDLES else 0
    offsets: list[int] = []
    keys: list[int] = []
    general = OneByOne()
    for _ in range(count):
        mask = body[offset + skip]
        key = mask | body[offset + skip + 1] << 8 if mask & _VALUE else mask
        layout = layouts.get(key)
        offsets.append(offset)
        if layout is not None:
            keys.append(key)
            offset += layout.size
        else:
            keys.append(_GENERAL)
            handle = int.from_bytes(body[offset : offset + skip], "little")
            data, end, reason = _object(body, offset + skip)
            general.add(handle, data)
            if reason:
                general.poison.append(Poison(handle, body[offset + skip : min(end, offset + skip + _MOST_RAW)], reason))
            offset = end
    if offset > len(body):
        raise UaStructParsingError("the message ends within a value")
    kinds, starts, raw = np.array(keys), np.array(offsets), np.frombuffer(body, np.uint8)
    groups: list[tuple[NDArray[np.intp], Rows]] = []
    for key in dict.fromkeys(keys):
        places = np.flatnonzero(kinds == key)
        if key == _GENERAL:
            groups.append((places, general.rows()))
            continue
        layout = layouts[key]
        items = raw[starts[places, None] + np.arange(layout.size)]
        groups.append((places, _columns(items.view(layout.dtype)[:, 0], layout)))
    return _scattered(groups, count), offset


def _scattered(groups: list[tuple[NDArray[np.intp], Rows]], count: int) -> Rows:
    """Rows of several groups, each at its places among *count*."""
    if len(groups) == 1:
        return groups[0][1]
    whole = Rows(
        np.empty(count, np.int64),
        np.empty(count, np.float64),
        np.empty(count, np.uint32),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.uint32),
    )
    for places, rows in groups:
        whole.tag[places], whole.value[places], whole.status[places] = rows.tag, rows.value, rows.status
        whole.source_ns[places], whole.server_ns[places] = rows.source_ns, rows.server_ns
        whole.flags[places] = rows.flags
        whole.exact.update({int(places[row]): value for row, value in rows.exact.items()})
        whole.general += rows.general
        whole.poison += rows.poison
    return whole


def values(body: bytes, offset: int, count: int, *, handles: bool) -> tuple[Rows, int]:
    """
    Decode *count* DataValues, each behind its ClientHandle where *handles*.

    Returns the rows and the offset behind them. Raises what the library's decoder does for bytes that end too early or
    make no sense: :data:`adapters.opcua.faults.DECODE_ERRORS`.
    """
    layouts = _WITH_HANDLES if handles else _BARE
    skip = 4 if handles else 0
    parts: list[Rows] = []
    while count > 0:
        mask = body[offset + skip]
        layout = layouts.get(mask | body[offset + skip + 1] << 8 if mask & _VALUE else mask)
        view = None if layout is None else _run(body, offset, count, layout)
        if view is None or layout is None:
            rows, offset = _mixed(body, offset, min(count, _LOT), layouts)
        else:
            rows = _columns(view, layout)
            offset += len(view) * layout.size
        parts.append(rows)
        count -= len(rows)
    return Rows.join(parts), offset


def objects(body: bytes, offset: int, count: int) -> tuple[list[ua.DataValue], int]:
    """
    *count* DataValues as the library's objects, with times that keep their 100 ns (:class:`Stamp`).

    One that cannot be decoded has no value, and the status BadDecodingError. Raises as :func:`values`.
    """
    found: list[ua.DataValue] = []
    for _ in range(count):
        data, offset, _ = _object(body, offset)
        found.append(data)
    return found, offset


def _object(body: bytes, offset: int) -> tuple[ua.DataValue, int, str]:
    """A DataValue, the offset behind it, and why its value could not be decoded where it could not."""
    mask, value, reason = body[offset], None, ""
    offset += 1
    if mask & _VALUE:
        end, sound = extent.variant(body, offset)
        try:
            value = decoded(body, offset, end, sound=sound)
        except DECODE_ERRORS as error:
            reason = f"the value cannot be decoded: {describe(error)}"
        offset = end
    parts: dict[int, int] = {}
    for bit, form, size in _FIELDS:
        if mask & bit:
            [parts[bit]] = struct.unpack_from(form, body, offset)
            offset += size
    status = parts.get(_STATUS, 0)
    data = ua.DataValue(
        value,
        StatusCode=ua.StatusCode(BAD_DECODING_ERROR if reason and not status >> 31 else status),
        SourceTimestamp=Stamp.of(parts[_SOURCE]) if mask & _SOURCE else None,
        ServerTimestamp=Stamp.of(parts[_SERVER]) if mask & _SERVER else None,
        SourcePicoseconds=parts.get(_SOURCE_PS),
        ServerPicoseconds=parts.get(_SERVER_PS),
    )
    return data, offset, reason


def decoded(body: bytes, offset: int, end: int, *, sound: bool) -> ua.Variant:
    """
    The Variant from *offset* to *end* as the library's object, with a time that keeps its 100 ns.

    *end* and *sound* are what :func:`adapters.opcua.extent.variant` gives. Raises as :func:`values`.
    """
    if not sound:
        raise UaStructParsingError("an array of other dimensions than elements")
    if body[offset] == _DATE_TIME:
        [ticks] = struct.unpack_from("<q", body, offset + 1)
        return ua.Variant(Stamp.of(ticks), ua.VariantType.DateTime)
    buffer = Buffer(body, offset)
    found: ua.Variant = variant_from_binary(buffer)
    if buffer.cur_pos != end:  # a negative length takes the library back to bytes it has read
        raise UaStructParsingError(f"it is {end - offset} bytes and was read as {buffer.cur_pos - offset}")
    return found
