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


class _Null(list[Any]):
    """Stands for a null where nothing must be told from it: as false as a null, and itself in every place within."""

    def get(self, _name: str) -> _Null:
        return self

    def __getitem__(self, _index: Any) -> _Null:
        return self


_NULL: Final = _Null()


class Nulls:
    """
    Tells a null in one decoded document from a member that is missing.

    The copy that paths with functions or filters need is made once, and none where the payload has no null at all.
    """

    def __init__(self, payload: bytes, document: Any) -> None:
        self._any = b"null" in payload  # a literal of JSON, which has no other spelling
        self._document = document
        self._marked: Any = None

    def met(self, path: str | None, get: Getter) -> bool:
        """
        Whether *get*, the getter of *path*, which gave None, met a null there or on the way, and not a missing member.

        Paths with functions or filters are evaluated once more; where they cannot tell, the answer is no.
        """
        if not self._any:
            return False
        document = self._document
        if path is None or _SIMPLE.match(path) is not None:
            for name in () if path is None else path.split("."):
                if document is None:
                    return True
                if type(document) is not dict or name not in document:
                    return False
                document = document[name]
            return document is None
        if self._marked is None:
            self._marked = _marked(document)
        try:
            return get(self._marked) is _NULL
        except ValueError:
            return False


def _marked(document: Any) -> Any:
    """A copy of decoded JSON whose nulls can be told from nothing."""
    if isinstance(document, dict):
        return {name: _marked(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_marked(value) for value in document]
    return _NULL if document is None else document


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
