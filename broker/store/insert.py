"""
Insert records: redeliveries out, sequence numbers without holes, and one bad row never stops the others.

Only rows that are really new get a ``seq``. A row can be a redelivery only if it is not newer than the newest stored
row of its tag, or only confirms that nothing changed; only those are looked up. What SQL refuses is found by halving
(contract C8).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import blocks, bulk, tables
from broker.store.columns import Columns
from broker.store.memory import Memory
from broker.store.rollups import are_counted
from schemas.errors import StoreError

#: Golden ratio of 64 bits: products with it spread over all bits.
_ODD: Final = np.int64(0x9E3779B97F4A7C15 - (1 << 64))
#: Columns that are not int8 in COPY BINARY.
_COPY_TYPES: Final = {"value": "float8", "value_text": "text", "increase": "float8"}
_COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
_COPY_END: Final = b"\xff\xff"


def _row_errors() -> tuple[type[Exception], ...]:
    """A row is refused, the database is well."""
    ours = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeError)
    return (*ours, *bulk.postgres_errors("IntegrityError", "DataError"))


def new_rows(connection: sa.Connection, memory: Memory, columns: Columns, revision: int) -> Columns:
    """*columns* without the rows that are in SQL already or stand twice in them; the first one stays."""
    keep = np.ones(len(columns), np.bool_)
    if _may_repeat(columns):
        order = np.lexsort((columns.fingerprint, columns.tag_id, columns.source_ns))
        same = np.zeros(len(order), np.bool_)
        a, b = order[1:], order[:-1]
        same[1:] = (
            (columns.source_ns[a] == columns.source_ns[b])
            & (columns.tag_id[a] == columns.tag_id[b])
            & (columns.fingerprint[a] == columns.fingerprint[b])
        )
        keep[order[same]] = False  # lexsort is stable: the first of equal rows is the first that came
    # rows that confirm are never a tag's newest, so that after a restart nothing tells how new they were
    older = (columns.source_ns <= memory.newest_ns[columns.tag_id]) | ~are_counted(columns.flags)
    possible = keep if revision else keep & older
    places = np.flatnonzero(possible)
    if len(places):
        keys = [
            columns.source_ns[places],
            columns.tag_id[places],
            columns.fingerprint[places],
            np.full(len(places), revision, np.int64),
        ]
        names = ("source_ts", "tag_id", "fingerprint", "revision")
        for index, _ in bulk.look_up(connection, tables.records, names, keys, ("seq",)):
            keep[places[index]] = False
    return columns.take(keep)


def _may_repeat(columns: Columns) -> bool:
    """Whether two rows have the same key, or by chance the same hash of it: one sort in place of three."""
    with np.errstate(over="ignore"):
        key = columns.source_ns * _ODD + columns.tag_id
        key = np.sort(key * _ODD + columns.fingerprint)
    return bool((key[1:] == key[:-1]).any())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of columns: ``stored`` rows have ``seq`` from ``first_seq`` on; ``refused`` is by ``Columns.row``."""

    stored: Columns
    first_seq: int
    refused: dict[int, str]


def insert_rows(connection: sa.Connection, memory: Memory, columns: Columns, revision: int) -> Outcome:
    """
    Store *columns*, none of which is in SQL yet. Rows that SQL refuses take no sequence number.

    Raises:
        StoreError: the counter of sequence numbers is behind the records.
    """
    refused = {int(columns.row[place]): reason for place, reason in columns.unfit.items()}
    fit = np.ones(len(columns), np.bool_)
    fit[list(columns.unfit)] = False
    columns = columns.take(fit)
    stored = np.zeros(len(columns), np.bool_)
    first = memory.last("record_seq") + 1
    write = _writer(connection, columns, _lists(columns, revision))

    # a list of what is to do, not recursion: a function that names itself would keep the columns until a collection
    waiting = [(0, len(columns))] if len(columns) else []
    while waiting:
        low, high = waiting.pop()
        try:
            write(low, high, first + int(stored.sum()))
        except _row_errors() as error:
            if "records.seq" in str(error) or "records_pkey" in str(error):
                raise StoreError("records hold sequence numbers that the counter has not given out yet") from error
            if high - low == 1:
                refused[int(columns.row[low])] = _reason(error)
                continue
            middle = (low + high) // 2
            waiting += [(middle, high), (low, middle)]
        else:
            stored[low:high] = True

    columns = columns.take(stored)
    if len(columns):
        memory.set("record_seq", first + len(columns) - 1)
        blocks.note(connection, first, columns.source_ns)
        np.maximum.at(memory.newest_ns, columns.tag_id, columns.source_ns)
    return Outcome(columns, first, refused)


def _reason(error: BaseException) -> str:
    # PostgreSQL repeats the whole row in the lines below
    return str(error).partition("\n")[0][:500]


