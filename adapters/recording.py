"""
Lines of a recorded file: CSV (one column a tag) or JSONL (one sample a line), decoded one by one.

A line that cannot be decoded is refused alone; the ones behind it are not touched.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import msgspec

from adapters.timestamps import TimeParser
from adapters.values import Converter, quality
from schemas.samples import Exact
from schemas.status import GOOD, Flag

DELIMITERS = {",": ",", ";": ";", "tab": "\t"}


class Cell(NamedTuple):
    """One sample without its time."""

    tag: int
    value: float
    exact: Exact | None
    status: int
    flags: int


class Line(NamedTuple):
    """One line: samples of one time (None where there are none), reasons of refusal, and the text as it stood."""

    number: int
    time_ns: int | None
    cells: tuple[Cell, ...]
    refused: tuple[str, ...]
    raw: str


class Columns(NamedTuple):
    """
    What to take from a line.

    ``tags`` maps an address to the tag's number and its converters of text and of JSON.
    """

    time: str
    parse_time: TimeParser
    tags: Mapping[str, tuple[int, Converter, Converter]]


def read_csv(file: TextIO, columns: Columns, delimiter: str | None) -> Iterator[Line]:
    """
    Lines of a CSV file with a header; an empty cell is no sample.

    Without *delimiter* the commonest of the known ones in the header is taken. A tag without a column is refused
    once, with the header's line. Raises ValueError when there is no time column.
    """
    header = file.readline()
    delimiter = delimiter or max(DELIMITERS.values(), key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if columns.time not in names:
        raise ValueError(f"no column {columns.time!r} among {', '.join(names[:20]) or 'none'}; set time or delimiter")
    missing = sorted(columns.tags.keys() - set(names))
    if missing:
        yield Line(1, None, (), tuple(f"no column {name!r}" for name in missing), header)
    rows = csv.DictReader(file, names, delimiter=delimiter, restkey="")
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(rows.line_num + 1, None, (), (str(error),), "")
            continue
        found = [(name, row[name], None) for name in columns.tags if (row.get(name) or "").strip()]
        yield _line(rows.line_num + 1, row.get(columns.time), found, columns, delimiter.join(map(str, row.values())))


def read_jsonl(file: TextIO, columns: Columns) -> Iterator[Line]:
    """Lines ``{"time": …, "tag": address, "value": …, "status"?: name or StatusCode}``; empty lines are skipped."""
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            member = msgspec.json.decode(text, type=dict[str, Any])
            address = member["tag"]
        except KeyError:
            yield Line(number, None, (), ("no member 'tag'",), text)
        except (ValueError, RecursionError) as error:
            yield Line(number, None, (), (str(error),), text)
        else:
            found = [(str(address), member.get("value"), member.get("status"))]
            yield _line(number, member.get(columns.time), found, columns, text)


def _line(number: int, time: object, found: Sequence[tuple[str, Any, object]], columns: Columns, raw: str) -> Line:
    try:
        time_ns = columns.parse_time(time)
    except ValueError as error:
        return Line(number, None, (), (str(error),), raw)
    cells, refused = [], []
    for address, value, mark in found:
        if address not in columns.tags:
            continue
        try:
            cells.append(_cell(columns.tags[address], value, mark))
        except ValueError as error:
            refused.append(f"{address}: {error}")
    return Line(number, time_ns, tuple(cells), tuple(refused), raw)


def _cell(column: tuple[int, Converter, Converter], value: Any, mark: object) -> Cell:
    tag, from_text, from_json = column
    code = GOOD if mark is None else quality(mark, "opcua" if isinstance(mark, int) else "text")
    if code is None:
        raise ValueError(f"status {mark!r} is unknown")
    flags = (Flag.ASSUMED_GOOD if mark is None else 0) | (Flag.DECODE_LOSS if "\ufffd" in str(value) else 0)
    if value is None:
        return Cell(tag, float("nan"), None, code, flags)
    number, exact = (from_text if isinstance(value, str) else from_json)(value)
    return Cell(tag, number, exact, code, flags)
