"""Decoding against encoders that share no code with it: the simulated server's, struct, and pymodbus' own decoder."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from adapters.modbus.registers import Decoded, Decoder
from adapters.modbus.types import MASKS, NUMBERS, Field, mask_of, width_of
from simulators.modbus_server import RegisterPoint

INTEGERS = {
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
#: Number types that the simulated server encodes.
ENCODED = sorted(set(NUMBERS) - {"float16"})


def orders_of(type_name: str) -> list[str]:
    return [order for order in MASKS if len(order) == 4 or type_name in ("int64", "uint64", "float64")]


def image_of(words: list[int]) -> np.ndarray:
    return np.frombuffer(struct.pack(f">{len(words)}H", *words), np.uint8)


def decode(type_name: str, order: str, words: list[int]) -> Decoded:
    return Decoder([(number_field(type_name, order), 0, 0)]).decode(image_of(words))


def number_field(type_name: str, order: str, elements: int = 0) -> Field:
    return Field(type_name, 2 * width_of(type_name), mask_of(order, type_name), elements=elements)


def one(field: Field, words: list[int]) -> Decoded:
    return Decoder([(field, 0, 0)]).decode(image_of(words))


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


@given(st.floats(width=16, allow_nan=False), st.sampled_from(["ABCD", "BADC"]))
def test_half_floats_come_back(number: float, order: str) -> None:
    """float16 is IEEE binary16, with its bytes swapped where the order says so."""
    (word,) = struct.unpack(">H" if order == "ABCD" else "<H", struct.pack(">e", number))
    assert decode("float16", order, [word]).value[0] == number


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=20), st.sampled_from(sorted(MASKS)))
def test_texts_come_back(text: str, order: str) -> None:
    """A text padded with NULs comes back without them, with swapped pairs too."""
    words = RegisterPoint("x", "holding", 0, "string[21]", order).words(text)
    out = one(Field("string", 2, mask_of(order, "string[21]"), length=21), words)
    assert out.exact == {0: text}
    assert math.isnan(out.value[0])
    assert not out.repaired


@pytest.mark.parametrize(
    ("location", "order", "words"),
    [
        ("lower", "ABCD", [0x0041, 0xFF42, 0x0043]),
        ("upper", "ABCD", [0x4100, 0x42FF, 0x4300]),
        ("lower", "BADC", [0x4100, 0x42FF, 0x4300]),
        ("upper", "BADC", [0x0041, 0xFF42, 0x0043]),
    ],
)
def test_one_character_a_register(location: Any, order: str, words: list[int]) -> None:
    """A text may stand in one byte of each register only; the other byte is not looked at."""
    field = Field("string", 2, mask_of(order, "string[3]"), length=3, location=location)
    assert one(field, words).exact == {0: "ABC"}
    assert width_of("string[3]", location) == 3


def test_bytes_stay_as_they_are() -> None:
    """bytes[n] is what the registers hold, NULs and all."""
    assert one(Field("bytes", 2, 0, length=3), [0x0001, 0xFF00]).exact == {0: b"\x00\x01\xff"}


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


@given(st.integers(0, 65535), st.integers(0, 15), st.data())
def test_bits_of_a_register(word: int, bit: int, data: st.DataObject) -> None:
    """A bit is the one that stands for 2**bit, several are a number; a bool without a bit is any bit."""
    bits = data.draw(st.integers(1, 16 - bit))
    number = word >> bit & (1 << bits) - 1
    negative = number - (1 << bits) if number >> bits - 1 else number
    places = [
        (Field("bits", 2, 0, bit), 0, 0),
        (Field("bits", 2), 0, 0),
        (Field("bits", 2, 1, bit ^ 8), 0, 0),
        (Field("bits", 2, 0, bit, bits), 0, 0),
        (Field("bits", 2, 0, bit, bits, signed=True), 0, 0),
    ]
    value = Decoder(places).decode(image_of([word])).value
    assert value.tolist() == [word >> bit & 1, float(word != 0), word >> bit & 1, number, negative]


@given(st.integers(0, 99_999_999), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]))
def test_bcd_comes_back(number: int, order: str) -> None:
    """Two digits a byte, in every order."""
    raw = bytes.fromhex(f"{number:08d}")
    wire = bytes(raw["ABCD".index(letter)] for letter in order)
    words = list(struct.unpack(">2H", wire))
    assert one(Field("bcd", 4, mask_of(order, "bcd32")), words).value[0] == number
    assert one(Field("bcd", 2), [int(f"{number % 10_000:04d}", 16)]).value[0] == number % 10_000


def test_both_widths_of_bcd_in_one_image() -> None:
    """bcd16 and bcd32 beside each other, in either order, keep their own widths."""
    narrow, wide = Field("bcd", 2), Field("bcd", 4)
    image = image_of([0x1234, 0x0012, 0x3456])
    assert Decoder([(narrow, 0, 0), (wide, 2, 0)]).decode(image).value.tolist() == [1234, 123456]
    assert Decoder([(wide, 2, 0), (narrow, 0, 0)]).decode(image).value.tolist() == [123456, 1234]


@given(st.integers(0, 65535))
def test_a_digit_above_nine_is_no_number(word: int) -> None:
    """A register that is no BCD number has no value, and is told apart."""
    out = one(Field("bcd", 2), [word])
    if all(digit in "0123456789" for digit in f"{word:04x}"):
        assert out.value[0] == int(f"{word:04x}")
        assert not out.undecodable
    else:
        assert math.isnan(out.value[0])
        assert out.undecodable == [0]


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40), st.integers(0, 7))
def test_coils_are_bits_of_bytes(coils: list[int], first: int) -> None:
    """Coils stand eight a byte, the first lowest; one by one and as an array."""
    packed = sum(coil << first + i for i, coil in enumerate(coils)).to_bytes(7, "little")
    places = [(Field("coil", 1), (first + i) // 8, (first + i) % 8) for i in range(len(coils))]
    places.append((Field("coil", 1, elements=len(coils)), 0, first))
    out = Decoder(places).decode(np.frombuffer(packed, np.uint8))
    assert out.value[:-1].tolist() == coils
    assert out.exact == {len(coils): [bool(coil) for coil in coils]}


@given(st.data(), st.sampled_from(ENCODED))
def test_arrays_come_back(data: st.DataObject, type_name: str) -> None:
    """An array is the list of its elements, in every order; integers stay integers, a NaN becomes null."""
    order = data.draw(st.sampled_from(orders_of(type_name)))
    if type_name in INTEGERS:
        numbers: list[Any] = data.draw(st.lists(st.integers(*INTEGERS[type_name]), min_size=1, max_size=9))
    else:
        width = 32 if type_name == "float32" else 64
        numbers = data.draw(st.lists(st.floats(width=width), min_size=1, max_size=9))
    point = RegisterPoint("x", "holding", 0, type_name, order)
    words = [word for number in numbers for word in point.words(number)]
    out = one(number_field(type_name, order, len(numbers)), words)
    assert out.exact == {0: [number if math.isfinite(number) else None for number in numbers]}
    assert math.isnan(out.value[0])
    assert {type(item) for item in out.exact[0]} <= {int if type_name in INTEGERS else float, type(None)}  # type: ignore[union-attr]


def test_an_array_of_bcd_with_a_wrong_digit_has_no_value() -> None:
    """One element that is no number makes the array undecodable, and no other row."""
    places = [(Field("bcd", 2, elements=2), 0, 0), (Field("bcd", 2), 0, 0)]
    out = Decoder(places).decode(image_of([0x0042, 0x00FF]))
    assert out.undecodable == [0]
    assert out.exact == {}
    assert out.value[1] == 42


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
    field = Field("string", 2, length=len(raw), encoding=encoding)
    out = Decoder([(field, 0, 0)]).decode(np.frombuffer(raw, np.uint8))
    assert out.exact == {0: text}
    assert out.repaired == ([] if whole else [0])


def plain(type_name: str, order: str, raw: bytes) -> float | int:
    """One value by struct, tag by tag: letters name the bytes as they stand in *raw*."""
    size = len(raw)
    letters = order
    if size == 8 and len(order) == 4:
        letters = {"ABCD": "ABCDEFGH", "CDAB": "GHEFCDAB", "BADC": "BADCFEHG", "DCBA": "HGFEDCBA"}[order]
    if size == 2:
        letters = "BA" if mask_of(order, type_name) else "AB"
    big = bytes(raw[letters.index(chr(ord("A") + i))] for i in range(size))
    code = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}
    code |= {"float16": "e", "float32": "f", "float64": "d"}
    found: float | int = struct.unpack(">" + code[type_name], big)[0]
    return found


@given(
    st.lists(st.tuples(st.sampled_from(sorted(NUMBERS)), st.data()), min_size=1, max_size=40), st.binary(min_size=400)
)
def test_the_gather_agrees_with_a_plain_decoder(kinds: list[tuple[str, st.DataObject]], raw: bytes) -> None:
    """Any bytes at any offsets, in any mixture of types and orders, decode as they do one by one."""
    places, want = [], []
    for type_name, data in kinds:
        order = data.draw(st.sampled_from(orders_of(type_name)))
        size = 2 * width_of(type_name)
        offset = data.draw(st.integers(0, 400 - size))
        places.append((number_field(type_name, order), offset, 0))
        want.append(plain(type_name, order, raw[offset : offset + size]))
    out = Decoder(places).decode(np.frombuffer(raw, np.uint8))
    for row, number in enumerate(want):
        if math.isnan(number):
            assert math.isnan(out.value[row])
        else:
            assert out.exact.get(row, out.value[row]) == number


@given(st.lists(st.integers(0, 65535), min_size=4, max_size=4), st.sampled_from(ENCODED))
def test_the_library_agrees(words: list[int], type_name: str) -> None:
    """Pymodbus reads the same registers as the same number, for the two orders that it knows."""
    for order, word_order in (("ABCD", "big"), ("CDAB", "little")):
        part = words[: width_of(type_name)]
        kind = ModbusClientMixin.DATATYPE[type_name.upper()]
        want = ModbusClientMixin.convert_from_registers(part, kind, word_order=word_order)  # type: ignore[arg-type]
        out = decode(type_name, order, part)
        got = out.exact.get(0, out.value[0])
        assert got == want or (math.isnan(want) and math.isnan(got))  # type: ignore[arg-type]


def test_no_guess_above_16_bits() -> None:
    """A wide type without a byte order, or with one of another width, is an error; 16 bits and texts need none."""
    for type_name in ("int32", "float32", "uint64", "float64", "bcd32"):
        with pytest.raises(ValueError, match="needs a byte order"):
            mask_of(None, type_name)
    with pytest.raises(ValueError, match="one of 64 bits"):
        mask_of("GHEFCDAB", "float32")
    with pytest.raises(ValueError, match="not known"):
        mask_of("ABDC", "float32")
    assert mask_of(None, "int16") == mask_of(None, "string[4]") == mask_of(None, "bcd16") == 0
    for type_name in ("datetime", "string[0]", "string"):
        with pytest.raises(ValueError, match="write one of"):
            width_of(type_name)