def _lists(columns: Columns, revision: int) -> dict[str, list[Any]]:
    """Python lists by column; NaN is NULL (trap S6), a server time of 0 is none."""
    count = len(columns)
    value = columns.value.tolist()
    for place in np.flatnonzero(np.isnan(columns.value)).tolist():
        value[place] = None
    lists: dict[str, list[Any]] = {
        "source_ts": columns.source_ns.tolist(),
        "tag_id": columns.tag_id.tolist(),
        "value": value,
        "status": columns.status.tolist(),
        "flags": columns.flags.tolist(),
        "received_ts": columns.received_ns.tolist(),
        "fingerprint": columns.fingerprint.tolist(),
        "revision": [revision] * count,
    }
    if columns.server_ns is not None:
        lists["server_ts"] = [ns or None for ns in columns.server_ns.tolist()]
    if columns.increase is not None:
        lists["increase"] = [None if one != one else one for one in columns.increase.tolist()]
    if columns.value_int:
        lists["value_int"] = [columns.value_int.get(place) for place in range(count)]
    if columns.value_text:
        lists["value_text"] = [columns.value_text.get(place) for place in range(count)]
    return lists


def _writer(
    connection: sa.Connection, columns: Columns, lists: dict[str, list[Any]]
) -> Callable[[int, int, int], None]:
    """A function (low, high, first seq) that stores these rows, or none of them and raises."""
    raw = bulk.driver(connection)
    names = ("seq", *lists)
    if isinstance(raw, sqlite3.Connection):
        head = f"INSERT INTO records({','.join(names)}) VALUES "  # noqa: S608 - names are ours

        def put(low: int, high: int, seq: int) -> None:
            part = [list(range(seq, seq + high - low)), *(lists[name][low:high] for name in names[1:])]
            bulk.insert_sqlite(raw, head, part, 0, high - low)

    else:
        copy = f"COPY records({','.join(names)}) FROM STDIN (FORMAT BINARY)"

        def put(low: int, high: int, seq: int) -> None:
            with raw.cursor() as cursor, cursor.copy(copy) as stream:
                if "value_int" not in lists and "value_text" not in lists:
                    stream.write(_binary(columns, low, high, seq, lists["revision"][0]))
                    return
                stream.set_types([_COPY_TYPES.get(name, "int8") for name in names])
                rows = (lists[name][low:high] for name in names[1:])
                for row in zip(range(seq, seq + high - low), *rows, strict=True):
                    stream.write_row(row)

    def write(low: int, high: int, seq: int) -> None:
        raw.execute("SAVEPOINT rows")
        try:
            put(low, high, seq)
        except _row_errors():
            raw.execute("ROLLBACK TO SAVEPOINT rows")
            raise
        raw.execute("RELEASE SAVEPOINT rows")

    return write


def _binary(columns: Columns, low: int, high: int, seq: int, revision: int) -> bytes:
    """COPY BINARY of rows without integers and texts, in the order of ``_lists``, without an object a row."""
    value = columns.value[low:high]
    fields: dict[str, NDArray[Any] | int] = {
        "seq": np.arange(seq, seq + high - low),
        "source_ts": columns.source_ns[low:high],
        "tag_id": columns.tag_id[low:high],
        "value": value,
        "status": columns.status[low:high],
        "flags": columns.flags[low:high],
        "received_ts": columns.received_ns[low:high],
        "fingerprint": columns.fingerprint[low:high],
        "revision": revision,
    }
    empty = {"value": np.isnan(value)}
    if columns.server_ns is not None:
        fields["server_ts"] = columns.server_ns[low:high]
        empty["server_ts"] = columns.server_ns[low:high] == 0
    if columns.increase is not None:
        fields["increase"] = columns.increase[low:high]
        empty["increase"] = np.isnan(columns.increase[low:high])
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for name in fields:
        layout += [(f"{name}_n", ">i4"), (name, ">f8" if name in _COPY_TYPES else ">i8")]
    rows = np.empty(high - low, np.dtype(layout))
    rows["fields"] = len(fields)
    for name, column in fields.items():
        rows[f"{name}_n"] = 8
        rows[name] = column
    if not any(mask.any() for mask in empty.values()):
        return _COPY_HEAD + rows.tobytes() + _COPY_END
    # the length -1 is NULL, and no bytes of a value follow it
    kept = np.ones((len(rows), rows.dtype.itemsize), np.bool_)
    for name, mask in empty.items():
        rows[f"{name}_n"][mask] = -1
        offset = rows.dtype.fields[name][1]  # type: ignore[index]
        kept[mask, offset : offset + 8] = False
    return _COPY_HEAD + rows.view(np.uint8).reshape(kept.shape)[kept].tobytes() + _COPY_END
