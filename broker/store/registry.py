"""Tags, equipment and maps: numbers for stable ids, in the order in which the stream first names them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from broker.store import meanings, tables
from broker.store.memory import Memory, numbers
from broker.store.text import clean, stored_json
from schemas.tagmap import Equipment, Tag, TagMap


def use_map(connection: sa.Connection, memory: Memory, revision: bytes, tag_map: TagMap, next_seq: int) -> None:
    """
    Register what *tag_map* names; a tag known by its id keeps its number, whatever its path is now.

    Records from *next_seq* on have the types and texts of this map.

    What the map does not name any more stays, marked as not in the map.
    """
    if revision != tag_map.revision:
        raise ValueError("the map's content does not belong to this revision")
    tags, maps = tables.tags, tables.maps
    connection.execute(tags.update().values(in_map=0))
    connection.execute(tables.equipment.update().values(in_map=0))
    fresh: list[dict[str, object]] = []
    known: list[dict[str, object]] = []
    for tag in tag_map.tags:
        number = memory.tag_ids.get(tag.id)
        if number is None:
            number = memory.tag_ids[tag.id] = memory.next("tag_id")
            fresh.append({"tag_id": number, "id": clean(tag.id), **_tag(tag)})
        else:
            known.append({"key": number, **_tag(tag)})
    if fresh:
        connection.execute(tags.insert(), fresh)
    if known:
        connection.execute(tags.update().where(tags.c.tag_id == sa.bindparam("key")), known)
    memory.set("tags_in_map", len({tag.id for tag in tag_map.tags}))
    memory.make_room()
    memory.numbering[revision] = numbers(memory, tag_map)
    _equipment(connection, tag_map)
    meanings.use_map(connection, memory, tag_map, next_seq)
    if connection.execute(sa.select(maps.c.ordinal).where(maps.c.revision == revision)).first() is None:
        connection.execute(maps.insert().values(revision=revision, ordinal=memory.next("map"), body=tag_map.body))


def _tag(tag: Tag) -> dict[str, object]:
    low, high = tag.range or (None, None)
    return {
        "path": clean(tag.path),
        "source": clean(tag.source),
        "address": clean(tag.address),
        "type": tag.type,
        "unit": clean(tag.unit),
        "role": tag.role,
        "equipment": clean(tag.equipment),
        "range_low": low,
        "range_high": high,
        "enum": None
        if tag.enum is None
        else msgspec.json.encode({str(k): clean(v) for k, v in sorted(tag.enum.items())}).decode(),
        "description": clean(tag.description),
        "in_map": 1,
    }


def _equipment(connection: sa.Connection, tag_map: TagMap) -> None:
    table = tables.equipment
    paths = [item.path for item in tag_map.equipment]
    if not paths:
        return
    connection.execute(table.delete().where(table.c.path == sa.bindparam("key")), [{"key": path} for path in paths])
    connection.execute(table.insert(), [_equipment_row(item) for item in tag_map.equipment])


def _equipment_row(item: Equipment) -> dict[str, object]:
    return {
        "path": clean(item.path),
        "equipment_class": item.equipment_class,
        "body": stored_json(item),
        "in_map": 1,
    }
