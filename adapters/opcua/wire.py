"""
DataValues on the wire straight into columns: no Python object per value where their type has a fixed size.

Runs of one layout become numpy views, mixed layouts are gathered layout by layout. What has no fixed layout
(text, arrays, structures, dates) is decoded value by value (:mod:`adapters.opcua.data_value`). A value that the library
cannot decode is a row with BadDecodingError, and its neighbours are what they were (A20).
Source: OPC UA Part 6, 5.2.2.17 (DataValue) and 5.2.2.16 (Variant).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from asyncua.ua.uaerrors import UaStructParsingError
from numpy.typing import NDArray

from adapters.opcua.data_value import SERVER, SERVER_PS, SOURCE, SOURCE_PS, STATUS, VALUE, data_value
from adapters.opcua.decode import EXACT_INTEGERS, ticks_ns
from adapters.opcua.rows import OneByOne, Poison, Rows
from schemas.samples import Exact
from schemas.status import Flag

#: A run of one layout shorter than this is cheaper value by value.
SHORTEST_RUN: Final = 32
#: Values of mixed layouts decoded before a run is looked for again.
_LOT: Final = 1024
_GENERAL: Final = -1
_NAN: Final = math.nan
#: Bytes of a value that could not be decoded that are kept.
_MOST_RAW: Final = 4096
_BOOLEAN: Final = 1
_FLOAT: Final = 10
#: Numpy type of each Variant type of fixed size; 0 is the null Variant, 19 a StatusCode.
_TYPES: Final[Mapping[int, str]] = {
    0: "", 1: "u1", 2: "i1", 3: "u1", 4: "<i2", 5: "<u2", 6: "<i4", 7: "<u4", 8: "<i8", 9: "<u8", 10: "<f4", 11: "<f8",
    19: "<u4",
}  # fmt: skip


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
    valued = bool(mask & VALUE)
    parts = [("h", "<u4")] if handles else []
    parts.append(("k", "<u2" if valued else "u1"))
    if valued and _TYPES[variant]:
        parts.append(("v", _TYPES[variant]))
    optional = ((STATUS, "s", "<u4"), (SOURCE, "src", "<i8"), (SOURCE_PS, "sp", "<u2"), (SERVER, "srv", "<i8"),
                (SERVER_PS, "vp", "<u2"))  # fmt: skip
    parts += [(name, kind) for bit, name, kind in optional if mask & bit]
    dtype = np.dtype(parts)
    return _Layout(dtype.itemsize, mask | variant << 8 if valued else mask, variant, dtype)


def _layouts(*, handles: bool) -> dict[int, _Layout]:
    """Every layout by its key: the mask, and the Variant's type in the second byte."""
    made = [
        _layout(mask, variant, handles=handles) for mask in range(64) for variant in (_TYPES if mask & VALUE else (0,))
    ]
    return {one.key: one for one in made}


_WITH_HANDLES: Final = _layouts(handles=True)
_BARE: Final = _layouts(handles=False)


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
        key = mask | body[offset + skip + 1] << 8 if mask & VALUE else mask
        layout = layouts.get(key)
        offsets.append(offset)
        if layout is not None:
            keys.append(key)
            offset += layout.size
        else:
            keys.append(_GENERAL)
            handle = int.from_bytes(body[offset : offset + skip], "little")
            data, end, reason = data_value(body, offset + skip)
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
        layout = layouts.get(mask | body[offset + skip + 1] << 8 if mask & VALUE else mask)
        view = None if layout is None else _run(body, offset, count, layout)
        if view is None or layout is None:
            rows, offset = _mixed(body, offset, min(count, _LOT), layouts)
        else:
            rows = _columns(view, layout)
            offset += len(view) * layout.size
        parts.append(rows)
        count -= len(rows)
    return Rows.join(parts), offset
