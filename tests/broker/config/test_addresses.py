"""Every address that the reference shows is one that the adapter of its kind reads, and means what is said."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from adapters.base import REGISTRY
from adapters.modbus.address import AddressStyle, parse
from adapters.mqtt.paths import getter
from adapters.mqtt.sparkplug.topics import parse_address as parse_metric
from adapters.mqtt.topics import parse_address as parse_topic
from adapters.opcua.nodes import parse_address as parse_node
from broker.config.addresses import FORMS, HEADS, Form
from broker.config.reference import markdown
from schemas.tagmap import Tag

OPTIONS: dict[str, dict[str, Any]] = {
    "modbus": {"host": "127.0.0.1", "byte_order": "ABCD"},
    "mqtt": {
        "broker": "mqtt://127.0.0.1",
        "subscriptions": [{"filter": "plant/#", "decode": "json"}, {"filter": "spBv1.0/#", "decode": "sparkplug"}],
    },
    "opcua": {"endpoint": "opc.tcp://127.0.0.1:4840"},
    "replay": {"file": "played.csv"},
}
EXAMPLES = [(kind, form, example) for kind, forms in FORMS.items() for form in forms for example in form.examples]


def test_every_kind_is_described_and_on_the_page() -> None:
    """A kind that is added has its forms in the reference."""
    assert set(FORMS) == set(HEADS) == set(REGISTRY)
    page = markdown()
    for _, _, example in EXAMPLES:
        assert f"`{example}`".replace("|", "\\|") in page


@pytest.mark.parametrize(("kind", "form", "example"), EXAMPLES, ids=[f"{kind} {e}" for kind, _, e in EXAMPLES])
def test_the_kind_accepts_it(kind: str, form: Form, example: str) -> None:
    """The check that `fairlead check` makes of each tag says nothing against it."""
    assert form.style in get_args(AddressStyle)
    spec = REGISTRY[kind]
    more = {"address_style": form.style} if kind == "modbus" else {}
    options = spec.options.model_validate({**OPTIONS[kind], **more})
    # an address that names its type refuses another; a coil is a switch and a byte no two registers
    types = (None, "bool", "uint8", "uint16", "float32", "string[20]")
    tags = [Tag(number=0, id="t", path="Acme/T", source="s", address=example, type=one) for one in types]
    assert None in [spec.check_tag(options, tag) for tag in tags]


@pytest.mark.parametrize("form", FORMS["modbus"][:4], ids=lambda form: form.examples[0])
def test_ways_to_write_one_modbus_place(form: Form) -> None:
    """Five digits, six digits and a prefix are the same place: the first of its table."""
    first, *others = [parse(example) for example in form.examples]
    assert first.offset == 0
    assert others == [first, first]


def test_forms_around_a_modbus_place() -> None:
    """Bits, bytes, arrays, units, texts, types and orders."""
    assert parse("HR20.0-3")[2:5] == (19, 0, 4)
    assert [parse(text).bit for text in ("HR20.L", "HR20.H")] == [0, 8]
    assert (parse("4!40001").unit, parse("[Line1]3.HR100").unit) == (4, 3)
    assert (parse("40100[10]").elements, parse("HRS100:20").type) == (10, "string[20]")
    assert [parse(text).type for text in ("HRF100", "HRI100", "HRUI_64100", "IRUS1")] == [
        *("float32", "int32", "uint64", "uint16")
    ]
    assert [parse(text).byte_order for text in ("40001#BL", "40001#LB")] == ["BADC", "CDAB"]


def test_what_the_paths_and_nodes_mean() -> None:
    """Topic and path are cut where the page says; the paths find what they describe."""
    document = {"power": 1, "active-power": 2, "meters": [{"id": "M0", "power": 3}, {"id": "M1", "power": 4}]}
    found = {}
    for form in FORMS["mqtt"]:
        for example in form.examples:
            if not example.startswith("spBv1.0"):
                topic, path = parse_topic(example)
                found[example] = (topic, getter(path)(document))
    assert [value for _, value in found.values()] == [document, 1, 3, 2, 4, 1, 1]
    assert found["plant/line1/##power"][0] == "plant/line1/#"
    assert parse_metric("spBv1.0/Lyon/Filler/Head1#Pressure")[1:] == ("Head1", "Pressure")
    assert parse_metric("spBv1.0/Lyon/Filler#Supply/Pressure")[1:] == ("", "Supply/Pressure")
    assert parse_node('ns=3;s="Filler"."Pressure"').namespace == 3
    assert parse_node("nsu=urn:maker:filler;s=Line1.Temperature").namespace == "urn:maker:filler"
    assert parse_node("i=2258").namespace == 0
