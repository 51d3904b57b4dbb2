"""
Options from the environment: ``FAIRLEAD_STORE__URL`` is ``store.url``; ``…_FILE`` reads the value from a file.

Two underscores make a level. The environment is stronger than the file. Source: configuration rule 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from broker.config.validate import nearest
from broker.config.yaml_lines import Node, parse_yaml
from schemas.errors import Problem

PREFIX: Final = "FAIRLEAD_"


def apply_environment(top: Node, environ: Mapping[str, str], known: set[str], problems: list[Problem]) -> None:
    """
    Put every option that *environ* names into the tree *top*.

    *known* are the names at the top of the file. A name without ``__`` that is none of them belongs to someone else
    and is left alone (``FAIRLEAD_CONFIG``).
    """
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        parts = name.removeprefix(PREFIX).lower().split("__")
        if len(parts) == 1 and parts[0] not in known:
            continue
        if parts[0] not in known or not all(parts):
            hint = nearest(parts[0], known)
            problems.append(Problem(name, 0, 0, "", "unknown_key", f"unknown option {parts[0]!r}", hint))
            continue
        text = environ[name]
        if parts[-1].endswith("_file") and len(parts) > 1:
            parts[-1] = parts[-1].removesuffix("_file")
            try:
                text = Path(text).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError):
                problems.append(Problem(name, 0, 0, ".".join(parts), "bad_file", "the file cannot be read"))
                continue
        _put(top, parts, name, text)


def _put(node: Node, parts: list[str], name: str, text: str) -> None:
    for part in parts[:-1]:
        if not isinstance(node.value, dict):
            return
        if not isinstance(node.value.get(part), Node) or not isinstance(node.value[part].value, dict):
            node.value[part] = Node(name, 0, 0, {}, None, {})
        node = node.value[part]
    if isinstance(node.value, dict):
        node.value[parts[-1]] = _value(name, text)


def _value(name: str, text: str) -> Node:
    """A list or map is written as YAML flow; anything else is a text, which the option's type reads."""
    if text[:1] in {"[", "{"}:
        parsed, _ = parse_yaml("value: " + text, name)
        if parsed is not None:
            return _without_place(parsed.items["value"], name)
    return Node(name, 0, 0, text)


def _without_place(node: Node, name: str) -> Node:
    value: Any = node.value
    if isinstance(value, dict):
        value = {key: _without_place(item, name) for key, item in value.items()}
    elif isinstance(value, list):
        value = [_without_place(item, name) for item in value]
    return Node(name, 0, 0, value, node.text, {} if isinstance(value, dict) else None)
