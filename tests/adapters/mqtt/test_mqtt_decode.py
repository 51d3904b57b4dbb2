"""Decoding: values, times, quality and flags of messages; nothing a message holds can stop the others."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import jmespath
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import AdapterContext
from adapters.mqtt import MqttOptions, paths
from adapters.mqtt.decode import Decoder
from adapters.mqtt.message import Block, Message
from adapters.mqtt.paths import getter
from adapters.values import too_deep
from schemas import status
from schemas.samples import Origin, Reject, Sample
from schemas.status import Flag
from schemas.tagmap import Tag

ARRIVED = 1_800_000_000 * 10**9
GUESSED = int(Flag.ARRIVAL_TIME | Flag.ASSUMED_GOOD)


class Bench:
    """A decoder for given addresses, fed message by message."""

    def __init__(self, addresses: dict[str, str | None], subscription: dict[str, Any], **options: Any) -> None:
        tags = tuple(
            Tag(number=n, id=f"t{n}", path=f"S/{n}", source="m", address=address, type=type_)
            for n, (address, type_) in enumerate(addresses.items())
        )
        checked = MqttOptions.model_validate(
            {"broker": "mqtt://127.0.0.1", "subscriptions": [{"filter": "t/#", **subscription}], **options}
        )
        self.counters: Counter[str] = Counter()
        context = AdapterContext("m", tags, b"m" * 16, lambda: ARRIVED, Path())
        self.decoder = Decoder(checked, context, self.counters)

    def put(self, *payloads: bytes | Message, topic: bytes = b"t/x", **more: Any) -> tuple[list[Sample], list[Reject]]:
        """Decode payloads as messages of one batch."""
        messages = [
            item
            if isinstance(item, Message)
            else Message(topic, item, len(item), 1, more.get("retain", False), more.get("dup", False), 1, ARRIVED)
            for item in payloads
        ]
        batch, rejects = self.decoder.decode(Block.of(*messages))
        batch.check()
        assert self.counters["rejected"] >= len(rejects)
        return list(batch.rows()), list(rejects)


def test_json_members_become_rows_with_time_and_quality() -> None:
    """Each tag takes its path; time and quality hold for the whole message."""
    bench = Bench(
        {"t/x#temp": None, "t/x#run": "bool", "t/x#deep.list[1]": "int32", "t/x#name": "string[9]"},
        {"decode": "json", "time": "ts", "time_format": "epoch_ms", "quality": "q"},
    )
    body = b'{"ts": 1700000000123, "q": "Uncertain", "temp": 21.5, "run": true, "deep": {"list": [1, 7]}, "name": "P1"}'

    rows, rejects = bench.put(body)

    time_ns = 1700000000123 * 10**6
    assert rejects == []
    assert rows == [
        Sample(0, time_ns, 21.5, status.UNCERTAIN, 0),
        Sample(1, time_ns, 1.0, status.UNCERTAIN, 0),
        Sample(2, time_ns, 7.0, status.UNCERTAIN, 0),
        Sample(3, time_ns, "P1", status.UNCERTAIN, 0),
    ]


def test_without_a_time_arrival_is_strictly_increasing() -> None:
    """Two values of one instant keep their order, over batches too, and are flagged."""
    bench = Bench({"t/x#a": None, "t/x#b": None}, {"decode": "json"})

    first, _ = bench.put(b'{"a": 1, "b": 2}', b'{"a": 3}')
    second, _ = bench.put(b'{"a": 4}')

    assert [row.source_ns - ARRIVED for row in first + second] == [0, 1, 2, 3]
    assert {row.flags for row in first} == {GUESSED}


def test_without_a_time_rows_follow_our_clock_back() -> None:
    """Set back by an hour, it is believed: flagged, counted; rows with a time of their own are not concerned."""
    bench = Bench({"t/x#a": None}, {"decode": "json", "time": "at"})
    earlier = Message(b"t/x", b'{"a": 2}', 8, 1, False, False, 1, ARRIVED - 3600 * 10**9)
    bench.put(b'{"a": 1}')
    rows, _ = bench.put(b'{"a": 3, "at": "2026-05-06T07:08:09Z"}', earlier)
    assert [(row.value, row.source_ns == earlier.arrival_ns) for row in rows] == [(3.0, False), (2.0, True)]
    assert [bool(row.flags & Flag.CLOCK_SUSPECT) for row in rows] == [False, True]
    assert bench.counters["clock_steps"] == 1


def test_a_retained_message_is_an_uncertain_last_value() -> None:
    """What the broker kept is marked so, and a batch of nothing else has origin retained."""
    bench = Bench({"t/x": None}, {"decode": "plain"})

    rows, _ = bench.put(b"5", retain=True)

    assert rows == [Sample(0, ARRIVED, 5.0, status.UNCERTAIN_LAST_USABLE, GUESSED | int(Flag.RETAINED))]
    message = Message(b"t/x", b"6", 1, 1, True, False, 1, ARRIVED)
    assert bench.decoder.decode(Block.of(message))[0].origin is Origin.RETAINED


def test_retained_messages_can_be_ignored() -> None:
    """``retained: ignore`` skips and counts them."""
    bench = Bench({"t/x": None}, {"decode": "plain"}, retained="ignore")
    assert bench.put(b"5", retain=True) == ([], [])
    assert bench.counters["retained_ignored"] == 1


def test_a_repeated_message_is_flagged_only_where_nothing_tells_it_apart() -> None:
    """The DUP flag matters without a time in the payload; with one the store recognises the repetition."""
    timed = Bench({"t/x#v": None}, {"decode": "json", "time": "ts", "time_format": "epoch_s"})
    bare = Bench({"t/x#v": None}, {"decode": "json"})

    assert not timed.put(b'{"ts": 1, "v": 1}', dup=True)[0][0].flags & Flag.DUP_POSSIBLE
    assert bare.put(b'{"v": 1}', dup=True)[0][0].flags & Flag.DUP_POSSIBLE


def test_a_bad_quality_is_data_without_a_number() -> None:
    """A bad mark makes a bad row; the value beside it is never used as a number."""
    bench = Bench({"t/x#v": None, "t/x#w": None}, {"decode": "json", "quality": "q", "quality_format": "classic"})

    rows, rejects = bench.put(b'{"v": 3, "w": null, "q": 0}')

    assert [row.status for row in rows] == [status.BAD, status.BAD]
    assert all(isinstance(row.value, float) and math.isnan(row.value) for row in rows)
    assert rejects == []


def test_an_unknown_quality_is_uncertain_and_counted() -> None:
    """A mark nobody declared is neither good nor lost."""
    bench = Bench({"t/x#v": None}, {"decode": "json", "quality": "q"})
    assert bench.put(b'{"v": 3, "q": 0}')[0][0].status == status.UNCERTAIN
    assert bench.counters["quality_unknown"] == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b'{"v": ',
        b"\xff\xfe",
        b'{"v": 1e400}',
        b'{"v": NaN}',
        b'{"v": "NaN"}',
        b'{"v": "0x1F"}',
        b'{"v": "1,5"}',
        b'{"v": []}',
        b'{"v": 99999999999999999999}',
        b"[" * 5000,
        b'{"a":' * 20 + b"1" + b"}" * 20,
        b'"\\ud800"',
    ],
)
def test_a_malformed_payload_is_one_refusal_and_costs_nothing_else(payload: bytes) -> None:
    """The messages around a bad one arrive, and its raw bytes are kept."""
    bench = Bench({"t/x#v": "float64"}, {"decode": "json"})

    rows, rejects = bench.put(b'{"v": 1}', payload, b'{"v": 2}')

    assert [row.value for row in rows] == [1.0, 2.0]
    assert [(r.place, r.raw) for r in rejects] == [("t/x", payload[:4096])]
    assert rejects[0].reason


def test_one_bad_member_leaves_the_others() -> None:
    """A message with one unusable value gives its other values and one refusal that names the path."""
    bench = Bench({"t/x#a": "int16", "t/x#b": "int16"}, {"decode": "json"})

    rows, (reject,) = bench.put(b'{"a": 70000, "b": 5}')

    assert [(row.tag, row.value) for row in rows] == [(1, 5.0)]
    assert reject.reason == "a: 70000 is outside int16"


def test_an_absent_path_is_counted_and_refused_only_when_nothing_was_found() -> None:
    """Messages that carry some of the tags are normal; one that carries none is said."""
    bench = Bench({"t/x#a": None, "t/x#b": None}, {"decode": "json"})

    rows, rejects = bench.put(b'{"a": 1}', b'{"c": 1}')

    assert len(rows) == 1
    assert [r.raw for r in rejects] == [b'{"c": 1}']
    assert bench.counters["path_missing"] == 3


@pytest.mark.parametrize(
    ("path", "payload", "null"),
    [
        ("x", b'{"x": null, "y": 1}', True),
        ("x", b'{"y": 1}', False),
        ("a.b", b'{"a": {"b": null}, "y": 1}', True),
        ("a.b", b'{"a": null, "y": 1}', True),
        ("a.b", b'{"a": {}, "y": 1}', False),
        ("a.b", b'{"a": [null], "y": 1}', False),
        ("v[1]", b'{"v": [1, null], "y": 1}', True),
        ("v[1]", b'{"v": [null], "y": 1}', False),
        ("v[1].z", b'{"v": [1, null], "y": 1}', True),
        ("m[?n=='t'].v | [0]", b'{"m": [{"n": "s", "v": 1}, {"n": "t", "v": null}], "y": 1}', True),
        ("m[?n=='t'].v | [0]", b'{"m": [{"n": "s", "v": null}], "y": 1}', False),
        ("m[?ok].v | [0]", b'{"m": [{"ok": null, "v": 5}], "y": 1}', False),
        ("a || b", b'{"a": null, "y": 1}', False),
        ("max(v)", b'{"v": [], "w": null, "y": 1}', False),
    ],
)
def test_an_explicit_null_is_a_bad_row_and_a_missing_member_none(path: str, payload: bytes, null: bool) -> None:
    """The last good value does not go on standing where the device says that there is none."""
    bench = Bench({f"t/x#{path}": None, "t/x#y": None}, {"decode": "json"})

    rows, rejects = bench.put(payload)

    assert [(row.tag, row.status) for row in rows] == [(0, status.BAD)] * null + [(1, status.GOOD)]
    assert all(isinstance(row.value, float) and math.isnan(row.value) for row in rows if row.tag == 0)
    assert (rejects, bench.counters["path_missing"]) == ([], not null)


@pytest.mark.parametrize(("word", "copies"), [("none", 0), ("null", 1)])
def test_telling_nulls_apart_copies_a_message_once_at_most(word: str, copies: int, monkeypatch) -> None:
    """However many tags are missing from it; not at all where the payload has no null."""
    made: list[Any] = []
    mark = paths._marked

    def counted(document: Any) -> Any:
        made.extend([document] * (type(document) is dict and "meters" in document))
        return mark(document)

    monkeypatch.setattr(paths, "_marked", counted)
    addresses = {f"t/x#meters[?id=='X{n}'].power | [0]": None for n in range(20)}
    bench = Bench({**addresses, "t/x#meters[0].power": None}, {"decode": "json"})
    meters = [{"id": f"M{n}", "power": n} for n in range(5)]

    rows, rejects = bench.put(json.dumps({"meters": meters, "said": word}).encode())

    assert [row.tag for row in rows] == [20]
    assert (rejects, bench.counters["path_missing"], len(made)) == ([], 20, copies)


@pytest.mark.parametrize("many", [1, 30])
def test_a_message_of_nulls_is_no_refusal(many: int) -> None:
    """Its members are there, also among many that are read at once; a payload that is null has no value either."""
    bench = Bench({"t/x#x": "float64", "t/x#y": None, "t/z": None}, {"decode": "json"})
    good = [b'{"x": 1, "y": 2}'] * many

    rows, rejects = bench.put(*good, b'{"x": null, "y": null}', *good)

    assert rejects == []
    assert [row.status for row in rows] == [status.GOOD] * 2 * many + [status.BAD] * 2 + [status.GOOD] * 2 * many
    ((row,), rejects) = bench.put(b"null", topic=b"t/z")
    assert (row.status, rejects) == (status.BAD, [])


def test_a_topic_nobody_wants_is_counted() -> None:
    """A message of no tag is neither a row nor a refusal."""
    bench = Bench({"t/x#a": None}, {"decode": "json"})
    assert bench.put(b"garbage", topic=b"t/other") == ([], [])
    assert bench.counters["unmapped"] == 1


def test_limits_and_broken_topics_are_refused() -> None:
    """A topic that is no text or too long, and a payload beyond the limit, are quarantined."""
    bench = Bench({"t/#": None}, {"decode": "plain"}, limits={"payload": "8B", "topic": "16B", "levels": 3})
    deep, long, broken = b"t/a/b/c", b"t/" + b"x" * 20, b"t/\xff"
    messages = [Message(topic, b"1", 1, 1, False, False, 1, ARRIVED) for topic in (deep, long, broken)]
    messages.append(Message(b"t/x", b"9" * 8, 9, 1, False, False, 1, ARRIVED))

    rows, rejects = bench.put(*messages)

    assert rows == []
    assert [r.reason for r in rejects] == [
        "the topic is longer than the limit",
        "the topic is longer than the limit",
        "the topic is not UTF-8",
        "payload of 9 bytes is longer than the limit of 8",
    ]


def test_plain_payloads_follow_the_declared_type() -> None:
    """A plain payload is a number, a text or bytes, as the tag says."""
    bench = Bench(
        {"t/n": None, "t/s": "string[4]", "t/b": "bytes[4]", "t/c": "float64"}, {"decode": "plain", "numbers": "comma"}
    )
    assert bench.put(b" 1,5\n", topic=b"t/n")[0][0].value == 1.5
    assert bench.put(b"12", topic=b"t/s")[0][0].value == "12"
    assert bench.put(b"\xff\x00", topic=b"t/b")[0][0].value == b"\xff\x00"
    assert bench.put(b"1.5", topic=b"t/c")[1][0].reason == "payload: '1.5' is not a number with decimal comma"
    assert bench.put(b"\xff", topic=b"t/s")[1][0].reason.startswith("payload: 'utf-8'")


def test_structures_and_long_integers_stay_exact() -> None:
    """Arrays, objects and integers beyond 2**53 come whole."""
    bench = Bench({"t/x": None}, {"decode": "json"})
    rows, _ = bench.put(b"[1, 2]", b'{"a": 1}', b"9007199254740993")
    assert [row.value for row in rows] == [[1, 2], {"a": 1}, 9007199254740993]


def test_a_wildcard_tag_takes_every_matching_topic() -> None:
    """All topics under a tag's wildcard feed that tag, beside tags of the exact topic."""
    bench = Bench({"t/+/x#v": None, "t/a/x#v": None}, {"decode": "json"})
    assert [row.tag for row in bench.put(b'{"v": 1}', topic=b"t/a/x")[0]] == [1, 0]
    assert [row.tag for row in bench.put(b'{"v": 1}', topic=b"t/b/x")[0]] == [0]


