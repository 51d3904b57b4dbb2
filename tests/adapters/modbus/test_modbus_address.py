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
        ("100", "modicon", "write 400100 or HR100"),
        ("40000", "modicon", "the first of this table is 40001"),
        ("400000", "modicon", "the first of this table is 400001"),
        ("50001", "modicon", "first digit is the table"),
        ("465537", "modicon", "behind the last address"),
        ("40001", "zero_based", "counts from 0"),
        ("40001", "one_based", "counts from 1"),
        ("HR0", "modicon", "write HR1"),
        ("HR65537", "modicon", "behind the last address"),
        ("HR65536", "zero_based", "behind the last address"),
        ("HRF1024", "modicon", "write HR1024 and say the type"),
        ("[Dev]3.HR1024", "modicon", "write 3!HR1024"),
        ("400100.20H", "modicon", r"write 400100 with type string\[20\]"),
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
