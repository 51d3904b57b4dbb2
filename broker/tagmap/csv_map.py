"""
Flat CSV tag maps: one row a tag, columns by name, delimiter found in the header.

A row becomes the same tree of nodes as a tag in YAML, so that both are checked by the same code. The column in a
message is the number of the cell. Source: tag-maps.md, round trip; configuration, worked plant.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from broker.config.validate import nearest
from broker.config.yaml_lines import Node, read_text
from schemas.errors import Problem

#: The base columns, in their order.
BASE: Final = (
    "id",
    "path",
    "source",
    "address",
    "type",
    "access",
    "scan_ms",
    "scale_mode",
    "raw_low",
    "raw_high",
    "eu_low",
    "eu_high",
    "clamp",
    "unit",
    "range_low",
    "range_high",
    "deadband",
    "role",
    "enum",
    "description",
    "enabled",
)
#: Further columns, only where a tag uses them.
FURTHER: Final = (
    "factor",
    "offset",
    "source_unit",
    "stale_after",
    "rate_limit",
    "flatline_after",
    "byte_order",
    "encoding",
    "sentinels",
    "detect",
    "counter_modulus",
    "counter_max_rate",
    "loop",
)
_REQUIRED: Final = ("path", "source", "address")
_FORMULA: Final = re.compile(r"^[=@]|^[-+](?![0-9.])")
_MANGLED: Final = re.compile(r"^[0-9]+(?:[.,][0-9]+)?E\+?[0-9]+$", re.IGNORECASE)
_FREE_TEXT: Final = frozenset({"id", "path", "description"})
_SWITCHES: Final = {"true": True, "false": False, "1": True, "0": False}
_SCALE: Final = {"scale_mode": "mode", "clamp": "clamp", "factor": "factor", "offset": "offset"}
_COUNTER: Final = {"counter_modulus": "modulus", "counter_max_rate": "max_rate"}
_PAIRS: Final = {
    ("raw_low", "raw_high"): ("scale", "raw"),
    ("eu_low", "eu_high"): ("scale", "eu"),
    ("range_low", "range_high"): ("", "range"),
}
_PLAIN: Final[tuple[str, ...]] = tuple(
    name
    for name in (*BASE, *FURTHER)
    if name not in {*_SCALE, *_COUNTER, "scan_ms", "sentinels", "enabled"} and not any(name in pair for pair in _PAIRS)
)


def read_csv(path: Path, shown: str) -> tuple[list[Node], list[Problem]]:
    """
    The rows of a file as tags. Every problem of the file is in the list; a row that cannot be read
    is left out.

    Never raises for what the file says.
    """
    text, problems = read_text(path, shown)
    if text is None:
        return [], problems
    if not text.strip():
        return [], [Problem(shown, 0, 0, "", "bad_file", "is empty")]
    try:
        return _rows(text, shown, problems), problems
    except csv.Error as error:
        return [], [Problem(shown, 0, 0, "", "bad_file", f"is not CSV: {error}")]


def _rows(text: str, shown: str, problems: list[Problem]) -> list[Node]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    header: list[str] | None = None
    tags: list[Node] = []
    line = 1
    for cells in reader:
        start, line = line, reader.line_num + 1
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(cells, shown, start, problems)
            if header is None:
                return []
        elif len(cells) != len(header):
            message = f"the row has {len(cells)} cells, the header {len(header)}"
            problems.append(
                Problem(shown, start, len(cells), "", "bad_value", message, "is a quote or delimiter lost?")
            )
        elif (tag := _row(dict(zip(header, cells, strict=True)), header, shown, start, problems)) is not None:
            tags.append(tag)
    return tags


def _delimiter(text: str) -> str:
    header = re.sub(r'"[^"]*"', "", text.lstrip().split("\n", 1)[0])
    return max(",;\t|", key=header.count)


def _header(cells: list[str], shown: str, line: int, problems: list[Problem]) -> list[str] | None:
    header = [cell.strip().lower() for cell in cells]
    count = len(problems)
    for number, name in enumerate(header, 1):
        if name not in BASE and name not in FURTHER:
            hint = nearest(name, (*BASE, *FURTHER))
            problems.append(Problem(shown, line, number, name, "unknown_key", f"unknown column {name!r}", hint))
        elif name in header[: number - 1]:
            problems.append(Problem(shown, line, number, name, "duplicate_key", "the column is there twice"))
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        problems.append(Problem(shown, line, 1, "", "missing_key", f"the header has no column {', '.join(missing)}"))
    return header if len(problems) == count else None


def _row(cells: dict[str, str], header: list[str], shown: str, line: int, problems: list[Problem]) -> Node | None:
    column = {name: number for number, name in enumerate(header, 1)}
    path = cells["path"].strip()
    readable = True

    def say(name: str, code: str, message: str, hint: str = "", *, warning: bool = False) -> None:
        problems.append(Problem(shown, line, column[name], f"{path}: {name}", code, message, hint, warning))

    given: dict[str, Node] = {}
    for name, cell in cells.items():
        text = cell.strip()
        if text.startswith("'") and _FORMULA.match(text[1:]):
            text = text[1:]  # the guard that an export puts before such a cell
        elif name in _FREE_TEXT and _FORMULA.match(text):
            say(name, "formula_cell", "a spreadsheet would run this cell; it is kept as text", warning=True)
        if name == "address" and _MANGLED.match(text):
            hint = "format the column as text and enter the address again"
            say(name, "unquoted_address", f"a spreadsheet has made a number of the address: {text}", hint)
            readable = False
        if text:
            given[name] = Node(shown, line, column[name], text)
    tag = _tag(given, shown, line, column, say)
    return Node(shown, line, 1, tag, None, {}) if readable else None


def _tag(
    given: dict[str, Node], shown: str, line: int, column: dict[str, int], say: Callable[..., None]
) -> dict[str, Node]:
    tag: dict[str, Node] = {name: given[name] for name in _PLAIN if name in given}
    scale: dict[str, Node] = {option: given[name] for name, option in _SCALE.items() if name in given}
    for (low, high), (group, option) in _PAIRS.items():
        if low in given and high in given:
            pair = Node(shown, line, column[low], [given[low], given[high]])
            (scale if group else tag)[option] = pair
        elif low in given or high in given:
            here = low if low in given else high
            say(here, "missing_key", f"{low} and {high} belong together")
    if scale.keys() - {"clamp"} or ("clamp" in scale and scale["clamp"].value != "none"):
        place = next(iter(scale.values()))
        tag["scale"] = Node(shown, line, place.column, scale, None, {})
    counter = {option: given[name] for name, option in _COUNTER.items() if name in given}
    if counter:
        tag["counter"] = Node(shown, line, next(iter(counter.values())).column, counter, None, {})
    if "scan_ms" in given:
        cell = given["scan_ms"]
        tag["scan"] = Node(shown, line, cell.column, f"{cell.value}ms" if cell.value[-1].isdigit() else cell.value)
    if "sentinels" in given:
        cell = given["sentinels"]
        parts = [Node(shown, line, cell.column, part) for part in re.split(r"[;\s]+", cell.value) if part]
        tag["sentinels"] = Node(shown, line, cell.column, parts)
    if "enabled" in given:
        cell = given["enabled"]
        if cell.value.lower() in _SWITCHES:
            tag["enabled"] = Node(shown, line, cell.column, _SWITCHES[cell.value.lower()])
        else:
            say("enabled", "bad_value", f"{cell.value!r} is not a switch", "write true or false")
    return tag
