"""
YAML with the place of every value.

Values that YAML 1.1 would misread (octal ``00001``, sexagesimal ``12:30``, ``yes``, a date) become :class:`Misread`, so
that no field accepts them in silence. Duplicate keys are problems; PyYAML takes the last one.
Source: library-traps, YAML; configuration rules 1, 3 and 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import yaml

from schemas.errors import Problem

Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT: Final = re.compile(r"^[-+]?(0|[1-9][0-9]*)$")
_HEX: Final = re.compile(r"^0x[0-9a-fA-F]+$")
_FLOAT: Final = re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]+)?$")
_TAG: Final = "tag:yaml.org,2002:"
_WORDS: Final = {"bool": "a switch", "int": "a number", "float": "a number", "timestamp": "a date", "merge": "a merge"}
#: A file larger than this is not a configuration.
MAX_BYTES: Final = 64 << 20
#: More values than this are no configuration (5,000 tags have about 60,000).
MAX_NODES: Final = 1_000_000
_MAX_DEPTH: Final = 64
_SAFE_DEPTH: Final = 1000
_BRACKETS: Final = re.compile(r"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class Misread:
    """A plain scalar that YAML takes for something else than what is written; ``reading`` says for what."""

    text: str
    reading: str

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Node:
    """
    One value and its place.

    ``value`` is a dict of nodes, a list of nodes, or a scalar. ``text`` is the scalar as written, None for collections
    and for quoted scalars. ``keys`` holds the place of each key of a dict. ``line`` and ``column`` count from 1;
    line 0: the value does not come from a line of a file.
    """

    file: str
    line: int
    column: int
    value: Any
    text: str | None = None
    keys: dict[str | int, tuple[int, int]] | None = None

    @property
    def items(self) -> dict[Any, Node]:
        """Members of a dict; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def plain(self) -> Any:
        """The value without places: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, path: tuple[str | int, ...]) -> Node:
        """The node at *path*, or the deepest one on the way; parts that are not there are passed over."""
        node = self
        for part in path:
            node = node.child(part) or node
        return node

    def child(self, part: str | int) -> Node | None:
        """One member of a dict or a list, or None."""
        value = self.value
        if isinstance(value, dict):
            return value.get(part)
        if isinstance(value, list) and isinstance(part, int) and part < len(value):
            item: Node = value[part]
            return item
        return None

    def problem(self, path: str, code: str, message: str, hint: str = "", *, warning: bool = False) -> Problem:
        """A problem at this value."""
        return Problem(self.file, self.line, self.column, path, code, message, hint, warning)

    def key_problem(self, key: str | int, path: str, code: str, message: str, hint: str = "") -> Problem:
        """A problem at one of this dict's keys."""
        line, column = (self.keys or {}).get(key, (self.line, self.column))
        file = self.value[key].file if key in self.items and self.value[key].line == 0 else self.file
        return Problem(file, 0 if file != self.file else line, column, path, code, message, hint)

    def walk(self, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Node]]:
        """Yield every scalar below this node with its path."""
        if isinstance(self.value, dict):
            for key, node in self.value.items():
                yield from node.walk((*path, key))
        elif isinstance(self.value, list):
            for index, node in enumerate(self.value):
                yield from node.walk((*path, index))
        else:
            yield path, self


def dotted(path: tuple[str | int, ...]) -> str:
    """Text of a path: ``sources.plc1.unit``, ``tags[3].address``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def shown_name(path: Path) -> str:
    """Name of a file in messages: relative to the working folder where it lies below it, else absolute."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path.resolve())


def read_text(path: Path, shown: str) -> tuple[str | None, list[Problem]]:
    """The text of a UTF-8 file, or None and the problem."""

    def refuse(message: str, hint: str = "") -> tuple[None, list[Problem]]:
        return None, [Problem(shown, 0, 0, "", "bad_file", message, hint)]

    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return refuse("there is no such file")
    except OSError as error:
        return refuse(f"cannot be read: {error.strerror or error}")
    if len(raw) > MAX_BYTES:
        return refuse(f"is larger than {MAX_BYTES >> 20} MiB")
    if b"\0" in raw[:4096]:
        return refuse("is not a text file")
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        return None, [Problem(shown, line, column, "", "bad_file", "is not UTF-8", "save the file as UTF-8")]


def read_yaml(path: Path, shown: str) -> tuple[Node | None, list[Problem]]:
    """
    Read one YAML document whose top is a map.

    *shown* is the file's name in messages. None where nothing can be said about the content.
    """
    text, problems = read_text(path, shown)
    if text is None:
        return None, problems
    return parse_yaml(text, shown)


