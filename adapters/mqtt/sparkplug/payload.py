"""
Sparkplug B payloads: bytes to metrics, values not yet judged by their datatype.

Source: Eclipse Sparkplug 3.0.0, 6.4 and ``sparkplug_b.proto`` (field numbers).
"""

from __future__ import annotations

from typing import Any, Final

from adapters.mqtt.sparkplug import wire
from adapters.mqtt.sparkplug.wire import LENGTH, VARINT, Malformed

#: Deepest nesting of templates and property sets.
_DEEPEST: Final = 16

# Field numbers of the value in Metric; DataSetValue, Parameter and PropertyValue begin elsewhere, in the same order.
INT, LONG, FLOAT, DOUBLE, BOOLEAN, STRING, BYTES, DATASET, TEMPLATE = range(10, 19)
_QUALITY: Final = "Quality"


class Metric:
    """
    One metric as it came.

    ``field`` is the field number of its value (10 int … 18 template), 0 where it has none. ``value`` is int, float,
    bool, str or bytes; for field 17 a :class:`DataSet`, for 18 a list of metrics. ``timestamp`` is epoch ms.
    ``quality`` is the property of that name.
    """

    # Defaults of the class, not set for each metric: most have four of these.
    name: str | None = None
    alias: int | None = None
    timestamp: int | None = None
    datatype = 0
    historical = False
    null = False
    quality: int | None = None
    field = 0
    value: Any = None


class DataSet:
    """A table: names of columns, their datatypes, and rows of (field, value), field as in :class:`Metric`."""

    __slots__ = ("columns", "rows", "types")

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.types: list[int] = []
        self.rows: list[list[tuple[int, Any]]] = []


class Payload:
    """One payload; ``timestamp`` is epoch ms, ``seq`` 0-255 where there is one."""

    __slots__ = ("metrics", "seq", "timestamp")

    def __init__(self) -> None:
        self.timestamp: int | None = None
        self.seq: int | None = None
        self.metrics: list[Metric] = []


def decode(data: bytes) -> Payload:
    """
    Decode a payload.

    Raises:
        Malformed: (a ValueError) it is not one; nothing else, whatever the bytes are.
    """
    payload = Payload()
    for number, kind, begin, end in wire.fields(data, 0, len(data)):
        if number == 2 and kind == LENGTH:
            payload.metrics.append(_metric(data, begin, end, 0))
        elif number == 1 and kind == VARINT:
            payload.timestamp = wire.varint(data, begin, end)[0]
        elif number == 3 and kind == VARINT:
            payload.seq = wire.varint(data, begin, end)[0]
    return payload


def _metric(data: bytes, at: int, end: int, depth: int) -> Metric:
    """The fields that a stream of values is made of are read in line: this runs once a value."""
    metric = Metric()
    while at < end:
        key = data[at]
        at += 1
        if key == 0x10:  # alias
            byte = data[at] if at < end else 128
            if byte < 128:
                metric.alias, at = byte, at + 1
            else:
                metric.alias, at = wire.varint(data, at, end)
        elif key == 0x18:
            metric.timestamp, at = wire.varint(data, at, end)
        elif key == 0x20:
            metric.datatype, at = wire.varint(data, at, end)
        elif key == 0x69:  # double
            if at + 8 > end:
                raise Malformed("a fixed field is cut")
            metric.field, metric.value = DOUBLE, wire.double(data, at)
            at += 8
        elif key == 0x65:  # float
            if at + 4 > end:
                raise Malformed("a fixed field is cut")
            metric.field, metric.value = FLOAT, wire.single(data, at)
            at += 4
        elif key == 0x50:  # int, uint32
            value, at = wire.varint(data, at, end)
            metric.field, metric.value = INT, value & 0xFFFFFFFF
        elif key == 0x58:  # long, uint64
            metric.value, at = wire.varint(data, at, end)
            metric.field = LONG
        elif key == 0x70:
            value, at = wire.varint(data, at, end)
            metric.field, metric.value = BOOLEAN, value != 0
        elif key == 0x0A:
            begin, at = wire.span(data, at, end)
            metric.name = wire.text(data, begin, at)
        else:
            at = _rare(metric, data, at - 1, end, depth)
    return metric


