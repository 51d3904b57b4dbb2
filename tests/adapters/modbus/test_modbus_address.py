"""Addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.address import Address, parse

FIRST_DIGIT = {"0": 1, "1": 2, "3": 4, "4": 3}


@pytest.mark.parametrize(
    ("text", "style", "want"),
    [
        ("40001", "modicon", Address(1, 3, 0, None)),
        ("400001", "modicon", Address(1, 3, 0, None)),
        ("465536", "modicon", Address(1, 3, 65535, None)),
        ("49999", "modicon", Address(1, 3, 9998, None)),
        ("00001", "modicon", Address(1, 1, 0, None)),
        ("10017", "modicon", Address(1, 2, 16, None)),
        ("300100", "modicon", Address(1, 4, 99, None)),
        ("HR100", "modicon", Address(1, 3, 99, None)),
        ("HR100", "one_based", Address(1, 3, 99, None)),
        ("HR100", "zero_based", Address(1, 3, 100, None)),
        ("hr0", "zero_based", Address(1, 3, 0, None)),
        ("IR1", "modicon", Address(1, 4, 0, None)),
        ("C1", "modicon", Address(1, 1, 0, None)),
        ("DI9", "one_based", Address(1, 2, 8, None)),
        ("4!40001", "modicon", Address(4, 3, 0, None)),
        ("0!HR1", "modicon", Address(0, 3, 0, None)),
        ("255!C5", "zero_based", Address(255, 1, 5, None)),
        ("400020.3", "modicon", Address(1, 3, 19, 3)),
        ("IR5.15", "zero_based", Address(1, 4, 5, 15)),
        ("HR20.0-3", "modicon", Address(1, 3, 19, 0, 4)),
        ("HR20.L", "modicon", Address(1, 3, 19, 0, 8)),
        ("40020.h", "modicon", Address(1, 3, 19, 8, 8)),
        ("HR100[10]", "modicon", Address(1, 3, 99, elements=10)),
        ("400100 [4]", "modicon", Address(1, 3, 99, elements=4)),
        ("C9[16]", "modicon", Address(1, 1, 8, elements=16)),
        ("[Dev]3.HR1024", "one_based", Address(3, 3, 1023)),
        ("[Dev 1]HR1024.0", "zero_based", Address(1, 3, 1024, 0)),
        ("3.IRF7", "one_based", Address(3, 4, 6, type="float32")),
        ("HRUS1", "modicon", Address(1, 3, 0, type="uint16")),
        ("HRI1", "modicon", Address(1, 3, 0, type="int32")),
        ("HRUI1", "modicon", Address(1, 3, 0, type="uint32")),
        ("HRI_641024", "modicon", Address(1, 3, 1023, type="int64")),
        ("HRUI_641", "modicon", Address(1, 3, 0, type="uint64")),
        ("HRD1", "modicon", Address(1, 3, 0, type="float64")),
        ("HRBCD1", "modicon", Address(1, 3, 0, type="bcd16")),
        ("HRBCD_321", "modicon", Address(1, 3, 0, type="bcd32")),
        ("HRS1024:20", "modicon", Address(1, 3, 1023, type="string[20]")),
        ("400100.20H", "modicon", Address(1, 3, 99, type="string[20]", byte_order="ABCD", location="both")),
        ("400100.20L", "modicon", Address(1, 3, 99, type="string[20]", byte_order="BADC", location="both")),
        ("1!400100.20D", "modicon", Address(1, 3, 99, type="string[20]", location="upper")),
        ("1!400100.20E", "modicon", Address(1, 3, 99, type="string[20]", location="lower")),
        ("1!40001#BB", "modicon", Address(1, 3, 0, byte_order="ABCD")),
        ("1!40001#BL", "modicon", Address(1, 3, 0, byte_order="BADC")),
        ("1!40001#LB", "modicon", Address(1, 3, 0, byte_order="CDAB")),
        ("1!40001#LL", "modicon", Address(1, 3, 0, byte_order="DCBA")),
        ("1!300001#L", "modicon", Address(1, 4, 0, byte_order="BADC")),
        (" 40001 ", "modicon", Address(1, 3, 0, None)),
    ],
)
def test_reads_every_form(text: str, style: str, want: Address) -> None:
    """Modicon numbers, prefix forms, units and bits mean what the address style says."""
    assert parse(text, style) == want  # type: ignore[arg-type]


def test_bit_base_moves_bits() -> None:
    """With bit_base 1 the bits of a register are written 1-16."""
    assert parse("HR1.1", bit_base=1).bit == 0
    assert parse("HR1.16", bit_base=1).bit == 15
    with pytest.raises(ValueError, match="outside 1-16"):
        parse("HR1.0", bit_base=1)


@pytest.mark.parametrize(
    ("text", "style", "hint"),
    [
        ("401", "modicon", "write 400401 or HR401"),
        ("100", "modicon", "write 400100 or HR100 for a holding register$"),
        (
            "4001",
            "modicon",
            "write 404001 or HR4001 .*, or 400001 or HR1 where it is item 1 of table 4, as in Kepware",
        ),
        ("301", "modicon", "write 400301 or HR301 for a .*, or 300001 or IR1 where it is item 1 of table 3"),
        ("0012", "modicon", "write 400012 or HR12 for a .*, or 000012 or C12 where it is item 12 of table 0"),
        ("17", "modicon", "write 400017 or HR17 for a .*, or 100007 or DI7 where it is item 7 of table 1"),
        ("2001", "modicon", "write 402001 or HR2001 for a holding register$"),
        ("40000", "modicon", "the first of this table is 40001"),
        ("400000", "modicon", "the first of this table is 400001"),
        ("50001", "modicon", "first digit is the table"),
        ("465537", "modicon", "behind the last address"),
        ("40001", "zero_based", "counts from 0"),
        ("40001", "one_based", "counts from 1"),
        ("HR0", "modicon", "write HR1"),
        ("HR65537", "modicon", "behind the last address"),
        ("HR65536", "zero_based", "behind the last address"),
        ("HRX1024", "modicon", "'HRX' is no table"),
        ("CF1", "modicon", "'CF' is no table"),
        ("HRS1024", "modicon", "write HRS1024:20"),
        ("HR1024:20", "modicon", "write HRS1024:20"),
        ("HRS1:251", "modicon", "1 to 250 bytes"),
        ("HR1[0]", "modicon", "1 to 2000 elements"),
        ("HR1.5-2", "modicon", "write .2-5"),
        ("HR1.3-16", "modicon", "outside 0-15"),
        ("C1.H", "modicon", "leave .H away"),
        ("HR1#XX", "modicon", "is not a Modbus address"),
        ("XY3", "modicon", "write 40001"),
        ("", "modicon", "write 40001"),
        ("HR", "modicon", "write 40001"),
        ("300!HR1", "modicon", "unit 300"),
        ("HR1.16", "modicon", "outside 0-15"),
        ("C1.2", "modicon", "leave .2 away"),
        ("HR-1", "modicon", "write 40001"),
    ],
)
def test_says_what_to_write_instead(text: str, style: str, hint: str) -> None:
    """A wrong address is refused with the address that was probably meant."""
    with pytest.raises(ValueError, match=hint):
        parse(text, style)  # type: ignore[arg-type]


@given(st.sampled_from("0134"), st.integers(1, 65536))
def test_modicon_counts_from_one(digit: str, item: int) -> None:
    """The wire address of every Modicon number is its item less one, in five digits and in six."""
    want = Address(1, FIRST_DIGIT[digit], item - 1, None)
    assert parse(f"{digit}{item:05d}") == want
    if item <= 9999:
        assert parse(f"{digit}{item:04d}") == want


@given(st.text(max_size=20))
def test_any_text_gives_an_address_or_a_reason(text: str) -> None:
    """Whatever stands in a map, the answer is an address in range or a ValueError."""
    try:
        found = parse(text)
    except ValueError:
        return
    assert 0 <= found.offset <= 65535
    assert 0 <= found.unit <= 255
