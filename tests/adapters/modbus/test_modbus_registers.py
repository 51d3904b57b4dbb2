"""Decoding against an encoder that shares no code with it: the simulated server's."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.registers import MASKS, NUMBERS, Decoded, Decoder, Field, mask_of, width_of
from simulators.modbus_server import RegisterPoint

INTEGERS = {
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}


def orders_of(type_name: str) -> list[str]:
    return [order for order in MASKS if len(order) == 4 or type_name in ("int64", "uint64", "float64")]


def image_of(words: list[int]) -> np.ndarray:
    return np.frombuffer(struct.pack(f">{len(words)}H", *words), np.uint8)


def decode(type_name: str, order: str, words: list[int], **more: object) -> Decoded:
    field = Field(type_name, 2 * width_of(type_name), mask_of(order, type_name), **more)  # type: ignore[arg-type]
    return Decoder([(field, 0)]).decode(image_of(words))


@given(st.data(), st.sampled_from(sorted(INTEGERS)))
def test_integers_come_back(data: st.DataObject, type_name: str) -> None:
    """Every integer of every type and order comes back, exactly, also beyond what float64 holds."""
    low, high = INTEGERS[type_name]
    number = data.draw(st.integers(low, high) | st.sampled_from([low, low + 1, high - 1, high, 0]))
    order = data.draw(st.sampled_from(orders_of(type_name)))
    out = decode(type_name, order, RegisterPoint("x", "holding", 0, type_name, order).words(number))
    assert out.exact.get(0, out.value[0]) == number
    assert (0 in out.exact) == (abs(number) > 2**53)


@given(st.data(), st.sampled_from(["float32", "float64"]))
def test_floats_come_back_to_the_bit(data: st.DataObject, type_name: str) -> None:
    """Every float of both widths and every order comes back bit for bit; infinities too, NaN as NaN."""
    number = data.draw(st.floats(width=32 if type_name == "float32" else 64))
    order = data.draw(st.sampled_from(orders_of(type_name)))
    value = decode(type_name, order, RegisterPoint("x", "holding", 0, type_name, order).words(number)).value[0]
    if math.isnan(number):
        assert math.isnan(value)
    else:
        assert struct.pack(">d", value) == struct.pack(">d", number)


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=20), st.sampled_from(sorted(MASKS)))
def test_texts_come_back(text: str, order: str) -> None:
    """A text padded with NULs comes back without them, with swapped pairs too."""
    words = RegisterPoint("x", "holding", 0, "string[21]", order).words(text)
    mask = mask_of(order, "string[21]")
    out = Decoder([(Field("string", 21, mask), 0)]).decode(image_of(words))
    assert out.exact == {0: text}
    assert math.isnan(out.value[0])
    assert not out.repaired


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("ABCD", [0x4148, 0x0000]),
        ("CDAB", [0x0000, 0x4148]),
        ("BADC", [0x4841, 0x0000]),
        ("DCBA", [0x0000, 0x4841]),
    ],
)
def test_four_orders_by_hand(order: str, words: list[int]) -> None:
    """12.5 in the four orders, as device manuals print it."""
    assert decode("float32", order, words).value[0] == 12.5


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("ABCDEFGH", [0x0102, 0x0304, 0x0506, 0x0708]),
        ("ABCD", [0x0102, 0x0304, 0x0506, 0x0708]),
        ("GHEFCDAB", [0x0708, 0x0506, 0x0304, 0x0102]),
        ("CDAB", [0x0708, 0x0506, 0x0304, 0x0102]),
        ("HGFEDCBA", [0x0807, 0x0605, 0x0403, 0x0201]),
        ("DCBA", [0x0807, 0x0605, 0x0403, 0x0201]),
        ("BADCFEHG", [0x0201, 0x0403, 0x0605, 0x0807]),
        ("BADC", [0x0201, 0x0403, 0x0605, 0x0807]),
        ("EFGHABCD", [0x0506, 0x0708, 0x0102, 0x0304]),
        ("CDABGHEF", [0x0304, 0x0102, 0x0708, 0x0506]),
    ],
)
def test_64_bit_orders_by_hand(order: str, words: list[int]) -> None:
    """The letters of a 64-bit order name the bytes as they stand on the wire."""
    assert decode("uint64", order, words).exact == {0: 0x0102030405060708}


def test_the_wrong_order_gives_another_value() -> None:
    """The orders differ: a wrong one cannot pass for the right one (negative control)."""
    words = RegisterPoint("x", "holding", 0, "float32", "CDAB").words(12.5)
    assert {decode("float32", order, words).value[0] for order in ("ABCD", "BADC", "DCBA")}.isdisjoint({12.5})


def test_signalling_nan_is_data() -> None:
    """A NaN of any kind passes as NaN, without a warning."""
    for words in ([0x7FC0, 0], [0x7FA0, 1], [0xFFFF, 0xFFFF]):
        assert math.isnan(decode("float32", "ABCD", words).value[0])


@given(st.integers(0, 65535), st.integers(0, 15))
def test_bits_of_a_register(word: int, bit: int) -> None:
    """A bit is the one that stands for 2**bit; a bool without a bit is any bit."""
    places = [(Field("bool", 2, 0, bit), 0), (Field("bool", 2), 0), (Field("bool", 2, 1, bit ^ 8), 0)]
    value = Decoder(places).decode(image_of([word])).value
    assert value.tolist() == [word >> bit & 1, float(word != 0), word >> bit & 1]


@pytest.mark.parametrize(
    ("raw", "encoding", "text", "whole"),
    [
        (b"AB\xff\x41", "ascii", "AB\ufffdA", False),
        (b"A\0B\0", "ascii", "A\ufffdB", False),
        (b"\xb0C\0\0", "latin-1", "°C", True),
        (b"\x80\0", "cp1252", "€", True),
        ("µm".encode("utf-16-le") + b"\0\0", "utf-16-le", "µm", True),
        (b"\0\0", "ascii", "", True),
        ("°".encode()[:1] + b"\0", "utf-8", "\ufffd", False),
    ],
)
def test_damaged_text_is_marked(raw: bytes, encoding: str, text: str, whole: bool) -> None:
    """Undecodable bytes and inner NULs become U+FFFD and the row is marked; other text stays as it is."""
    field = Field("string", len(raw), 0, None, encoding)
    out = Decoder([(field, 0)]).decode(np.frombuffer(raw, np.uint8))
    assert out.exact == {0: text}
    assert out.repaired == ([] if whole else [0])


@given(st.data())
def test_a_whole_image_is_decoded_in_place(data: st.DataObject) -> None:
    """Any mixture of types, orders and offsets in one image gives each row its own value."""
    kinds = data.draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(NUMBERS)), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"])), max_size=30
        )
    )
    words: list[int] = []
    places, want = [], []
    for i, (type_name, order) in enumerate(kinds):
        places.append((Field(type_name, 2 * width_of(type_name), mask_of(order, type_name)), 2 * len(words)))
        words += RegisterPoint("x", "holding", 0, type_name, order).words(i)
        words += [0xDEAD] * data.draw(st.integers(0, 2))
        want.append(float(i))
    assert Decoder(places).decode(image_of(words)).value.tolist() == want


def test_no_guess_above_16_bits() -> None:
    """A wide type without a byte order, or with one of another width, is an error; 16 bits and texts need none."""
    for type_name in ("int32", "float32", "uint64", "float64"):
        with pytest.raises(ValueError, match="needs a byte order"):
            mask_of(None, type_name)
    with pytest.raises(ValueError, match="one of 64 bits"):
        mask_of("GHEFCDAB", "float32")
    with pytest.raises(ValueError, match="not known"):
        mask_of("ABDC", "float32")
    assert mask_of(None, "int16") == mask_of(None, "string[4]") == 0
    for type_name, hint in (("int8", "int16"), ("datetime", "write one of"), ("string[0]", "write one of")):
        with pytest.raises(ValueError, match=hint):
            width_of(type_name)
