"""The resolved map as bytes and back."""

from __future__ import annotations

from schemas.tagmap import Equipment, Tag, TagMap


def _map() -> TagMap:
    tags = tuple(
        Tag(number=i, id=f"t{i}", path=f"A/B/v{i}", source="plc", address=str(i), range=(0.0, i) if i % 2 else None)
        for i in range(6)
    )
    return TagMap(site="A/B", tags=tags, equipment=(Equipment(path="A/B/C", running=(1, 2)),))


def test_a_map_comes_back_from_its_body() -> None:
    """Equal in every field, of the same revision, and no less frozen."""
    before = _map()
    after = TagMap.from_body(before.body)

    assert (after, after.revision) == (before, before.revision)
    assert [tag.model_fields_set for tag in after.tags] == [
        {"number", "id", "path", "source", "address"} | ({"range"} if tag.range else set()) for tag in before.tags
    ]


def test_tags_share_no_more_than_the_names_of_their_fields() -> None:
    """A copy of one tag with another field changes no other tag."""
    after = TagMap.from_body(_map().body)
    copy = after.tags[0].model_copy(update={"deadband": 0.5})

    assert copy.model_fields_set == after.tags[0].model_fields_set | {"deadband"}
    assert (
        after.tags[0].model_fields_set
        == after.tags[2].model_fields_set
        == {"number", "id", "path", "source", "address"}
    )
    assert after.body == _map().body
