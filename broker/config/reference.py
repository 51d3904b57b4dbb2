"""The reference page, the JSON Schema and the effective values, all from the options classes themselves."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import adapters  # noqa: F401 - importing the package fills the registry
from adapters.base import REGISTRY, SourceOptions
from broker.config.addresses import addresses_text
from broker.config.codes import CODES
from broker.config.loader import Checked
from broker.config.model import SECTIONS, RootOptions
from broker.config.yaml_lines import Node
from broker.tagmap.csv_map import BASE, FURTHER
from broker.tagmap.entry import CatalogueEntry, EquipmentEntry, RuleEntry, TagEntry, WindowEntry
from schemas.quantities import parse_duration, parse_keep, parse_share, parse_size

_QUANTITIES: Final = {parse_duration: "duration", parse_keep: "duration", parse_size: "size", parse_share: "share"}
_SCALES: Final = {
    "duration": (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 0.001)),
    "size": (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)),
    "share": (("%", 0.01),),
}
_HEAD: Final = """\
# Configuration

<!-- Made by `fairlead config reference`; a test keeps it current. Edit the field descriptions in the code instead. -->

Two kinds of file, both text: `fairlead.yaml` says where and how to connect and what to keep; tag-map files
(`.yaml`, `.csv`) say what to read and what it means. `docs/examples` holds a worked plant.

- An unknown key is an error and the nearest known name is shown. A duplicate key is an error.
- `fairlead check` reports every error of all files in one run, each as `file:line:column: path: message [code]`, and
  exits with 78. Warnings never block. In a CSV the column is the number of the cell.
- A quantity carries its unit: durations `ms s min h d` (`mo` in retention), sizes `B KiB MiB GiB`, shares `%`.
- Addresses and protocol versions are texts: quote them. Switches are `true` and `false`.
- File names are relative to the folder of `fairlead.yaml`.
- A secret is a reference: `env:NAME`, `file:NAME` (mode 0600) or `cred:NAME` (systemd credential).
- The environment is stronger than the file: `FAIRLEAD_STORE__URL` is `store.url`, two underscores a level;
  `FAIRLEAD_STORE__URL_FILE` reads the value from a file. `FAIRLEAD_CONFIG` names the file itself.
- `fairlead config show` prints every value with its origin, `fairlead config schema` the JSON Schema.

The smallest site that runs, `fairlead.yaml` and `maps/pump.yaml`:

```yaml
version: 1
site: {path: Acme/Lyon}
sources:
  skid: {kind: modbus, host: 127.0.0.1, byte_order: ABCD}
```

```yaml
version: 1
defaults: {source: skid}
tags:
  - {path: Acme/Lyon/Utilities/P101/Pressure, address: "40001", type: float32, unit: bar, range: [0, 16]}
```
"""
_MAP_TEXT: Final = """\
Top level: `version`, `defaults` (any tag option but `path`, `id` and `address`), `equipment`, `enums`, `templates`,
`tags`, `calendar`, `catalogue`. Enums and templates are known in every file. Tags are numbered in the order of their
paths.

A template is used with `{use: motor, at: Acme/Lyon/M1, with: {base: 100}}`; further options there are given to each
of its tags. `{base}` is the parameter, `{base + 1}` arithmetic with `+ - *` on integers; `{{` is a brace.
"""
_SUPPRESS: Final = """\
Suppression by design: findings that mean nothing while a tag says something. They are stored and counted as
`by_design` and ask nobody for attention. What is unknown suppresses nothing: before the tag's first value, after one
with a bad or uncertain status, while its source is down, and while the tag is silent for longer than `stale_after`.

```yaml
equipment:
  - path: Acme/Lyon/Utilities/P102
    suppress:
      - {when: Acme/Lyon/Utilities/P102/State, in: [Standby], tags: [Flow, "*Pressure"], reason: standby pump}
```
"""
_CALENDAR: Final = """\
Windows that come back each week, on the clock of the wall in their time zone. They are part of the map: a change comes
into force with it, at one place of the stream, so that a replay gives the same.

```yaml
calendar:
  - {name: early, kind: shift, days: [mon, tue, wed, thu, fri], from: "06:00", to: "14:00"}
  - {name: weekend, kind: "off", equipment: [Acme/Lyon/Filling], days: [sat, sun], from: "00:00", to: "00:00"}
  - {name: cleaning, kind: maintenance, days: [wed], from: "22:00", to: "02:00", every: 2, first: "2026-01-07"}
```
"""
_CATALOGUE: Final = """\
Causes and actions of the site's own, in addition to those that are shipped for an equipment class, or for a class that
is not shipped. Like the calendar they are part of the map. A model that was trained on the shipped causes alone is not
asked where others are listed: rules explain such equipment then, and say so.