def parse_yaml(text: str, shown: str) -> tuple[Node | None, list[Problem]]:
    """As :func:`read_yaml`, from text."""
    if _may_be_deep(text) and _is_deep(text):
        return None, [Problem(shown, 0, 0, "", "bad_yaml", "is nested too deeply")]
    try:
        loader = Loader(text)
        try:
            top = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        what = error.problem or error.context or "cannot be parsed"
        return None, [Problem(shown, line, column, "", "bad_yaml", f"is not YAML: {what}")]
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        return None, [Problem(shown, 0, 0, "", "bad_yaml", f"is not YAML: {first}")]
    if top is None:
        return None, [Problem(shown, 0, 0, "", "bad_file", "is empty")]
    problems: list[Problem] = []
    try:
        node = _build(top, shown, (), problems, frozenset(), count(1))
    except OverflowError:
        return None, [Problem(shown, 0, 0, "", "bad_yaml", f"has more than {MAX_NODES} values")]
    if not isinstance(node.value, dict):
        problems.append(node.problem("", "bad_yaml", "the top of the file must be a map of options"))
        return None, problems
    return node, problems


def _may_be_deep(text: str) -> bool:
    """An upper bound of the nesting: open brackets, indentation, and list marks within one line."""
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    in_block = max(len(line) - len(line.lstrip(" ")) + line.count("- ") + line.count("? ") for line in text.split("\n"))
    return deepest + in_block > _SAFE_DEPTH


def _is_deep(text: str) -> bool:
    """Whether the nesting goes beyond what composing can bear: the C composer recurses and would end the process."""
    depth = 0
    loader = Loader(text)
    try:
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > _SAFE_DEPTH:
                    return True
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return False  # composing finds the same error and says where
    finally:
        loader.dispose()
    return False


def _build(
    top: Any,
    file: str,
    path: tuple[str | int, ...],
    problems: list[Problem],
    above: frozenset[int],
    counter: count[int],
) -> Node:
    if next(counter) > MAX_NODES:
        raise OverflowError  # aliases of aliases grow without bound
    line, column = top.start_mark.line + 1, top.start_mark.column + 1
    if isinstance(top, yaml.ScalarNode):
        return _scalar(top, file, line, column)
    if id(top) in above or len(path) > _MAX_DEPTH:
        problems.append(Problem(file, line, column, dotted(path), "bad_yaml", "is nested too deeply"))
        return Node(file, line, column, None)
    above = above | {id(top)}
    if isinstance(top, yaml.SequenceNode):
        items = [_build(item, file, (*path, i), problems, above, counter) for i, item in enumerate(top.value)]
        return Node(file, line, column, items)
    members: dict[str | int, Node] = {}
    keys: dict[str | int, tuple[int, int]] = {}
    for key_node, value_node in top.value:
        place = key_node.start_mark.line + 1, key_node.start_mark.column + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(file, *place, dotted(path), "bad_yaml", "a key must be a word"))
            continue
        scalar = _scalar(key_node, file, *place).value
        key: str | int = scalar if isinstance(scalar, int) and not isinstance(scalar, bool) else str(key_node.value)
        if key in members:
            first = keys[key][0]
            problems.append(
                Problem(file, *place, dotted((*path, key)), "duplicate_key", f"the key is already in line {first}")
            )
            continue
        keys[key] = place
        members[key] = _build(value_node, file, (*path, key), problems, above, counter)
    return Node(file, line, column, members, None, keys)


def _scalar(node: yaml.ScalarNode, file: str, line: int, column: int) -> Node:
    text: str = node.value
    if node.style:  # plain is "" in the C loader, None in the other
        return Node(file, line, column, text)
    kind = node.tag.removeprefix(_TAG)
    value: Any = text
    if kind == "null":
        value = None
    elif kind == "bool":
        value = text == "true" if text in {"true", "false"} else Misread(text, "a switch")
    elif kind in {"int", "float"}:
        if _INT.match(text):
            value = int(text)
        elif _HEX.match(text):
            value = int(text, 16)
        else:
            value = float(text) if _FLOAT.match(text) and not _octal_like(text) else Misread(text, "a number")
    elif kind != "str":
        value = Misread(text, _WORDS.get(kind, kind))
    elif _FLOAT.match(text) and not _octal_like(text):
        value = float(text)  # 1e3: a number in YAML 1.2 and for every reader, a text in YAML 1.1
    return Node(file, line, column, value, text)


def _octal_like(text: str) -> bool:
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