def test_a_time_that_cannot_be_read_refuses_the_message() -> None:
    """A naive or broken time is never replaced by another one; an absent one is arrival, counted."""
    bench = Bench({"t/x#v": None}, {"decode": "json", "time": "ts"})
    rows, rejects = bench.put(b'{"v": 1, "ts": "2026-01-01T00:00:00"}', b'{"v": 2}')
    assert [row.value for row in rows] == [2.0]
    assert "names no zone" in rejects[0].reason
    assert bench.counters["time_missing"] == 1

    zoned = Bench({"t/x#v": None}, {"decode": "json", "time": "ts"}, timezone="Europe/Paris")
    assert zoned.put(b'{"v": 1, "ts": "2026-01-01T01:00:00"}')[0][0].source_ns == 1767225600 * 10**9


_NAMES = st.sampled_from(["a", "b", "c1", "_d"])
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(_JSON, st.lists(_NAMES, min_size=1, max_size=4).map(".".join))
def test_member_chains_agree_with_jmespath(document: object, path: str) -> None:
    """The short way for ``a.b.c`` finds what the library finds."""
    assert getter(path)(document) == jmespath.search(path, document)


@given(_JSON, st.integers(1, 6))
def test_depth_is_counted_as_the_document_nests(document: object, limit: int) -> None:
    """Brackets inside texts do not count, brackets of the structure do."""

    def depth(value: object) -> int:
        inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert too_deep(json.dumps(document, ensure_ascii=False).encode(), limit) == (depth(document) > limit)