```yaml
catalogue:
  - class: centrifugal_pump
    without: [impeller_wear]
    actions: {check_seal: Check the shaft seal and its flush line}
    causes:
      seal_leak:
        text: Leaking shaft seal
        mechanism: "1.1 Leakage"
        signs: {"*seal*pressure*": fell, "*flow*": normal}
        actions: [check_seal]
```
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One option: dotted name, type word, default as one writes it (`-`: required), description."""

    name: str
    type: str
    default: str
    description: str


def rows(model: type[BaseModel], prefix: str = "", skip: frozenset[str] = frozenset()) -> Iterator[Row]:
    """The options of *model*, nested ones with dotted names."""
    for name, field in model.model_fields.items():
        shown = f"{prefix}{field.alias or name}"
        if name in skip:
            continue
        inner, many = _nested(field.annotation)
        if inner is not None:
            yield from rows(inner, f"{shown}{many}.")
            continue
        annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        yield Row(shown, type_word(annotation), _default(field, annotation), field.description or "")


def markdown() -> str:
    """The whole of docs/configuration.md."""
    parts = [_HEAD, "## `fairlead.yaml`\n", _table(rows(RootOptions))]
    kinds = ", ".join(f"`{kind}`" for kind in sorted(REGISTRY))
    parts += [f"## `sources.<name>`, every kind\n\n`kind` is required: one of {kinds}.\n", _table(rows(SourceOptions))]
    shared = frozenset(SourceOptions.model_fields)
    for kind, spec in sorted(REGISTRY.items()):
        own = rows(spec.options, skip=frozenset({*_unchanged(spec.options, shared), "kind"}))
        parts += [f"## `sources.<name>`, kind `{kind}`\n", _doc(spec.options), _table(own)]
    for name, model in SECTIONS.items():
        parts += [f"## `{name}`\n", _doc(model), _table(rows(model))]
    parts += ["## Tag-map files\n", _MAP_TEXT, "### Tags\n", _table(rows(TagEntry))]
    parts += ["### Addresses\n", addresses_text(), "### Equipment\n"]
    parts += [_table(rows(EquipmentEntry, skip=frozenset({"suppress"}))), "### Equipment: `suppress`\n", _SUPPRESS]
    parts += [_table(rows(RuleEntry)), "### Calendar\n", _CALENDAR, _table(rows(WindowEntry))]
    parts += ["### Catalogue\n", _CATALOGUE, _table(rows(CatalogueEntry))]
    parts += ["### CSV\n", _csv_text(), "## Error codes\n"]
    parts.append(_lines([("Code", "Meaning"), *((f"`{code}`", text) for code, text in CODES.items())]))
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema of ``fairlead.yaml``."""
    schema = RootOptions.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})

    def add(model: type[BaseModel], title: str) -> dict[str, str]:
        own = model.model_json_schema(ref_template=f"#/$defs/{title}.{{model}}")
        for name, body in own.pop("$defs", {}).items():
            definitions[f"{title}.{name}"] = body
        definitions[title] = own
        return {"$ref": f"#/$defs/{title}"}

    kinds = []
    for kind, spec in sorted(REGISTRY.items()):
        kinds.append(add(spec.options, f"source_{kind}"))
        own = definitions[f"source_{kind}"]
        own.setdefault("properties", {})["kind"] = {"const": kind}
        own["required"] = sorted({*own.get("required", ()), "kind"})
    schema["properties"]["sources"] = {"type": "object", "minProperties": 1, "additionalProperties": {"oneOf": kinds}}
    for name, model in SECTIONS.items():
        schema["properties"][name] = add(model, name)
    schema["required"] = sorted({*schema["required"], "sources"})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fairlead.yaml"}


def effective(checked: Checked) -> list[tuple[str, str, str]]:
    """Every option in force: dotted name, value as one writes it, and where it comes from. Secrets are references."""
    config, tree = checked.draft, checked.tree
    if config is None or tree is None:
        return []
    out: list[tuple[str, str, str]] = []
    for name, field in RootOptions.model_fields.items():
        out += _values(field, getattr(config, name, None), tree, (name,))
    for name, options in config.sources.items():
        out.append((f"sources.{name}.kind", config.kinds[name], _origin(tree, ("sources", name, "kind"))))
        for key, field in type(options).model_fields.items():
            if key != "kind":
                out += _values(field, getattr(options, key), tree, ("sources", name, key))
    for name, model in SECTIONS.items():
        section = getattr(config, name)
        for key, field in model.model_fields.items():
            out += _values(field, getattr(section, key), tree, (name, key))
    return out


