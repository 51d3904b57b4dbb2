"""
What the map said of a tag's values, and from which record on: their type, and the texts of an enumeration.

A map changes at a place in the stream, so a record's number keeps the text that it had when the record was stored. A
replay with a map of its own has meanings of its own, under its revision.
"""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from broker.store import tables
from broker.store.memory import Memory, identity
from broker.store.text import clean
from schemas.tagmap import Tag, TagMap

_M: Final = tables.tag_meanings
#: Types whose values are kept as they are unless the tag is scaled; floats are doubles, but for what a flag tells.
_FLOATS: Final = ("float16", "float32", "float64")


class Meaning(msgspec.Struct, frozen=True, omit_defaults=True):
    """Type of the stored value, None where the map does not say; texts by number."""

    type: str | None = None
    enum: dict[str, str] | None = None


@lru_cache(4096)
def meaning(body: str | None) -> Meaning:
    """What ``tag_meanings.body`` says; nothing for None."""
    return Meaning() if body is None else msgspec.json.decode(body, type=Meaning)


def use_map(
    connection: sa.Connection, memory: Memory, tag_map: TagMap, seq: int, fresh: Set[int] = frozenset()
) -> None:
    """
    Records from *seq* on have the meaning that *tag_map* gives their tags.

    Of *fresh* numbers, which the map has brought, no record is there yet: theirs holds from the beginning.
    """
    # a map that was read again, or under which no record was stored
    connection.execute(_M.delete().where(_M.c.revision == 0, _M.c.from_seq >= max(seq, 1)))
    known = _newest(connection)
    rows = [
        _row(tag_id, 0, 0 if tag_id in fresh else seq, body)
        for tag_id, body in _bodies(memory, tag_map)
        if body != known.get(tag_id, _EMPTY)
    ]
    if rows:
        connection.execute(_M.insert(), rows)


def use_replay(connection: sa.Connection, memory: Memory, tag_map: TagMap, revision: int) -> None:
    """Records of a replay have the meaning of its own map, where that is another than that of the map in force."""
    known = _newest(connection)
    rows = [
        _row(tag_id, revision, 0, body)
        for tag_id, body in _bodies(memory, tag_map)
        if body != known.get(tag_id, _EMPTY)
    ]
    if rows:
        connection.execute(_M.insert(), rows)


def column(record: sa.Table, tag_id: sa.ColumnElement[int]) -> sa.ScalarSelect[str]:
    """``tag_meanings.body`` of the row of *record*; one seek."""
    return (
        sa.select(_M.c.body)
        .where(
            _M.c.tag_id == tag_id,
            _M.c.revision.in_([sa.literal(0), record.c.revision]),
            _M.c.from_seq <= record.c.seq,
        )
        .order_by(_M.c.revision.desc(), _M.c.from_seq.desc())
        .limit(1)
        .correlate_except(_M)
        .scalar_subquery()
    )


def _newest(connection: sa.Connection) -> dict[int, str]:
    query = sa.select(_M.c.tag_id, _M.c.body).where(_M.c.revision == 0).order_by(_M.c.tag_id, _M.c.from_seq)
    return {row.tag_id: row.body for row in connection.execute(query)}


def _row(tag_id: int, revision: int, from_seq: int, body: str) -> dict[str, Any]:
    return {"tag_id": tag_id, "revision": revision, "from_seq": from_seq, "body": body}


def _bodies(memory: Memory, tag_map: TagMap) -> list[tuple[int, str]]:
    return [(memory.tag_ids[key], _body(tag)) for tag in tag_map.tags if (key := identity(tag)) in memory.tag_ids]


def _body(tag: Tag) -> str:
    enum = None if tag.enum is None else {str(number): clean(text) for number, text in sorted(tag.enum.items())}
    return msgspec.json.encode(Meaning(value_type(tag), enum)).decode()


_EMPTY: Final = "{}"


def value_type(tag: Tag) -> str | None:
    """Type of what SQL has of a tag's value: what is scaled or may be cut is a double, whatever the device sends."""
    if tag.type is None:
        return None
    kind = tag.type.split("[", 1)[0]
    if kind in ("string", "bytes"):
        return kind
    changed = tag.scale_mode != "none" or tag.factor != 1.0 or tag.offset != 0.0 or tag.clamp != "none"
    return "float64" if changed or kind in _FLOATS else kind
