"""
Check a tree of YAML nodes against a pydantic model; every error becomes a problem with its place.

The stable codes are listed in docs/configuration.md.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from broker.config.codes import CODES
from broker.config.secrets import SECRET_FIELDS, unusable
from broker.config.yaml_lines import Misread, Node, dotted
from schemas.errors import Problem
from schemas.quantities import parse_duration, parse_keep, parse_share, parse_size

M = TypeVar("M", bound=BaseModel)

_PARSERS: Final = {parse_duration, parse_keep, parse_share, parse_size}
_REFERENCE: Final = re.compile(r"^(env|file|cred):[^\s]+$")
#: Private keys: a file, which a reference may name.
_KEYS: Final = frozenset({"key"})

_USER_IN_URL: Final = re.compile(r"^[a-z][a-z0-9+.]*://[^/@\s]*:[^/@\s]*@", re.IGNORECASE)


def nearest(word: object, known: Iterable[str]) -> str:
    """Hint that names the known word nearest to *word*, empty when none is near."""
    match = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.55)
    return f"did you mean {match[0]!r}?" if match else ""


def validate(model: type[M], node: Node, path: tuple[str | int, ...], problems: list[Problem]) -> M | None:
    """
    Build *model* from *node*, which stands at *path* of its file; None when a problem was added.

    Every problem of the node is added, not the first only.
    """
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        seen: set[tuple[int, int, str]] = set()
        details = error.errors(include_url=False)
        for detail in details:
            if detail["type"] == "too_short" and any(_below(other["loc"], detail["loc"]) for other in details):
                continue  # pydantic counts the items that are right
            problem = _problem(model, node, path, detail)
            mark = problem.line, problem.column, problem.path
            if mark not in seen:
                seen.add(mark)
                problems.append(problem)
        return None


def literal_secrets(node: Node, path: tuple[str | int, ...] = ()) -> list[Problem]:
    """Problems of secrets that stand in the tree itself; the messages do not repeat them."""
    found = []
    for place, scalar in node.walk(path):
        key = place[-1] if place else ""
        text = scalar.value
        if key in SECRET_FIELDS and text is not None and not (isinstance(text, str) and _REFERENCE.match(text)):
            hint = f"write env:NAME or file:NAME, for example {key}: file:secrets/{key}"
            found.append(scalar.problem(dotted(place), "literal_secret", "a secret must be a reference", hint))
        elif isinstance(text, str) and _USER_IN_URL.match(text):
            hint = "use the options for user and password"
            found.append(scalar.problem(dotted(place), "literal_secret", "the URL carries a password", hint))
    return found


def unusable_secrets(node: Node, base_dir: Path) -> list[Problem]:
    """
    Warnings of references to secrets that this process cannot use: not set, not there, open to others.

    Warnings, for the environment and the user of the service may be others.
    """
    found = []
    for place, scalar in node.walk():
        text = scalar.value
        if isinstance(text, str) and _REFERENCE.match(text) and (place[-1] in SECRET_FIELDS or place[-1] in _KEYS):
            why = unusable(text, base_dir)
            if why:
                hint = "" if "chmod" in why else "fairlead needs it when it runs"
                found.append(scalar.problem(dotted(place), "unusable_secret", why, hint, warning=True))
    return found


def _problem(model: type[BaseModel], node: Node, path: tuple[str | int, ...], detail: ErrorDetails) -> Problem:
    loc = _real(node, detail["loc"])
    shown = dotted((*path, *loc))
    where = node.at(loc)
    kind = detail["type"]
    message = _lower(detail["msg"].removeprefix("Value error, "))
    if kind == "extra_forbidden":
        key = loc[-1]
        holder = node.at(loc[:-1])
        hint = nearest(key, known_keys(model, loc[:-1]))
        return holder.key_problem(key, shown, "unknown_key", f"unknown option {key!r}", hint)
    if kind == "missing":
        names = [known for known in node.at(loc[:-1]).items if isinstance(known, str)]
        hint = nearest(loc[-1], names).replace("did you mean", "is it")
        return node.at(loc[:-1]).problem(shown, "missing_key", f"the option {str(loc[-1])!r} is required", hint)
    value = where.value
    if kind in CODES:
        return where.problem(shown, kind, message)
    if isinstance(value, Misread):
        return _misread(model, where, loc, shown, value)
    if kind == "string_type" and where.text is not None and isinstance(value, int | float):
        hint = f'write "{where.text}"'
        return where.problem(shown, "unquoted_address", "YAML reads this text as a number or a switch", hint)
    if kind in {"value_error", "assertion_error"}:
        code = "bad_quantity" if is_quantity(model, loc) else "bad_value"
        return where.problem(shown, code, message)
    if value is None and kind != "none_required":
        return where.problem(shown, "bad_value", "the option has no value")
    if kind in {"literal_error", "enum"}:
        choices = re.findall(r"'([^']*)'", message)
        if where.text in choices and not isinstance(value, str):
            hint = f'write "{where.text}"'
            return where.problem(shown, "unquoted_address", "YAML reads this text as a number or a switch", hint)
        return where.problem(shown, "bad_value", message.replace("input should ", "must "), nearest(value, choices))
    return where.problem(shown, "bad_value", message.replace("input should ", "must "))


def _misread(model: type[BaseModel], where: Node, loc: tuple[str | int, ...], shown: str, value: Misread) -> Problem:
    kinds = set(_leaf_types(annotation_at(model, loc)))
    if bool in kinds and value.reading == "a switch":
        return where.problem(shown, "bad_value", f"{value.text} is not a switch in every YAML", "write true or false")
    if kinds and kinds <= {int, float} and not is_quantity(model, loc):
        return where.problem(shown, "bad_value", f"{value.text} is not a plain decimal number")
    if is_quantity(model, loc):
        return where.problem(shown, "bad_quantity", f"{value.text} is not a quantity such as 5min, 64MiB or 70%")
    hint = f'write "{value.text}"'
    return where.problem(shown, "unquoted_address", f"YAML reads {value.text} as {value.reading}", hint)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _below(loc: tuple[str | int, ...], above: tuple[str | int, ...]) -> bool:
    return len(loc) > len(above) and loc[: len(above)] == above


def _real(node: Node, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """*loc* without the names that pydantic puts in for branches of a union; a missing last part stays."""
    out: list[str | int] = []
    for index, part in enumerate(loc):
        value = node.value
        child = node.child(part)
        if child is not None:
            node = child
        elif not (isinstance(value, dict) and index == len(loc) - 1):
            continue
        out.append(part)
    return tuple(out)


def annotation_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[Any]:
    """Annotations a value at *loc* may have, every union branch, with the metadata of its field."""
    current: list[Any] = [model]
    for part in loc:
        following: list[Any] = []
        for item in current:
            for branch in _branches(item):
                origin = get_origin(branch)
                if isinstance(branch, type) and issubclass(branch, BaseModel):
                    field = _field(branch, part)
                    if field is not None:
                        following.append(_with_metadata(field))
                elif origin is dict:
                    following.append(get_args(branch)[1])
                elif origin in {list, tuple, set, frozenset}:
                    following.extend(arg for arg in get_args(branch) if arg is not Ellipsis)
        current = following
    return current


def known_keys(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Names of the options a map at *loc* may have."""
    names: list[str] = []
    for annotation in annotation_at(model, loc):
        for branch in _branches(annotation):
            if isinstance(branch, type) and issubclass(branch, BaseModel):
                names.extend(field.alias or name for name, field in branch.model_fields.items())
    return names


def is_quantity(model: type[BaseModel], loc: tuple[str | int, ...]) -> bool:
    """Whether a value at *loc* is written with a unit (``500ms``, ``64MiB``, ``70%``)."""
    return any(_has_parser(annotation) for annotation in annotation_at(model, loc))


def _has_parser(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        found = any(isinstance(item, BeforeValidator) and item.func in _PARSERS for item in metadata)
        return found or _has_parser(inner)
    if get_origin(annotation) in {Union, types.UnionType}:
        return any(_has_parser(arg) for arg in get_args(annotation))
    return False


def _field(model: type[BaseModel], name: str | int) -> FieldInfo | None:
    for key, field in model.model_fields.items():
        if name in {key, field.alias}:
            return field
    return None


def _with_metadata(field: FieldInfo) -> Any:
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _branches(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _branches(get_args(annotation)[0])
    elif origin in {Union, types.UnionType}:
        for arg in get_args(annotation):
            yield from _branches(arg)
    else:
        yield annotation


def _leaf_types(annotations: list[Any]) -> Iterator[Any]:
    for annotation in annotations:
        for branch in _branches(annotation):
            if branch is not type(None) and get_origin(branch) is not Literal:
                yield branch