@given(_JSON)
def test_a_number_in_json_comes_out_as_it_went_in(document: object) -> None:
    """What an untyped tag reads from JSON is the value JSON says, or a refusal."""
    rows, rejects = Bench({"t/x": None}, {"decode": "json"}).put(msgspec.json.encode(document))
    if document is None:
        assert [row.status for row in rows] == [status.BAD]
    else:
        assert rows[0].value == document
        assert rejects == []


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=60), st.booleans(), st.booleans()), max_size=6))
def test_no_message_raises_and_each_is_accounted_for(parts: list[tuple[bytes, bytes, bool, bool]]) -> None:
    """Any bytes give rows, refusals or counts: received = mapped + refused + unmapped."""
    bench = Bench({"t/#": "float64", "t/##v": None}, {"decode": "json", "time": "ts", "quality": "q"})
    messages = [Message(b"t/" + t, p, len(p), 1, retain, dup, 1, ARRIVED) for t, p, retain, dup in parts]

    rows, rejects = bench.put(*messages)

    assert bench.counters["messages"] == len(messages)
    assert len(rejects) <= len(messages)
    assert len(rows) + len(rejects) >= len(messages)


POISON = [
    ("r[?value > `10`]", b'{"r": [{"value": "x"}]}'),
    ("max_by(r, &value)", b'{"r": [{"value": 1}, {"value": "x"}]}'),
    ("avg(r)", b'{"r": [1, "x"]}'),
    ("sum(r)", b'{"r": [' + b"9" * 400 + b", 1]}"),
    ("sort(r)", b'{"r": [1, "x", null]}'),
    ("length(r)", b'{"r": 5}'),
    ("to_number(r)", b'{"r": {"a": 1}}'),
    ("join(',', r)", b'{"r": [1]}'),
]


