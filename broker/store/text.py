"""Text and JSON as both databases hold them: no NUL, no lone surrogates (trap S10)."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from typing import Any, Final

import msgspec
from pydantic import BaseModel

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
#: A NUL as JSON spells it: the backslash is not itself escaped.
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
#: Longest text of one value in characters; tables.py has the CHECK, a longer one goes to quarantine.
MAX_TEXT: Final = 1 << 20


def clean(text: str) -> str:
    """*text* with U+FFFD in the place of each NUL and each lone surrogate."""
    return _UNSTORABLE.sub("\ufffd", text)


def stored_json(model: BaseModel, exclude: Collection[str] = ()) -> str:
    """
    JSON of *model* as both databases hold it.

    A NUL stands in JSON as an escape, which :func:`clean` cannot see: PostgreSQL stores it and fails to read the text
    as JSON from then on.
    """
    return clean(_ESCAPED_NUL.sub("\\1\ufffd", model.model_dump_json(exclude=set(exclude))))


def clean_json(value: Any) -> Any:
    """A copy of a JSON-like value in which every text and key is clean."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value


def canonical(value: Any) -> str:
    """Canonical JSON text: sorted keys, no white space. Raises TypeError, ValueError or OverflowError."""
    return msgspec.json.encode(clean_json(value), order="sorted").decode()


def text_of_bytes(raw: bytes) -> str:
    """Bytes as base64, since neither the views nor JSON have another form."""
    return base64.b64encode(raw).decode("ascii")