def _values(field: FieldInfo, value: Any, tree: Node, path: tuple[str | int, ...]) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, BaseModel):
        for name, inner in type(value).model_fields.items():
            yield from _values(inner, getattr(value, name), tree, (*path, name))
    else:
        annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        yield ".".join(str(part) for part in path), show_value(annotation, value), _origin(tree, path)


def _origin(tree: Node, path: tuple[str | int, ...]) -> str:
    node: Node | None = tree
    for part in path:
        node = node.child(part) if node is not None else None
    if node is None:
        return "default"
    return f"{node.file}:{node.line}" if node.line else node.file


def type_word(annotation: Any) -> str:
    """The word for a type in the reference: duration, size, share, a closed list of words."""
    quantity = _quantity(annotation)
    if quantity:
        return quantity
    if get_origin(annotation) is Annotated:
        return type_word(get_args(annotation)[0])
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return " or ".join(dict.fromkeys(type_word(arg) for arg in args if arg is not type(None)))
    if origin is Literal:
        return " ".join(f"`{arg}`" for arg in args)
    if origin in {list, tuple, set, frozenset}:
        return f"list of {type_word(args[0])}" if len(args) != 2 or args[1] is Ellipsis else "[low, high]"
    if origin is dict:
        return f"map of {type_word(args[1])}"
    words = {str: "text", int: "integer", float: "number", bool: "switch", Path: "path", Any: "value"}
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " ".join(f"`{item.value}`" for item in annotation)
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def show_value(annotation: Any, value: Any) -> str:
    """A value as one writes it: a duration with its unit, a list in brackets."""
    quantity = _quantity(annotation)
    if value is None:
        return "none"
    if quantity and isinstance(value, int | float):
        for unit, size in _SCALES[quantity]:
            amount = value / size
            if amount >= 1 and abs(amount - round(amount)) < 1e-6:
                return f"{round(amount)}{unit}"
        unit, size = _SCALES[quantity][-1]
        return f"{value / size:g}{unit}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(show_value(None, item) for item in value) + "]"
    if isinstance(value, BaseModel):
        return str(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {show_value(None, item)}" for key, item in value.items()) + "}"
    return str(value.value if isinstance(value, Enum) else value)


def _quantity(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        for item in metadata:
            if isinstance(item, BeforeValidator) and item.func in _QUANTITIES:
                return _QUANTITIES[item.func]
        return _quantity(inner)
    if get_origin(annotation) in {Union, types.UnionType}:
        found = [_quantity(arg) for arg in get_args(annotation) if arg is not type(None)]
        return found[0] if len(set(found)) == 1 else ""
    return ""


def _default(field: FieldInfo, annotation: Any) -> str:
    if field.is_required():
        return "-"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "-"
    if isinstance(value, tuple) and len(value) == 2 and value[0] == "number":
        return f"{value[1]:g}"  # a deadband
    text = show_value(annotation, value)
    return f"`{text}`" if text not in {"", "none"} else text or "empty"


def _nested(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _nested(args[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    if origin in {Union, types.UnionType}:
        rest = [arg for arg in args if arg is not type(None)]
        return _nested(rest[0]) if len(rest) == 1 else (None, "")
    if origin in {list, tuple} and args:
        inner, _ = _nested(args[0])
        return inner, "[]"
    if origin is dict:
        inner, _ = _nested(args[1])
        return inner, ".<name>"
    return None, ""


def _unchanged(model: type[BaseModel], names: frozenset[str]) -> set[str]:
    return {name for name in names if model.model_fields[name].default == SourceOptions.model_fields[name].default}


def _doc(model: type[BaseModel]) -> str:
    text = " ".join((model.__doc__ or "").replace("``", "`").split())
    return text + "\n" if text else ""


def _csv_text() -> str:
    base, further = (", ".join(f"`{name}`" for name in names) for names in (BASE, FURTHER))
    return (
        "One row a tag; columns are matched by name, the delimiter (`,` `;` tab `|`) is found in the header.\n\n"
        f"Columns: {base}.\n\nFurther columns, only where a tag uses them: {further}.\n\n"
        "`scan_ms` is a number of milliseconds; `sentinels` are separated by spaces or `;`; "
        "`path`, `source` and `address` are required.\n"
    )


def _table(items: Iterator[Row]) -> str:
    head = ("Option", "Type", "Default", "Description")
    return _lines([head, *((f"`{row.name}`", row.type, row.default, row.description) for row in items)])


def _lines(table: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in table]
    lines.insert(1, "|" + " --- |" * len(table[0]))
    return "\n".join(lines) + "\n"
