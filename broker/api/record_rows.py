"""Records as members of JSON and cells of CSV: what a value is, and in which type."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from broker.store.meanings import meaning
from broker.store.rows.records import RecordRow
from schemas.documents import rfc3339
from schemas.status import Flag, name
from schemas.status import quality as quality_of_code

_INTEGER: Final = re.compile(r"-[0-9]+")
#: Programs read by position as well as by name: new columns come last.
CSV_COLUMNS: Final = (
    *("seq", "path", "source_time", "value", "unit", "quality", "status", "flags", "received_time"),
    *("revision", "server_time", "status_code", "increase", "tag_id", "type", "enum_text"),
)
#: Types that a stored integer, and a stored text, may have of the map.
_INTEGERS: Final = ("int64", "uint64")
_TEXTS: Final = ("string", "bytes", *_INTEGERS)


def record_json(row: RecordRow) -> dict[str, Any]:
    """One record, as :func:`records_json` makes it."""
    return records_json([row])[0]


def records_json(rows: Sequence[RecordRow]) -> list[dict[str, Any]]:
    """
    Records for JSON: times RFC 3339 with nine digits, integers beyond 2**53 and text as strings, never NaN.

    ``value`` is the best single reading of the row: a number, else its text, else null; ``type`` is that of the value,
    null without one. A number of type float32 is the double nearest to its shortest text, which gives the same bits
    when it is read as float32 (21.1, and not 21.100000381469727). ``enum_text`` is what the map called the number when
    the record was stored.
    """
    singles = _shortest(rows)
    return [_record(row, singles.get(place)) for place, row in enumerate(rows)]


def _shortest(rows: Sequence[RecordRow]) -> dict[int, float]:
    """By place: the numbers that a device sent as float32, as the doubles of their shortest texts."""
    places = [place for place, row in enumerate(rows) if row.flags & Flag.FLOAT32 and row.value is not None]
    exact = np.array([rows[place].value for place in places], np.float64)
    with np.errstate(over="ignore"):
        single = exact.astype(np.float32)
    texts = single.astype("U").astype(np.float64)
    # a flag that does not fit the number would change it
    fits = np.isfinite(exact) & (single == exact)
    return {place: number for place, number, fit in zip(places, texts.tolist(), fits.tolist(), strict=True) if fit}


def _record(row: RecordRow, single: float | None) -> dict[str, Any]:
    value: float | str | None = row.value if row.value is not None and math.isfinite(row.value) else None
    said = meaning(row.meaning)
    kind: str | None = None
    if row.value_int is not None:
        value, kind = str(row.value_int), said.type if said.type in _INTEGERS else "int64"
    elif row.value_text is not None:
        value, kind = row.value_text, said.type if said.type in _TEXTS else "string"
    elif single is not None:
        value, kind = single, "float32"
    elif value is not None:
        kind = said.type if said.type is not None and said.type not in ("string", "bytes") else "float64"
    quality, status = _quality(row.status)
    return {
        "seq": str(row.seq),
        "tag_id": row.tag,
        "path": row.path,
        "source_time": rfc3339(row.source_ns),
        "server_time": None if row.server_ns is None else rfc3339(row.server_ns),
        "received_time": rfc3339(row.received_ns),
        "value": value,
        "type": kind,
        "enum_text": None if said.enum is None else said.enum.get(_number(row)),
        "unit": row.unit,
        "quality": quality,
        "status": status,
        "status_code": row.status,
        "flags": list(_flags(row.flags)),
        "revision": row.revision,
        "increase": row.increase,
    }


@lru_cache(1024)
def _quality(code: int) -> tuple[str, str]:
    """Quality and name of a status; few differ, and making them costs more than the rest of a row."""
    return quality_of_code(code).name.lower(), name(code)


@lru_cache(1024)
def _flags(flags: int) -> tuple[str, ...]:
    """Names, without that of what the type says."""
    return tuple(flag.name.lower() for flag in Flag(flags & ~Flag.FLOAT32) if flag.name)


def _number(row: RecordRow) -> str:
    """The number of a value as enumerations name it; empty for another value."""
    if row.value_int is not None:
        return str(row.value_int)
    return str(int(row.value)) if row.value is not None and row.value.is_integer() else ""


def cell(value: object) -> str:
    """A CSV cell; text that a spreadsheet would run as a formula gets a quote before it, a number does not."""
    text = "" if value is None else "|".join(value) if isinstance(value, list) else str(value)
    risky = isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{text}" if risky and not _INTEGER.fullmatch(text) else text
