"""The detail of an audit row in one short line, for a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

#: Characters of an id and of a line that people are shown.
_SHORT_ID: Final = 12
_LONGEST: Final = 80
#: Options that a line names; the others are counted.
_NAMED: Final = 3
#: A SHA-256 or a UUID.
_ID: Final = re.compile(r"\b(?:[0-9a-f]{32,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
#: How many tags of a map in force differ from those of the one before (``broker.map_changes.counts``).
_COUNTS: Final = ("added", "removed", "renamed", "changed")


def short_ids(text: str) -> str:
    """*text* with the first characters of each hash and UUID in it; names stay whole."""
    return _ID.sub(lambda found: found[0][:_SHORT_ID], text)


def in_short(detail: Mapping[str, Any]) -> str:
    """What a row of the audit tells, in at most 80 characters: what is long in it is counted."""
    line = short_ids("; ".join(_parts(detail)))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _parts(detail: Mapping[str, Any]) -> Iterator[str]:
    match detail:
        case {"options": {} as options}:  # configuration_in_force, the first
            yield f"{len(options)} options"
        case {"version": _, "changed": {} as changed}:  # configuration_in_force, a later one
            more = ", …" if len(changed) > _NAMED else ""
            yield f"{len(changed)} changed: {', '.join(list(changed)[:_NAMED])}{more}"
        case {"tags": int(tags), "before": None}:  # map_in_force, the first
            yield f"{tags} tags"
        case {"tags": int(), "changes": [*changes], "not_named": int(more)}:  # map_in_force, a later one
            counts = [f"{detail[name]} {name}" for name in _COUNTS if detail.get(name)]
            yield ", ".join(counts) or f"{len(changes) + more} other changes: {', '.join(map(str, changes))}"
        case _:
            yield from (f"{name.replace('_', ' ')} {told}" for name, value in detail.items() if (told := _told(value)))


def _told(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return f"({len(value)})" if value else ""
    if isinstance(value, list):
        plain = not any(isinstance(item, dict | list) for item in value)
        return ", ".join(map(str, value)) if plain else f"({len(value)})"
    return str(value)