def _rare(metric: Metric, data: bytes, at: int, end: int, depth: int) -> int:
    """Read one field whose key stands at *at*, and return the place behind it."""
    key, at = wire.varint(data, at, end)
    number, kind = key >> 3, key & 7
    if number == 0:
        raise Malformed("field number 0")
    if kind != LENGTH:
        behind = wire.skip(data, at, end, kind)
        if kind == VARINT and number == 5:
            metric.historical = wire.varint(data, at, end)[0] != 0
        elif kind == VARINT and number == 7:
            metric.null = wire.varint(data, at, end)[0] != 0
        return behind
    begin, behind = wire.span(data, at, end)
    if number == 9:
        metric.quality = _quality(data, begin, behind)
    elif number == STRING:
        metric.field, metric.value = STRING, wire.text(data, begin, behind)
    elif number == BYTES:
        metric.field, metric.value = BYTES, data[begin:behind]
    elif number == DATASET:
        metric.field, metric.value = DATASET, _dataset(data, begin, behind)
    elif number == TEMPLATE:
        if depth >= _DEEPEST:
            raise Malformed(f"templates nest deeper than {_DEEPEST}")
        metric.field, metric.value = TEMPLATE, _template(data, begin, behind, depth + 1)
    return behind


def _quality(data: bytes, at: int, end: int) -> int | None:
    """The property ``Quality`` of a PropertySet: keys (1) and values (2) stand in two lists."""
    keys: list[str] = []
    values: list[tuple[int, int]] = []
    for number, kind, begin, behind in wire.fields(data, at, end):
        if number == 1 and kind == LENGTH:
            keys.append(wire.text(data, begin, behind))
        elif number == 2 and kind == LENGTH:
            values.append((begin, behind))
    if _QUALITY not in keys or keys.index(_QUALITY) >= len(values):
        return None
    begin, behind = values[keys.index(_QUALITY)]
    for number, kind, first, last in wire.fields(data, begin, behind):
        if kind == VARINT and number in (3, 4):
            return wire.varint(data, first, last)[0]
    return None


def _value(number: int, kind: int, data: bytes, begin: int, end: int, first: int) -> tuple[int, Any] | None:
    """Field and value of a value whose ``int`` has the number *first*; None for any other field."""
    field = INT + number - first
    if kind == VARINT and field in (INT, LONG, BOOLEAN):
        value = wire.varint(data, begin, end)[0]
        return field, value & 0xFFFFFFFF if field == INT else value != 0 if field == BOOLEAN else value
    if kind == wire.FIXED32 and field == FLOAT:
        return field, wire.single(data, begin)
    if kind == wire.FIXED64 and field == DOUBLE:
        return field, wire.double(data, begin)
    if kind == LENGTH and field == STRING:
        return field, wire.text(data, begin, end)
    return None


def _dataset(data: bytes, at: int, end: int) -> DataSet:
    table = DataSet()
    for number, kind, begin, behind in wire.fields(data, at, end):
        if number == 2 and kind == LENGTH:
            table.columns.append(wire.text(data, begin, behind))
        elif number == 3 and kind == VARINT:
            table.types.append(wire.varint(data, begin, behind)[0])
        elif number == 3 and kind == LENGTH:  # packed
            while begin < behind:
                type_, begin = wire.varint(data, begin, behind)
                table.types.append(type_)
        elif number == 4 and kind == LENGTH:
            table.rows.append(_row(data, begin, behind))
    return table


def _row(data: bytes, at: int, end: int) -> list[tuple[int, Any]]:
    row = []
    for number, kind, begin, behind in wire.fields(data, at, end):
        if number == 1 and kind == LENGTH:
            cell: tuple[int, Any] = (0, None)
            for inner, inner_kind, first, last in wire.fields(data, begin, behind):
                cell = _value(inner, inner_kind, data, first, last, 1) or cell
            row.append(cell)
    return row


def _template(data: bytes, at: int, end: int, depth: int) -> list[Metric]:
    """Members and parameters of a template, in their order."""
    members = []
    for number, kind, begin, behind in wire.fields(data, at, end):
        if number == 2 and kind == LENGTH:
            members.append(_metric(data, begin, behind, depth))
        elif number == 3 and kind == LENGTH:
            members.append(_parameter(data, begin, behind))
    return members


def _parameter(data: bytes, at: int, end: int) -> Metric:
    metric = Metric()
    for number, kind, begin, behind in wire.fields(data, at, end):
        if number == 1 and kind == LENGTH:
            metric.name = wire.text(data, begin, behind)
        elif number == 2 and kind == VARINT:
            metric.datatype = wire.varint(data, begin, behind)[0]
        elif (found := _value(number, kind, data, begin, behind, 3)) is not None:
            metric.field, metric.value = found
    return metric
