"""Exact values in msgpack: extensions for what it cannot hold, and how deep a value may go."""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: msgpack integers end at 64 bits, and text must be UTF-8: what lies beyond travels as an extension.
_BIG_INT: Final = 1
_SURROGATES: Final = 2
#: Levels of lists and dicts an exact value may have; what is read back must never meet the interpreter's own limit.
MAX_DEPTH: Final = 32


def packable(value: Any) -> Any:
    """The same value with what msgpack cannot hold replaced by extensions."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return msgspec.msgpack.Ext(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return msgspec.msgpack.Ext(_SURROGATES, value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return {clean(key) if isinstance(key, str) else key: packable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [packable(item) for item in value]
    return value


def unpack(code: int, data: memoryview) -> Any:
    """What an extension of :func:`packable` stands for: msgspec's ``ext_hook``."""
    if code == _BIG_INT:
        return int.from_bytes(data, "little", signed=True)
    if code == _SURROGATES:
        return bytes(data).decode("utf-8", "surrogatepass")
    return msgspec.msgpack.Ext(code, bytes(data))


def is_shallow(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Whether lists and dicts are nested in no more than so many *levels*."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return levels > 0 and all(is_shallow(item, levels - 1) for item in value)


def clean(text: str) -> str:
    """The same text with what UTF-8 does not have written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
