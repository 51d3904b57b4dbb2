"""
Values by datatype: what a Sparkplug field means, and a refusal where field and datatype contradict each other.

Source: Eclipse Sparkplug 3.0.0, 6.4.16 (datatypes). Signed integers travel as two's complement in unsigned fields;
encoders disagree whether the bits above the type are zeros or copies of the sign, so both are taken and nothing else.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, Final

from adapters.mqtt.sparkplug.payload import (
    BOOLEAN,
    BYTES,
    DATASET,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TEMPLATE,
    DataSet,
    Metric,
)

NAMES: Final = (
    "Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double", "Boolean",
    "String", "DateTime", "Text", "UUID", "DataSet", "Bytes", "File", "Template", "PropertySet", "PropertySetList",
    "Int8Array", "Int16Array", "Int32Array", "Int64Array", "UInt8Array", "UInt16Array", "UInt32Array", "UInt64Array",
    "FloatArray", "DoubleArray", "BooleanArray", "StringArray", "DateTimeArray",
)  # fmt: skip

_SIGNED: Final = {1: 8, 2: 16, 3: 32, 4: 64}
_UNSIGNED: Final = {5: 8, 6: 16, 7: 32, 8: 64, 13: 64}
_TEXTS: Final = (12, 14, 15)
_BLOBS: Final = (17, 18)
#: Elements of packed arrays, little-endian.
_ELEMENTS: Final = {22: "b", 23: "h", 24: "i", 25: "q", 26: "B", 27: "H", 28: "I", 29: "Q", 30: "f", 31: "d", 34: "q"}
_BOOLEANS: Final = 32
_STRINGS: Final = 33


def name(datatype: int) -> str:
    """Name of a datatype, its number where it has none."""
    return NAMES[datatype] if 0 <= datatype < len(NAMES) else f"datatype {datatype}"


def convert(datatype: int, field: int, value: Any) -> Any:
    """
    The value of a field under its datatype: int, float, bool, str, bytes, list, or dict for tables and templates.

    DateTime is epoch ms. Raises ValueError where the field cannot carry the datatype, or the bits do not fit it.
    """
    if datatype == 10:
        if field in (DOUBLE, FLOAT):
            return value
    elif datatype == 9:
        if field == FLOAT:
            return value
        if field == DOUBLE:
            return _single(value)
    elif datatype == 11:
        if field == BOOLEAN:
            return value
    elif datatype in _SIGNED:
        if field in (INT, LONG):
            return _signed(value, _SIGNED[datatype], 32 if field == INT else 64)
    elif datatype in _UNSIGNED:
        if (field in (INT, LONG)) and value >> _UNSIGNED[datatype] == 0:
            return value
    elif datatype in _TEXTS:
        if field == STRING:
            return value
    elif datatype in _BLOBS:
        if field == BYTES:
            return value
    elif datatype == 16:
        if field == DATASET:
            return table_columns(value)
    elif datatype == 19:
        if field == TEMPLATE:
            return {path: plain(within[-1]) for path, within in members(value)}
    elif field == BYTES:
        return _array(datatype, value)
    raise ValueError(f"{_shown(field, value)} is no {name(datatype)}")


def plain(metric: Metric) -> Any:
    """The value of a metric under its own datatype, None where it is null. Raises ValueError."""
    return None if metric.null or not metric.field else convert(metric.datatype, metric.field, metric.value)


def members(
    template: list[Metric], prefix: str = "", around: tuple[Metric, ...] = ()
) -> Iterator[tuple[str, tuple[Metric, ...]]]:
    """
    Members of a template with their paths (``Motor/Speed``), inner templates flattened.

    Each comes last, behind the inner templates that it lies in.
    """
    for member in template:
        path, within = f"{prefix}{member.name or member.alias}", (*around, member)
        if member.field == TEMPLATE and not member.null:
            yield from members(member.value, f"{path}/", within)
        else:
            yield path, within


def cells(table: DataSet) -> Iterator[tuple[str, Any]]:
    """``column`` with the list of its values, then ``[row]/column`` for each cell. Raises ValueError."""
    columns = table_columns(table)
    yield from columns.items()
    for column, values in columns.items():
        yield from ((f"[{row}]/{column}", value) for row, value in enumerate(values))


def table_columns(table: DataSet) -> dict[str, list[Any]]:
    """The values of each column, None where a cell has none. Raises ValueError."""
    width = len(table.columns)
    if len(table.types) != width or any(len(row) != width for row in table.rows):
        raise ValueError("a DataSet whose rows and columns do not agree")
    return {
        column: [None if not row[i][0] else convert(table.types[i], *row[i]) for row in table.rows]
        for i, column in enumerate(table.columns)
    }


def _signed(value: int, bits: int, width: int) -> int:
    high = value >> (bits - 1)
    if high == 0:
        return value
    if high == 1 and bits <= width:  # zeros above the sign
        return value - (1 << bits)
    if high == (1 << (width - bits + 1)) - 1:  # copies of the sign
        return value - (1 << width)
    raise ValueError(f"{value} does not fit Int{bits}")


def _single(value: float) -> float:
    """A Float in a double field: its nearest float32, which is what the device has."""
    try:
        found: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        raise ValueError(f"{value} does not fit Float") from None
    return found


def _array(datatype: int, data: bytes) -> list[Any]:
    form = _ELEMENTS.get(datatype)
    if form is not None:
        size = struct.calcsize(f"<{form}")
        if len(data) % size:
            raise ValueError(f"{len(data)} bytes are no {name(datatype)}")
        values = list(struct.unpack(f"<{len(data) // size}{form}", data))
        return [None if isinstance(v, float) and not math.isfinite(v) else v for v in values]
    if datatype == _BOOLEANS:
        return _bits(data)
    if datatype == _STRINGS:
        if data and data[-1] != 0:
            raise ValueError("a StringArray ends with a NUL")
        return [part.decode() for part in data.split(b"\0")[:-1]]
    raise ValueError(f"{name(datatype)} is not read")


def _bits(data: bytes) -> list[bool]:
    """Four bytes of count, then the bits, highest first."""
    if len(data) < 4:
        raise ValueError("a BooleanArray without its count")
    count = int.from_bytes(data[:4], "little")
    if len(data) - 4 != (count + 7) // 8:
        raise ValueError("a BooleanArray whose count and bytes do not agree")
    return [bool(data[4 + i // 8] >> (7 - i % 8) & 1) for i in range(count)]


def _shown(field: int, value: Any) -> str:
    kind = {INT: "int", LONG: "long", FLOAT: "float", DOUBLE: "double", BOOLEAN: "boolean", STRING: "string"}
    return f"{kind[field]} {str(value)[:40]!r}" if field in kind else "the value's field"
