"""Many messages at once give the same rows, refusals and order as one after the other, whatever their bytes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.base import AdapterContext
from adapters.mqtt import MqttOptions
from adapters.mqtt.decode import Decoder
from adapters.mqtt.message import Block, Message
from schemas.samples import Sample
from schemas.tagmap import Tag

ARRIVED = 1_800_000_000 * 10**9
ADDRESSES: dict[str, str | None] = {
    "j/a#v": None,
    "j/b#v": "float64",
    "j/i#v": "int16",
    "j/u#v": "uint64",
    "j/many#v": "float32",
    "j/many#w": "int32",
    "j/many#x": None,
    "j/text#v": "string[9]",
    "w/a": None,
    "w/i": "int8",
    "p/a": None,
    "p/i": "uint16",
    "t/a#v": None,
    "t/b#v": "int64",
    "s/a#v": None,
}
SUBSCRIPTIONS = [
    {"filter": "j/+", "decode": "json"},
    {"filter": "w/+", "decode": "json"},
    {"filter": "p/+", "decode": "plain"},
    {"filter": "t/+", "decode": "json", "time": "ts", "time_format": "epoch_ms", "quality": "q"},
    {"filter": "s/+", "decode": "json", "time": "ts", "quality": "q", "quality_format": "classic"},
]


def decoder() -> tuple[Decoder, Counter[str]]:
    """A decoder of all kinds of subscriptions."""
    tags = tuple(
        Tag(number=2 * n, id=f"t{n}", path=f"S/{n}", source="m", address=address, type=type_)
        for n, (address, type_) in enumerate(ADDRESSES.items())
    )
    raw = {"broker": "mqtt://127.0.0.1", "subscriptions": SUBSCRIPTIONS, "timezone": "Europe/Vienna"}
    counters: Counter[str] = Counter()
    context = AdapterContext("m", tags, b"m" * 16, lambda: ARRIVED, Path())
    return Decoder(MqttOptions.model_validate(raw), context, counters), counters


def _key(row: Sample) -> tuple[object, ...]:
    value = "nan" if isinstance(row.value, float) and math.isnan(row.value) else row.value
    return row.tag, row.source_ns, type(value), value, row.status, row.flags


def both(messages: Sequence[Message]) -> tuple[list[tuple[object, ...]], Counter[str]]:
    """Decode as one batch and one by one; what differs fails."""
    (many, many_counters), (one, one_counters) = decoder(), decoder()
    batch, rejects = many.decode(Block.of(*messages))
    batch.check()
    rows, refused = [], []
    for message in messages:
        part, some = one.decode(Block.of(message))
        rows += [_key(row) for row in part.rows()]
        refused += list(some)
    singly = many_counters["decoded_singly"]
    for counters in (many_counters, one_counters):
        counters.pop("decoded_singly", None)
    found = [_key(row) for row in batch.rows()]
    assert found == rows
    assert [(r.place, r.reason, r.raw) for r in rejects] == [(r.place, r.reason, r.raw) for r in refused]
    assert +many_counters == +one_counters
    many_counters["decoded_singly"] = singly
    return found, many_counters


_NUMBER = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-300, 70000).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["9007199254740991", "9007199254740992", "9007199254740993", "-0", "-0.0", "1e400", "1E5", "5.0"]),
    st.sampled_from(
        ["18446744073709551615", "18446744073709551616", "1" * 400, "0x1F", "01", "+5", "NaN", ".5", "1_0"]
    ),
)
_VALUE = st.one_of(
    _NUMBER, _NUMBER, st.sampled_from(["true", "null", '"21.5"', '"x"', "[1,2]", '{"v":1}', '"\\u00e9"'])
)
_TIME = st.one_of(
    st.integers(0, 2**45).map(str),
    st.sampled_from(
        ["-1", "1e12", "1700000000000.5", '"2026-01-01T00:00:00Z"', '"2026-10-25 02:30:00"', '"1700"', "null", '"x"']
    ),
    st.sampled_from(["99999999999999999999", "9223372036854", "9223372036855"]),
)
_QUALITY = st.sampled_from(
    ['"good"', '"bad"', '"Uncertain"', '"odd"', "192", "0", "64", "1", "true", "null", "[1]", "1.0"]
)
_FRAGMENT = st.sampled_from(
    [
        *('{"v":1', ',"x":2}', '{"v":5},{"v":6}', "1,2", "]", "[", '{"a":[{}', "{}]}", '{"a":"}', '{","b":1}', "", " "),
        *("1,", ",1", '"', '{"v":1}{"v":2}', '{"v":1} ', "\xa0", '{"v":1,"v":2}', '{"V":1}', "[" * 40 + "]" * 40),
        '{"z":' * 20 + "1" + "}" * 20,
    ]
)


@st.composite
def _message(draw: st.DrawFn) -> Message:
    topic = draw(st.sampled_from([address.partition("#")[0] for address in ADDRESSES] + ["j/none", "x"]))
    if draw(st.integers(0, 9)) == 0:
        payload = draw(_FRAGMENT)
    elif topic[0] in "wp":
        payload = draw(_VALUE)
    else:
        members = [f'"{name}":{draw(_VALUE)}' for name in ("v", "w", "x") if draw(st.integers(0, 9)) or name == "v"]
        if topic[0] in "ts" and draw(st.integers(0, 9)):
            members.insert(0, f'"ts":{draw(_TIME)}')
        if topic[0] in "ts" and draw(st.integers(0, 4)):
            members.append(f'"q":{draw(_QUALITY)}')
        payload = "{" + ", ".join(members) + "}"
    body = payload.encode("latin-1")
    odd = draw(st.integers(0, 19))
    return Message(topic.encode(), body, len(body), 1, odd == 0, odd == 1, 1, ARRIVED + draw(st.integers(0, 3)))


def test_a_float_beyond_64_bits_beside_an_integer_of_hundreds_of_digits_is_as_it_came() -> None:
    """The integer makes numpy give up on the whole batch; the numbers beside it stay what they are."""
    sent = ["1" * 400, *(f"{2.0**64 * factor!r}" for factor in (1.5, -1.5, 1e30)), "-" + "1" * 400]
    bodies = [f'{{"v":{number}, "w":0, "x":{number}}}'.encode() for number in sent]
    rows, _ = both([Message(b"j/many", body, len(body), 1, False, False, 1, ARRIVED) for body in bodies])
    assert {2.0**64 * 1.5, -(2.0**64) * 1.5, 2.0**64 * 1e30} <= {value for *_, value, _, _ in rows}


@settings(max_examples=300)
@given(st.lists(_message(), min_size=1, max_size=60))
def test_many_at_once_are_what_they_are_one_by_one(messages: list[Message]) -> None:
    """Rows in order, flags, times, refusals and counters are equal for any mixture of payloads."""
    both(messages)


def _plain(topic: str, *payloads: str) -> list[Message]:
    return [Message(topic.encode(), p.encode(), len(p), 1, False, False, 1, ARRIVED) for p in payloads]


TOGETHER = [
    (['{"v":1', ',"x":2}', '{"v":5},{"v":6}', '{"v":7}'], [7]),
    (['{"a":[{}', "{}]}", '{"v":1},{"v":2}', '{"v":3}'], [3]),
    (['{"v":1}', '{"v":2}, 3, {"v":4}', '{"v":5', '"w":6}'], [1]),
]
SOUND = [f'{{"v":{n}}}' for n in range(100, 130)]


@pytest.mark.parametrize(("payloads", "whole"), TOGETHER)
def test_payloads_that_are_json_only_together_do_not_take_each_other_s_place(
    payloads: list[str], whole: list[int]
) -> None:
    """Their number would be right: only what stands between them tells that they are not values each."""
    rows, _ = both(_plain("j/a", *SOUND, *payloads, *SOUND))

    assert [row[3] for row in rows] == [*range(100, 130), *whole, *range(100, 130)]


def test_without_the_mark_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: who knows the mark can shift values to other messages."""
    monkeypatch.setattr("adapters.mqtt.bulk.secrets.randbits", lambda _: 7)
    payloads = ['{"a":[{}', "{}]}", '{"v":1},7,{"v":2}', '{"v":3}']
    many, _ = decoder()
    batch, rejects = many.decode(Block.of(*_plain("j/a", *SOUND, *payloads)))

    assert rejects != ()
    assert {1.0, 2.0} & set(batch.value.tolist())


