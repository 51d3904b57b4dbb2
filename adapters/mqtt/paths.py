"""JMESPath on decoded JSON, and texts of errors cut to a length."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import jmespath

_SIMPLE: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*$")
#: Characters of one reason; a library may repeat the whole payload in its error.
_REASON: Final = 200

Getter = Callable[[Any], Any]


def getter(path: str | None) -> Getter:
    """
    Evaluate a JMESPath on decoded JSON; None where it finds nothing, ValueError where it cannot be evaluated.

    Plain member chains (``a.b.c``) take a path of their own that costs a tenth of the library's.
    """
    if path is None:
        return lambda document: document
    if _SIMPLE.match(path) is None:
        return _search(path)
    names = path.split(".")
    if len(names) == 1:
        only = names[0]
        return lambda document: document.get(only) if type(document) is dict else None

    def walk(document: Any) -> Any:
        for name in names:
            document = document.get(name) if type(document) is dict else None
        return document

    return walk


def is_member(path: str) -> bool:
    """Whether a path is one member of an object, nothing more."""
    return _SIMPLE.match(path) is not None and "." not in path


def _search(path: str) -> Getter:
    compiled = jmespath.compile(path)

    def search(document: Any) -> Any:
        try:
            return compiled.search(document)
        except Exception as error:
            # The library lets TypeError, OverflowError and AttributeError of its functions pass.
            raise ValueError(f"{path}: {said(error)}") from error

    return search


def said(error: Exception) -> str:
    """Text of an error, cut; jmespath puts the value into its text, and not every value has one."""
    try:
        text = str(error)
    except ValueError:
        text = ""
    return (text or type(error).__name__)[:_REASON]
