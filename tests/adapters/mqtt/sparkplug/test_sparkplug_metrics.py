"""What a metric is as a row: history, quality, null, tables and templates."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from schemas import status
from schemas.samples import Origin, Sample
from schemas.status import Flag
from simulators.sparkplug_node import Metric, _varint, encode
from tests.adapters.mqtt.sparkplug.plant import NODE, SENT, Plant

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))


def test_history_quality_and_null_say_what_they_are() -> None:
    """A historical metric is marked as filled in later, a null has no number, and Quality becomes a status."""
    plant = Plant()
    plant.born()
    sent = [
        Metric(None, "Double", 1.0, 1, 5_000_000_000_00, historical=True, typed=False),
        Metric(None, "Double", None, 1, typed=False),
        *[Metric(None, "Double", 2.0, 1, quality=mark, typed=False) for mark in (192, 0, 500, 64, 7777)],
    ]
    rows = plant.put("DDATA", sent, 2, "press")

    assert rows[0].flags & Flag.BACKFILL
    assert rows[0].source_ns == 500_000_000_000 * 10**6
    assert [row.status for row in rows] == [
        status.GOOD,
        status.BAD,
        status.GOOD,
        status.BAD,
        status.UNCERTAIN_NO_COMMUNICATION,
        status.UNCERTAIN,
        status.UNCERTAIN,
    ]
    assert [isinstance(r.value, float) and math.isnan(r.value) for r in rows] == [False, True, False, True] + [
        False
    ] * 3
    assert plant.counters["quality_unknown"] == 1
    old = plant.put("DDATA", [Metric(None, "Double", 1.0, 1, SENT, historical=True, typed=False)], 3, "press")
    assert len(old) == 1
    assert plant.origin is Origin.HISTORY


def test_tables_and_templates_are_flattened_to_names() -> None:
    """Members and cells are metrics of their own; the whole can be taken as a structure."""
    names = ["table", "table/n", "table[1]/text", "motor/speed", "motor/inner/on", "motor/rated", "old"]
    plant = Plant({f"spBv1.0/G/n/press#{name}": None for name in names})
    payload = bytes.fromhex(GOLDEN["special"])
    plant.put("NBIRTH", NODE, 254)
    rows = plant.raw("spBv1.0/G/DBIRTH/n/press", payload)

    assert {names[row.tag]: row.value for row in rows} == {
        "table": {"n": [-7, 8], "text": ["a", "b"]},
        "table/n": [-7, 8],
        "table[1]/text": "b",
        "motor/speed": -5.0,
        "motor/inner/on": 1.0,
        "motor/rated": 63.5,
        "old": 1.5,
    }


def template(name: str, *members: Metric | bytes, **more: Any) -> bytes:
    """A template metric as bytes; *more* as in :class:`Metric`."""
    inner = b"".join(member if isinstance(member, bytes) else encode([member]) for member in members)
    head = encode([Metric(name, None, None, **more)])
    body = head[2:].removesuffix(b"\x38\x01") + b"\x20\x13"  # its null away, its datatype there
    body += b"\x92\x01" + _varint(len(inner)) + inner
    return b"\x12" + _varint(len(body)) + body


def born_with(plant: Plant, *metrics: bytes) -> dict[str, Sample]:
    """Rows of a birth of the press with these metrics, by the last part of the tag's address."""
    plant.put("NBIRTH", NODE, 0)
    rows = plant.raw("spBv1.0/G/DBIRTH/n/press", encode([], SENT) + b"".join(metrics) + b"\x18\x01")
    return {plant.decoder._context.tags[row.tag].address.partition("#")[2]: row for row in rows}


def test_a_float_is_told_from_a_double() -> None:
    """A Float, also in a template; NaN and null have no number."""
    plant = Plant({f"spBv1.0/G/n/press#{name}": None for name in ("one", "two", "none", "nan", "in/one", "in/two")})
    plain = (("one", "Float", 21.1), ("two", "Double", 21.1), ("none", "Float", None), ("nan", "Float", math.nan))
    rows = born_with(
        plant,
        *(encode([Metric(*one)]) for one in plain),
        template("in", Metric("one", "Float", 21.1), Metric("two", "Double", 21.1)),
    )
    assert {name for name, row in rows.items() if row.flags & Flag.FLOAT32} == {"one", "in/one"}
    assert (rows["one"].value, rows["two"].value) == (21.100000381469727, 21.1)


def test_a_member_of_a_template_has_its_own_quality_and_time() -> None:
    """What the member says of itself is the row's; what it does not say is the template's, and of two the worse."""
    names = ("speed", "temp", "old", "plain", "inner/on", "inner/off")
    plant = Plant({f"spBv1.0/G/n/press#{top}/{name}": None for top in ("motor", "pump") for name in names})
    members = (
        Metric("speed", "Double", 1500.0, quality=0),
        Metric("temp", "Double", 55.0, timestamp=SENT - 60_000, quality=192),
        Metric("old", "Double", 5.0, timestamp=SENT - 3_600_000, historical=True),
        Metric("plain", "Double", 6.0),
        template("inner", Metric("on", "Boolean", True), Metric("off", "Boolean", False, quality=0), quality=500),
    )
    rows = born_with(plant, template("motor", *members), template("pump", *members, timestamp=SENT - 5, quality=64))

    good, stale = status.GOOD, status.UNCERTAIN_NO_COMMUNICATION
    said = {name: (row.status, (row.source_ns // 10**6) - SENT, row.flags) for name, row in rows.items()}
    assumed, filled = int(Flag.ASSUMED_GOOD), int(Flag.BACKFILL)
    assert said == {
        "motor/speed": (status.BAD, 0, 0),
        "motor/temp": (good, -60_000, 0),
        "motor/old": (good, -3_600_000, assumed | filled),
        "motor/plain": (good, 0, assumed),
        "motor/inner/on": (stale, 0, 0),
        "motor/inner/off": (status.BAD, 0, 0),
        "pump/speed": (status.BAD, -5, 0),
        "pump/temp": (status.UNCERTAIN, -60_000, 0),
        "pump/old": (status.UNCERTAIN, -3_600_000, filled),
        "pump/plain": (status.UNCERTAIN, -5, 0),
        "pump/inner/on": (status.UNCERTAIN, -5, 0),
        "pump/inner/off": (status.BAD, -5, 0),
    }
    assert all(math.isnan(row.value) for row in rows.values() if row.status == status.BAD)  # type: ignore[arg-type]


def test_a_template_as_one_value_is_as_good_as_its_members() -> None:
    """A bad member has no value in it, and the whole is uncertain; an inner template that is null takes its parts."""
    plant = Plant({f"spBv1.0/G/n/press#{name}": None for name in ("motor", "pump", "pump/inner/on")})
    rows = born_with(
        plant,
        template("motor", Metric("speed", "Double", 1500.0, quality=0), Metric("temp", "Double", 55.0)),
        template("pump", b"\x12\x0b\x0a\x05inner\x20\x13\x38\x01", Metric("temp", "Double", 5.0)),
    )

    assert (rows["motor"].status, rows["motor"].value) == (status.UNCERTAIN, {"speed": None, "temp": 55.0})
    assert (rows["pump"].status, rows["pump"].value) == (status.GOOD, {"inner": None, "temp": 5.0})
    assert rows["pump/inner/on"].status == status.BAD
