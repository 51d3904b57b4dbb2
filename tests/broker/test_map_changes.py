"""What differs between two maps, and what a value becomes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from broker.map_changes import _FIELDS, Change, becomes, compare, counts
from normalizers.base import TagColumns
from normalizers.scale import scale
from schemas.calendar import Window
from schemas.tagmap import Equipment, Tag, TagMap


def tag(name: str, **fields: Any) -> Tag:
    base = {"number": 0, "id": f"t-{name}", "path": f"Acme/Lyon/A/{name}", "source": "plc", "address": name}
    return Tag.model_validate({**base, **fields})


def site(*tags: Tag, **more: Any) -> TagMap:
    return TagMap(
        site="Acme/Lyon", tags=tuple(one.model_copy(update={"number": n}) for n, one in enumerate(tags)), **more
    )


def told(before: TagMap, after: TagMap) -> list[tuple[str, str]]:
    return [(change.kind, change.path.removeprefix("Acme/Lyon/A/")) for change in compare(before, after)]


def test_every_field_of_a_tag_has_its_kind() -> None:
    """A field that no kind has would change in silence; id is the identity, and a number is the place in the map."""
    assert {"id", "number", *itertools.chain.from_iterable(_FIELDS.values())} == set(Tag.model_fields)


def test_each_kind_of_change_is_told() -> None:
    """One change of a field of each kind; equal maps, and another number alone, are no change."""
    flow = tag("Flow", unit="m3/h", range=(0, 50), type="uint16")
    changes: dict[str, dict[str, Any]] = {
        "renamed": {"path": "Acme/Lyon/A/Flow2"},
        "re-addressed": {"address": "40002"},
        "type": {"byte_order": "CDAB"},
        "re-scaled": {"factor": 0.1},
        "unit": {"unit": "L/s"},
        "limits": {"deadband": 0.5},
        "other": {"description": "the flow"},
    }
    for kind, fields in changes.items():
        assert [change.kind for change in compare(site(flow), site(flow.model_copy(update=fields)))] == [kind]
    assert compare(site(flow, tag("Last")), site(tag("First"), flow, tag("Last")))[0].kind == "added"
    assert compare(site(flow), site(flow)) == []


def test_every_field_of_a_tag_belongs_to_a_kind() -> None:
    """A field that somebody adds must be told, too."""
    values: dict[str, Any] = {"range": (0.0, 1.0), "enum": {1: "on"}, "sentinels": (1.0,), "clamp": "low", "role": "pv"}
    values |= {"scale_mode": "sqrt", "detect": "none", "type": "bool"}
    for name, field in Tag.model_fields.items():
        if name in ("number", "id"):
            continue
        other = values.get(name, "x" if isinstance(getattr(tag("A"), name), str | None) else 7)
        changed = tag("A").model_copy(update={name: other})
        found = compare(site(tag("A")), site(changed))
        assert [one[0] for change in found for one in change.fields] == [name], field


def test_a_probable_rename_names_the_id() -> None:
    """Removed and added with one source and address; where it could be two, nothing is guessed."""
    before, after = site(tag("Flow", address="1")), site(tag("Flow2", address="1"))
    (change,) = compare(before, after)
    assert change.kind == "renamed?"
    assert "give the tag id: t-Flow" in change.text
    assert told(before, site(tag("Flow2", address="1"), tag("Flow3", address="1"))) == [
        ("removed", "Flow"),
        ("added", "Flow2"),
        ("added", "Flow3"),
    ]
    assert told(before, site(tag("Flow2", address="1", source="plc2"))) == [("removed", "Flow"), ("added", "Flow2")]
    assert told(before, site(tag("Flow2", id="t-Flow", address="1"))) == [("renamed", "Flow2")]


def test_whatever_else_the_map_says_is_told() -> None:
    """Two maps with different revisions never have no difference."""
    pump = Equipment(path="Acme/Lyon/A", equipment_class="pump")
    window = Window(name="early", kind="shift", days=(0,), start_min=360, minutes=480)
    plain = site(tag("A"))
    for other in (site(tag("A"), equipment=(pump,)), site(tag("A"), calendar=(window,))):
        assert len(compare(plain, other)) == 1
        assert len(compare(other, plain)) == 1
    (change,) = compare(site(equipment=(pump,)), site(equipment=(pump.model_copy(update={"equipment_class": "fan"}),)))
    assert change == Change("equipment", "Acme/Lyon/A", fields=(("equipment_class", "pump", "fan"),))


def test_counts_are_by_tag() -> None:
    """A tag that changes in two ways is one."""
    before = site(tag("A"), tag("B"), tag("C"), tag("D", address="9"))
    after = site(tag("A", unit="bar", factor=2.0), tag("B", path="Acme/Lyon/A/B2"), tag("E"), tag("D2", address="9"))
    assert counts(compare(before, after)) == {"added": 2, "removed": 2, "renamed": 1, "changed": 1}


ROOT = {"scale_mode": "sqrt", "raw_low": 4.0, "raw_high": 20.0, "factor": 50.0, "offset": 1.0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"factor": 0.1}),
        ({"factor": 0.1, "offset": -3.0}, {"factor": 100.0, "offset": 7.0}),
        (ROOT, {"factor": 2.0}),
        ({"factor": 2.0}, ROOT),
        ({"unit": "bar"}, {"unit": "kPa", "factor": 100.0}),
    ],
)
def test_a_value_becomes_what_the_normalizer_makes_of_the_same_raw_value(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """For some raw values, through the old map and back, and through the new one."""
    old, new = tag("A", **before), tag("A", **after)
    for raw in (4.0, 7.5, 19.0):
        made = [scale(np.array([raw]), np.zeros(1, np.int32), TagColumns(site(one)))[0][0] for one in (old, new)]
        assert becomes(old, new, float(made[0])) == pytest.approx(made[1])


def test_what_cannot_be_said_is_not_guessed() -> None:
    """Another item, a clamped value, a factor of 0."""
    new = tag("A", factor=3.0)
    assert becomes(tag("A", address="B"), new, 1.0) is None
    assert becomes(tag("A", type="int16"), new, 1.0) is None
    assert becomes(tag("A", clamp="high", clamp_high=10.0), new, 10.0) is None
    assert becomes(tag("A", factor=0.0), new, 1.0) is None
    assert becomes(tag("A"), tag("A", factor=3.0, clamp="high", clamp_high=10.0), 5.0) == 10.0
