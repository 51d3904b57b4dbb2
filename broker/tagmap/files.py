"""Find the tag-map files, read them, and bring the tags, templates, enums and equipment of all of them together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict

from broker.config.loader import check_version
from broker.config.validate import nearest, validate
from broker.config.yaml_lines import Node, read_yaml, shown_name
from broker.tagmap.csv_map import read_csv
from broker.tagmap.entry import CatalogueEntry, EnumMap, EquipmentEntry, TagEntry, TemplateEntry, WindowEntry
from broker.tagmap.template import expand
from schemas.errors import Problem

_TOP: Final = ("version", "defaults", "equipment", "enums", "templates", "tags", "calendar", "catalogue")

_Entry = TypeVar("_Entry", bound=BaseModel)


class _EnumHolder(BaseModel):
    model_config = ConfigDict(extra="forbid")
    enum: EnumMap


@dataclass(slots=True)
class Gathered:
    """
    Everything the files say, not yet resolved.

    ``tags``, ``equipment``, ``windows`` and ``catalogues`` pair each entry with the node it came from; ``problems`` has
    every problem so far.
    A tag's third member names the options that were wrong and left out, so that the others can be checked as well.
    """

    tags: list[tuple[TagEntry, Node, frozenset[str]]] = field(default_factory=list)
    equipment: list[tuple[EquipmentEntry, Node]] = field(default_factory=list)
    windows: list[tuple[WindowEntry, Node]] = field(default_factory=list)
    catalogues: list[tuple[CatalogueEntry, Node]] = field(default_factory=list)
    enums: dict[str, dict[int, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def gather(base_dir: Path, globs: tuple[str, ...], config_file: str) -> Gathered:
    """Read every file that *globs* (relative to *base_dir*) name."""
    out = Gathered()
    out.files = find(base_dir, globs, config_file, out.problems)
    trees: list[tuple[Node, str]] = []
    flat: list[Node] = []
    for path in out.files:
        shown = shown_name(path)
        if path.suffix.lower() == ".csv":
            rows, problems = read_csv(path, shown)
            flat += rows
            out.problems += problems
        else:
            top, problems = read_yaml(path, shown)
            out.problems += problems
            if top is not None:
                trees.append((top, shown))
    templates: dict[str, Node] = {}
    for top, _ in trees:
        _top_level(top, out.problems)
        _enums(top, out)
        _templates(top, templates, out.problems)
    for top, _ in trees:
        out.equipment += _entries(top, "equipment", EquipmentEntry, out.problems)
        out.windows += _entries(top, "calendar", WindowEntry, out.problems)
        out.catalogues += _entries(top, "catalogue", CatalogueEntry, out.problems)
        _tags(top, templates, out)
    for row in flat:
        _entry(row, Node(row.file, 0, 0, {}), _title(row, "tag"), out)
    return out


def find(base_dir: Path, globs: tuple[str, ...], config_file: str, problems: list[Problem]) -> list[Path]:
    """The files, sorted and each once. A name without a wildcard must be there; nothing at all is a problem."""
    found: dict[Path, None] = {}
    for pattern in globs:
        plain = not any(letter in pattern for letter in "*?[")
        if plain:
            matches = [base_dir / pattern]
        elif Path(pattern).is_absolute():
            problems.append(Problem(config_file, 0, 0, "tag_maps", "bad_value", f"{pattern}: a glob must be relative"))
            continue
        else:
            matches = sorted(path for path in base_dir.glob(pattern) if path.is_file())
        for path in matches:
            if path.suffix.lower() not in {".yaml", ".yml", ".csv"}:
                shown = shown_name(path)
                problems.append(Problem(shown, 0, 0, "", "bad_file", "a tag map is a .yaml or .csv file"))
            else:
                found.setdefault(path.resolve())
    if not found and not problems:
        message = f"no tag-map file matches {', '.join(globs)}"
        problems.append(Problem(config_file, 0, 0, "tag_maps", "bad_file", message))
    return sorted(found)


def _top_level(top: Node, problems: list[Problem]) -> None:
    check_version(top, problems)
    for key in top.items:
        if key == "derived":
            problems.append(top.key_problem(key, "derived", "unknown_key", "derived tags are not supported yet"))
        elif key == "sources":
            hint = "sources stand in fairlead.yaml"
            problems.append(top.key_problem(key, "sources", "unknown_key", "a tag map has no sources", hint))
        elif key not in _TOP:
            problems.append(
                top.key_problem(key, str(key), "unknown_key", f"unknown option {key!r}", nearest(key, _TOP))
            )
    for key, kind, name in (
        ("tags", list, "list"),
        ("equipment", list, "list"),
        ("calendar", list, "list"),
        ("catalogue", list, "list"),
        ("defaults", dict, "map"),
    ):
        node = top.items.get(key)
        if node is not None and node.value is not None and not isinstance(node.value, kind):
            problems.append(node.problem(key, "bad_value", f"must be a {name}"))


def _members(top: Node, key: str, problems: list[Problem]) -> dict[Any, Node]:
    node = top.items.get(key)
    if node is not None and node.value is not None and not isinstance(node.value, dict):
        problems.append(node.problem(key, "bad_value", "must be a map, the name is the key"))
    return node.items if node is not None else {}


def _enums(top: Node, out: Gathered) -> None:
    for name, node in _members(top, "enums", out.problems).items():
        path = f"enums.{name}"
        if not isinstance(node.value, dict):
            out.problems.append(node.problem(path, "bad_value", "must be a map of numbers to texts"))
            continue
        wrapped = Node(node.file, node.line, node.column, {"enum": node}, None, {})
        found: list[Problem] = []
        holder = validate(_EnumHolder, wrapped, (), found)
        out.problems += [replace(problem, path=path) for problem in found]
        texts: dict[int, str] = holder.enum if holder is not None else {}
        if out.enums.setdefault(str(name), texts) != texts:
            message = "another file defines it with other texts"
            out.problems.append(top.items["enums"].key_problem(name, path, "duplicate_key", message))


def _templates(top: Node, templates: dict[str, Node], problems: list[Problem]) -> None:
    for name, node in _members(top, "templates", problems).items():
        path = f"templates.{name}"
        if not isinstance(node.value, dict):
            problems.append(node.problem(path, "bad_value", "must be a map with params and tags"))
            continue
        if str(name) in templates and templates[str(name)].plain() != node.plain():
            problems.append(
                top.items["templates"].key_problem(name, path, "duplicate_key", "another file defines it differently")
            )
        if validate(TemplateEntry, node, ("templates", name), problems) is None:
            continue
        good = True
        for index, item in enumerate(node.items["tags"].value):
            title = item.items.get("name")
            if title is None or not isinstance(title.value, str) or not title.value:
                where = title or item
                problems.append(
                    where.problem(f"{path}.tags[{index}].name", "missing_key", "the option 'name' is required")
                )
                good = False
        if good:
            templates[str(name)] = node


def _entries(top: Node, key: str, model: type[_Entry], problems: list[Problem]) -> Iterator[tuple[_Entry, Node]]:
    """The good entries of one list of the file, each with its node."""
    node = top.items.get(key)
    for index, item in enumerate(node.value if node is not None and isinstance(node.value, list) else ()):
        if not isinstance(item.value, dict):
            problems.append(item.problem(f"{key}[{index}]", "bad_value", "must be a map of options"))
            continue
        entry = validate(model, item, (key, index), problems)
        if entry is not None:
            yield entry, item


def _tags(top: Node, templates: dict[str, Node], out: Gathered) -> None:
    defaults = top.items.get("defaults") or Node(top.file, top.line, top.column, {}, None, {})
    own = {"path", "id", "address"} & set(defaults.items)
    for key in sorted(own):
        out.problems.append(defaults.key_problem(key, f"defaults.{key}", "bad_value", "differs from tag to tag"))
    node = top.items.get("tags")
    for index, item in enumerate(node.value if node is not None and isinstance(node.value, list) else ()):
        if not isinstance(item.value, dict):
            out.problems.append(item.problem(f"tags[{index}]", "bad_value", "must be a map of options"))
        elif "use" in item.items:
            for tag in expand(item, templates, f"tags[{index}]", out.problems):
                _entry(tag, defaults, _title(tag, ""), out)
        else:
            _entry(item, defaults, _title(item, f"tags[{index}]"), out)


def _title(node: Node, otherwise: str) -> str:
    path = node.items.get("path")
    return path.value if path is not None and isinstance(path.value, str) and path.value else otherwise


def _entry(node: Node, defaults: Node, title: str, out: Gathered) -> None:
    merged = Node(
        node.file,
        node.line,
        node.column,
        {**defaults.items, **node.items},
        None,
        {**(defaults.keys or {}), **(node.keys or {})},
    )
    problems: list[Problem] = []
    entry = validate(TagEntry, merged, (), problems)
    for problem in problems:
        option = f": {problem.path}" if problem.path else ""
        out.problems.append(replace(problem, path=f"{title}{option}"))
    wrong = frozenset(re.split(r"[.\[]", problem.path)[0] for problem in problems)
    if entry is None:
        rest = {key: item for key, item in merged.items.items() if key not in wrong}
        entry = validate(TagEntry, Node(merged.file, merged.line, merged.column, rest, None, merged.keys), (), [])
    if entry is not None:
        out.tags.append((entry, merged, wrong))
