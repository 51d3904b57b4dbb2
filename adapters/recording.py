"""
Lines of a recorded file: CSV (one column a tag) or JSONL (one sample a line), decoded one by one.

A line that cannot be decoded is refused alone; the ones behind it are not touched.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from adapters.timestamps import TimeParser
from adapters.values import Converter, quality, too_deep
from schemas.samples import Exact
from schemas.status import GOOD, Flag

DELIMITERS = {",": ",", ";": ";", "tab": "\t"}
#: Deepest nesting of a JSONL line, as in MQTT payloads.
_DEPTH: Final = 16
#: Characters of one reason; a library may repeat the whole line in its error.
_REASON: Final = 200
_BOM: Final = b"\xef\xbb\xbf"


class Cell(NamedTuple):
    """One sample without its time."""

    tag: int
    value: float
    exact: Exact | None
    status: int
    flags: int


class Place(NamedTuple):
    """Behind a line: its number (from 1), the byte offsets of its begin and end, and the CRC-32 of its bytes."""

    number: int = 0
    begin: int = 0
    end: int = 0
    crc: int = 0


#: Before the first line.
START: Final = Place()


class Line(NamedTuple):
    """One line: samples of one time (None where there are none), reasons of refusal, and the text as it stood."""

    place: Place
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


class Lines:
    """
    Iterator over the lines of a file as text.

    ``place`` is behind the last line that was taken. Bytes that are no UTF-8 become U+FFFD. Raises
    OSError where the file cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.place = Place()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        raw = self._file.readline()
        if not raw:
            raise StopIteration
        number, _, begin, _ = self.place
        self.place = Place(number + 1, begin, begin + len(raw), zlib.crc32(raw))
        return (raw if begin else raw.removeprefix(_BOM)).decode(errors="replace")

    def go_behind(self, place: Place) -> None:
        """Go on behind a line that was taken before."""
        self._file.seek(place.end)
        self.place = place


def read_csv(lines: Lines, columns: Columns, delimiter: str | None, behind: Place = START) -> Iterator[Line]:
    """
    Lines of a CSV file with a header; an empty cell is no sample.

    Without *delimiter* the commonest of the known ones in the header is taken. Reading goes on *behind* a line. A tag
    without a column is refused once, with the header's line. Raises ValueError when there is no time column.
    """
    header = next(lines, "")
    delimiter = delimiter or max(DELIMITERS.values(), key=header.count)
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error as error:
        raise ValueError(f"the first line is no header: {error}") from error
    if columns.time not in names:
        raise ValueError(f"no column {columns.time!r} among {', '.join(names[:20]) or 'none'}; set time or delimiter")
    missing = sorted(columns.tags.keys() - set(names))
    if behind.end > lines.place.end:
        lines.go_behind(behind)
    elif missing:
        yield Line(lines.place, None, (), tuple(f"no column {name!r}" for name in missing), header)
    rows = csv.DictReader(lines, names, delimiter=delimiter, restkey="")
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(lines.place, None, (), (str(error),), "")
            continue
        found = [(name, row[name], None) for name in columns.tags if (row.get(name) or "").strip()]
        raw = delimiter.join(map(str, row.values()))
        yield _line(lines, row.get(columns.time), found, columns, raw)


def read_jsonl(lines: Lines, columns: Columns, behind: Place = START) -> Iterator[Line]:
    """
    Lines ``{"time": …, "tag": address, "value": …, "status"?: name or StatusCode}``; empty lines are skipped.

    Reading goes on *behind* a line.
    """
    if behind.end:
        lines.go_behind(behind)
    for text in lines:
        if not text.strip():
            continue
        try:
            if too_deep(text.encode(), _DEPTH):
                raise ValueError(f"JSON nests deeper than {_DEPTH}")
            member = msgspec.json.decode(text, type=dict[str, Any])
            address = str(member["tag"])
        except KeyError:
            yield Line(lines.place, None, (), ("no member 'tag'",), text)
        except (ValueError, RecursionError) as error:
            yield Line(lines.place, None, (), (_said(error),), text)
        else:
            found = [(address, member.get("value"), member.get("status"))]
            yield _line(lines, member.get(columns.time), found, columns, text)


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:_REASON]


def _line(lines: Lines, time: object, found: Sequence[tuple[str, Any, object]], columns: Columns, raw: str) -> Line:
    try:
        time_ns = columns.parse_time(time)
    except Exception as error:  # noqa: BLE001 - whatever a line holds costs only this line
        return Line(lines.place, None, (), (_said(error),), raw)
    cells, refused = [], []
    for address, value, mark in found:
        if address not in columns.tags:
            continue
        try:
            cells.append(_cell(columns.tags[address], value, mark))
        except Exception as error:  # noqa: BLE001 - as above
            refused.append(f"{address}: {_said(error)}")
    return Line(lines.place, time_ns, tuple(cells), tuple(refused), raw)


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