def test_plain_traffic_takes_the_fast_path() -> None:
    """Numbers with a time, several members, and bare numbers are not read singly, whatever the topics' order."""
    messages = []
    for n in range(50):
        messages += _plain("j/a", f'{{"v":{n}.5}}') + _plain("j/b", f'{{"v":{n}}}')
        messages += (
            _plain("j/many", f'{{"v":{n}, "w":{n}, "x":{n}.25}}') + _plain("w/a", str(n)) + _plain("p/a", f"{n}.5")
        )
        messages += _plain("t/a", f'{{"ts":{1700000000000 + n},"v":{n},"q":"good"}}')
    rows, counters = both(messages)

    assert counters["decoded_singly"] == 0
    assert len(rows) == 50 * 8


def test_one_bad_message_costs_its_neighbours_little() -> None:
    """The batch is halved around what cannot be parsed, not read one by one."""
    messages = _plain("j/a", *[f'{{"v":{n}}}' for n in range(500)], '{"v": ', *[f'{{"v":{n}}}' for n in range(500)])
    rows, counters = both(messages)

    assert len(rows) == 1000
    assert counters["decoded_singly"] <= 17


@example(b"9007199254740993")
@given(st.binary(max_size=12))
def test_any_bytes_as_a_payload(payload: bytes) -> None:
    """Between sound neighbours they are refused or read as they would be alone."""
    around = [f'{{"v":{n}}}' for n in range(9)]
    odd = Message(b"j/a", payload, len(payload), 1, False, False, 1, ARRIVED)
    rows, _ = both([*_plain("j/a", *around), odd, *_plain("j/a", *around)])
    assert [row[3] for row in rows if row[0] == 0][:9] == list(range(9))

    plain = odd._replace(topic=b"p/a")
    both([*_plain("p/a", *map(str, range(9))), plain, *_plain("p/a", *map(str, range(9)))])
