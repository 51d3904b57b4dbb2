"""Maintenance logs: CSV with a row an entry, or text with an entry a line or a date."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Final

from broker.manuals.cutting import cut, tidy
from schemas.manuals import MAX_NAME, Passage

#: Headings under which a log names what an entry is about, squashed to letters.
_HEADS: Final = """
equipment equipmentid equipmentno asset assetid machine machineid unit functionallocation floc tag object
anlage maschine gerät equipmentnummer technischerplatz équipement equipement
"""
_EQUIPMENT: Final = frozenset(_HEADS.split())
_DATE: Final = re.compile(r"^\W{0,2}(\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{2,4})\b")
MAX_COLUMNS: Final = 60


class BadLog(ValueError):
    """A log that cannot be read; the text says where and what to do."""


def csv_entries(text: str, column: str | None) -> Iterator[Passage]:
    """
    One passage an entry: ``heading: value`` of each filled column.

    *column* is the heading that names the equipment; None looks for a usual one.

    Raises:
        BadLog: no heading row, rows of other width, or no such column.
    """
    reader = csv.reader(io.StringIO(text, newline=""), _dialect(text), strict=True)
    try:
        heads = [tidy(cell) for cell in next(reader, [])]
        if len(heads) < 2 or not all(heads) or len(heads) > MAX_COLUMNS:
            raise BadLog("line 1: a log in CSV begins with a row of headings, two or more, separated by , ; or tab")
        place = _place(heads, column)
        line = reader.line_num + 1
        for row in reader:
            begun, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(heads):
                raise BadLog(f"line {begun}: {len(row)} cells, and the heading row has {len(heads)}")
            cells = [tidy(cell) for cell in row]
            about = cells[place][:MAX_NAME] if place is not None else ""
            told = "; ".join(f"{head}: {cell}" for head, cell in zip(heads, cells, strict=True) if cell)
            for piece in cut(told):
                yield Passage(text=piece, line=begun, equipment=about)
    except csv.Error as error:
        raise BadLog(f"line {reader.line_num}: {error}") from error


def _dialect(text: str) -> type[csv.Dialect]:
    first = text.partition("\n")[0]
    best = max(",;\t", key=first.count)

    class Found(csv.excel):
        delimiter = best

    return Found


def _place(heads: list[str], column: str | None) -> int | None:
    if column is not None:
        same = [i for i, head in enumerate(heads) if head.casefold() == column.strip().casefold()]
        if not same:
            raise BadLog(f"line 1: there is no column {column!r}; there are {', '.join(heads)}")
        return same[0]
    return next((i for i, head in enumerate(heads) if re.sub(r"[\W_]", "", head).casefold() in _EQUIPMENT), None)


def text_entries(text: str) -> Iterator[Passage]:
    """One passage an entry: from date to date where lines begin with dates, else each line."""
    lines = text.splitlines()
    dated = any(_DATE.match(line) for line in lines)
    held: list[str] = []
    begun = 1

    def flush() -> Iterator[Passage]:
        entry = tidy(" ".join(held))
        held.clear()
        if any(letter.isalnum() for letter in entry):
            for piece in cut(entry):
                yield Passage(text=piece, line=begun)

    for number, line in enumerate(lines, 1):
        if held and (not dated or _DATE.match(line)):
            yield from flush()
        if not held:
            begun = number
        if line.strip():
            held.append(line)
    yield from flush()
