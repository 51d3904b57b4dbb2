"""Options and the check of each tag against them."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
from pydantic import ValidationError

from adapters.base import REGISTRY
from adapters.modbus.config import ByteOrder, ModbusOptions
from adapters.modbus.point import check_tag, resolve
from adapters.modbus.types import MASKS
from schemas.tagmap import Tag

MakeTag = Callable[..., Tag]


def test_every_accepted_byte_order_can_be_decoded() -> None:
    """The orders that the options accept are exactly those that the decoder knows."""
    assert set(get_args(ByteOrder)) == set(MASKS)


def test_is_registered() -> None:
    """Kind modbus is in the registry with these options and this check."""
    spec = REGISTRY["modbus"]
    assert (spec.options, spec.check_tag) == (ModbusOptions, check_tag)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"unit": 256},
        {"timeout": "0s"},
        {"timeout": "1"},
        {"byte_order": "ABDC"},
        {"address_style": "plc"},
        {"bit_base": 2},
        {"limits": {"registers": 126}},
        {"string_encoding": "klingon"},
        {"string_encoding": "base64"},
        {"in_flight": 33},
        {"in_flight": 2, "transport": "rtu_over_tcp"},
        {"in_flight": 2, "workarounds": {"transaction_id_zero": True}},
        {"in_flight": 2, "workarounds": {"pause_between_requests": "20ms"}},
        {"transport": "rtu_over_tcp", "workarounds": {"transaction_id_zero": True}},
        {"transport": "tls"},
        {"tls": {"ca": "a", "cert": "b", "key": "c"}},
        {"connections": 0},
        {"connections": 2, "transport": "rtu_over_tcp"},
        {"connections": 2, "workarounds": {"transaction_id_zero": True}},
        {"workarounds": {"pause": "1s"}},
        {"fail_after": 0},
    ],
)
def test_refuses_options_that_cannot_work(wrong: dict[str, object]) -> None:
    """An option outside its range, or one that does not exist, is an error."""
    with pytest.raises(ValidationError):
        ModbusOptions(host="h", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "type_name", "more", "hint"),
    [
        ("HR1", None, {}, "write one, such as type: uint16"),
        ("HR1", "float32", {}, "needs a byte order"),
        ("HR1", "float32", {"byte_order": "HGFEDCBA"}, "one of 64 bits"),
        ("HR1", "int8", {}, "write HR1.L for its low byte"),
        ("HR1.0-3", "bool", {}, "write type: uint16"),
        ("HR1.0-9", "uint8", {}, "write type: uint16"),
        ("HRF1", "int32", {}, "says float32, but type says int32"),
        ("HR1[63]", "uint32", {"byte_order": "ABCD"}, "takes 126 registers"),
        ("C1[2001]", None, {}, "1 to 2000 elements"),
        ("HR1[4]", "bool", {}, "one of coils"),
        ("HR1[4]", "string[4]", {}, "texts make no array"),
        ("HR1.3[4]", "bool", {}, "bits make no array"),
        ("HR1", "bcd32", {}, "needs a byte order"),
        ("HR1", "string", {}, "string[n]"),
        ("C1", "uint16", {}, "write type: bool"),
        ("HR1.3", "uint16", {}, "write type: bool"),
        ("HR1", "string[300]", {}, "takes 150 registers"),
        ("HR65536", "int32", {"byte_order": "ABCD"}, "ends behind the last address"),
        ("HR1", "string[4]", {"encoding": "klingon"}, "encoding 'klingon'"),
        ("401", "uint16", {}, "write 400401"),
    ],
)
def test_says_what_is_wrong_with_a_tag(
    make_tag: MakeTag, address: str, type_name: str | None, more: dict[str, str], hint: str
) -> None:
    """The check of a tag returns a text that names what to write."""
    text = check_tag(ModbusOptions(host="h"), make_tag(0, address, type_name, **more))
    assert text is not None
    assert hint in text


def test_accepts_what_can_be_read(make_tag: MakeTag) -> None:
    """Coils need no type, a tag's order and encoding stand before the source's."""
    options = ModbusOptions(host="h", byte_order="CDAB", string_encoding="cp1252")
    for address, type_name in (
        ("C1", None),
        ("HR1.3", None),
        ("HR1", "bool"),
        ("HR1", "float64"),
        ("HR1", "string[20]"),
    ):
        assert check_tag(options, make_tag(0, address, type_name)) is None
    assert resolve(options, make_tag(0, "HR1", "int32")).field.mask == 2
    assert resolve(options, make_tag(0, "HR1", "int32", byte_order="BADC")).field.mask == 1
    assert resolve(options, make_tag(0, "HR1", "string[2]")).field.encoding == "cp1252"
    assert resolve(options, make_tag(0, "HR1", "string[2]", encoding="utf-8")).field.encoding == "utf-8"