@pytest.mark.parametrize(("path", "body"), POISON)
def test_a_path_that_cannot_be_evaluated_stops_nothing(path: str, body: bytes) -> None:
    """What escaped here would never be acknowledged and come back for ever: it ends as a row or a refusal."""
    bench = Bench({f"t/x#{path}": None, "t/y#v": None}, {"decode": "json"})
    good = Message(b"t/y", b'{"v": 7}', 8, 1, False, False, 2, ARRIVED)

    rows, rejects = bench.put(body, good)

    assert [row.value for row in rows if row.tag == 1] == [7.0]
    assert len([row for row in rows if row.tag == 0]) + len(rejects) + bench.counters["path_missing"] >= 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["r", "value", "a"]), inner),
        max_leaves=8,
    ),
    st.sampled_from([path for path, _ in POISON] + ["r", "*", "r[*].value", "keys(r)", "r | [0]"]),
)
def test_no_document_and_no_function_raise(document: Any, path: str) -> None:
    """Whatever JSON meets whatever expression, decoding returns."""
    try:
        body = json.dumps(document).encode()
    except ValueError:
        return
    Bench({f"t/x#{path}": None}, {"decode": "json"}).put(body)


def test_topics_longer_than_the_limit_are_not_remembered() -> None:
    """They are refused; ten thousands of them kept would be gigabytes."""
    bench = Bench({"t/x": None}, {"decode": "plain"})
    for number in range(20):
        bench.put(b"1", topic=b"t/" + str(number).encode() * 600)
    bench.put(b"1")

    assert list(bench.decoder._plans) == [b"t/x"]
    assert bench.counters["rejected"] == 20
