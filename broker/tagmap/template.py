"""
Templates: ``{use: motor, at: Acme/Lyon/M1, with: {base: 100}}`` becomes the template's tags.

``{base}`` is the parameter as it is; ``{base + 2 * n}`` is arithmetic with ``+ - *`` on integers; nothing else is
evaluated. ``{{`` and ``}}`` are braces. In units a name that is no parameter stays (``{pcs}`` is UCUM).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from broker.config.validate import nearest
from broker.config.yaml_lines import Node, dotted
from schemas.errors import Problem

Params = Mapping[str, int | float | str]

_PLACE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_TOKEN: Final = re.compile(r"\s*(?:([0-9]+)|([A-Za-z_][A-Za-z0-9_]*)|([-+*]))")
_NAME: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_UNIT_KEYS: Final = frozenset({"unit", "source_unit"})
#: Options of a tag that a use of a template may not replace: they differ from tag to tag.
OWN: Final = frozenset({"path", "name", "address", "id"})


def fill(text: str, params: Params, *, unit: str = "") -> str:
    """
    *text* with every placeholder replaced; with *unit* = "unit", names that are no parameter stay.

    Raises ValueError with a text for the person who wrote the template.
    """

    def replace(match: re.Match[str]) -> str:
        if match[0] in {"{{", "}}"}:
            return match[0][0]
        expression = match[1].strip()
        if unit and expression not in params:
            return match[0]
        return str(evaluate(expression, params))

    return _PLACE.sub(replace, text)


def evaluate(expression: str, params: Params) -> int | float | str:
    """Value of a parameter's name, or of ``+ - *`` on integers. Raises ValueError."""
    if _NAME.match(expression):
        return _param(expression, params)
    total, sign, product, position = 0, 1, None, 0
    want_value = True
    while position < len(expression.rstrip()):
        match = _TOKEN.match(expression, position)
        if match is None or want_value == bool(match[3]):
            raise ValueError(f"{{{expression}}} is not + - * on integers and parameters")
        position = match.end()
        if match[3] == "*":
            want_value = True
        elif match[3]:
            total, sign, product, want_value = total + sign * (product or 0), 1 if match[3] == "+" else -1, None, True
        else:
            value = int(match[1]) if match[1] else _integer(match[2], params)
            product = value if product is None else product * value
            want_value = False
    if want_value:
        raise ValueError(f"{{{expression}}} is not + - * on integers and parameters")
    return total + sign * (product or 0)


def _param(name: str, params: Params) -> int | float | str:
    if name not in params:
        hint = nearest(name, params)
        raise ValueError(f"the template has no parameter {name!r}" + (f"; {hint}" if hint else ""))
    return params[name]


def _integer(name: str, params: Params) -> int:
    value = _param(name, params)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"the parameter {name!r} is not an integer, and only integers can be calculated with")


def expand(use: Node, templates: Mapping[str, Node], path: str, problems: list[Problem]) -> list[Node]:
    """The tags of one ``use``, each a node as if it had been written out; empty where a problem was added."""
    name, at, given = use.items["use"], use.items.get("at"), use.items.get("with")
    template = templates.get(str(name.value))
    if template is None:
        hint = nearest(name.value, templates) or "templates are defined under `templates:`"
        problems.append(name.problem(f"{path}.use", "bad_value", f"unknown template {str(name.value)!r}", hint))
        return []
    if at is None or not isinstance(at.value, str) or not at.value:
        problems.append((at or use).problem(f"{path}.at", "missing_key", "the option 'at' (a path) is required", ""))
        return []
    shared = {key: node for key, node in use.items.items() if key not in {"use", "at", "with"}}
    for key in sorted(OWN & set(shared)):
        problems.append(use.key_problem(key, f"{path}.{key}", "bad_value", f"a template's tags have their own {key}"))
        shared.pop(key)
    params = _params(template, given, use, path, problems)
    if params is None:
        return []
    tags = []
    for item in template.items["tags"].value:
        filled = _fill(item, params, item.items["name"].value, problems)
        if filled is None:
            continue
        own = dict(filled.items)
        title = own.pop("name")
        own["path"] = Node(title.file, title.line, title.column, f"{at.value}/{title.value}")
        tags.append(Node(item.file, item.line, item.column, {**own, **shared}, None, {**(item.keys or {})}))
    return tags


def _params(template: Node, given: Node | None, use: Node, path: str, problems: list[Problem]) -> Params | None:
    wanted = template.items["params"].plain() if "params" in template.items else []
    values = given.plain() if given is not None else {}
    where = given or use
    if not isinstance(values, dict):
        problems.append(where.problem(f"{path}.with", "bad_template_parameter", "must be a map of parameters"))
        return None
    count = len(problems)
    for key, value in values.items():
        if key not in wanted:
            hint = nearest(key, wanted)
            text = f"the template has no parameter {key!r}"
            problems.append(where.key_problem(key, f"{path}.with.{key}", "bad_template_parameter", text, hint))
        elif isinstance(value, bool) or not isinstance(value, int | float | str):
            node = where.at((key,))
            text = "a parameter is a number or a text"
            problems.append(node.problem(f"{path}.with.{key}", "bad_template_parameter", text, "quote a text"))
    missing = [key for key in wanted if key not in values]
    if missing:
        text = f"the template wants {', '.join(missing)}"
        problems.append(where.problem(f"{path}.with", "bad_template_parameter", text))
    return values if len(problems) == count else None


def _fill(
    node: Node, params: Params, name: str, problems: list[Problem], path: tuple[str | int, ...] = ()
) -> Node | None:
    if isinstance(node.value, dict):
        members = {key: _fill(item, params, name, problems, (*path, key)) for key, item in node.value.items()}
        if any(item is None for item in members.values()):
            return None
        return Node(node.file, node.line, node.column, members, None, node.keys)
    if isinstance(node.value, list):
        items = [_fill(item, params, name, problems, (*path, i)) for i, item in enumerate(node.value)]
        return None if None in items else Node(node.file, node.line, node.column, items)
    if not isinstance(node.value, str) or ("{" not in node.value and "}" not in node.value):
        return node
    try:
        text = fill(node.value, params, unit="unit" if path and path[-1] in _UNIT_KEYS else "")
    except ValueError as error:
        problems.append(node.problem(f"{name}.{dotted(path)}", "bad_template_parameter", str(error)))
        return None
    return Node(node.file, node.line, node.column, text)
