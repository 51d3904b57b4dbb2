"""Bytes into messages: the same as paho reads, however the bytes are cut, and no bytes do more than be refused."""

from __future__ import annotations

import random
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.mqtt.message import RAW_LIMIT, Block, Message
from adapters.mqtt.packets import Malformed, Packet, Packets

LIMIT = 1000
NOW = 5


def length(size: int) -> bytes:
    """Remaining length."""
    found = bytearray()
    while size > 127:
        found.append(size & 127 | 128)
        size >>= 7
    return bytes(found) + bytes([size])


def publish(
    topic: bytes, payload: bytes, mid: int, qos: int, five: bool, flags: int = 0, properties: bytes = b""
) -> bytes:
    """A PUBLISH packet."""
    body = struct.pack(">H", len(topic)) + topic + (struct.pack(">H", mid) if qos else b"")
    body += length(len(properties)) + properties if five else b""
    body += payload
    return bytes([0x30 | qos << 1 | flags]) + length(len(body)) + body


def read(chunks: list[bytes], five: bool) -> list[Message | Packet]:
    """Everything that comes of these bytes, in order."""
    packets = Packets(LIMIT, five=five)
    found: list[Message | Packet] = []
    for chunk in chunks:
        for item in packets.feed(chunk, NOW):
            found += [item.message(i) for i in range(len(item))] if isinstance(item, Block) else [item]
    return found


_SENT = st.one_of(
    st.tuples(
        st.binary(min_size=1, max_size=20),
        st.binary(max_size=40) | st.integers(0, 3 * LIMIT).map(bytes),
        st.integers(1, 65535),
        st.integers(0, 1),
        st.sampled_from([0, 1, 8, 9]),
        st.sampled_from([b"", b"\x02\0\0\0\x05", b"\x26\0\x01k\0\x01v" * 9, b"\x26\0\x01k\0\x01v" * 40]),
    ),
    st.sampled_from([b"\xd0\x00", b"\x90\x03\x00\x01\x01", b"\x20\x02\x00\x00"]),
)


@given(st.lists(_SENT, max_size=20), st.booleans(), st.randoms(use_true_random=False))
def test_cut_anywhere_the_messages_are_the_same(sent: list[object], five: bool, chance: random.Random) -> None:
    """Topic, payload, id, QoS and flags of each message, in order, with other packets between them where they were."""
    data, want = b"", []
    for item in sent:
        if isinstance(item, bytes):
            data += item
            want.append(Packet(item[0], item[2:]))
            continue
        topic, payload, mid, qos, flags, properties = item  # type: ignore[misc]
        data += publish(topic, payload, mid, qos, five, flags, properties)
        kept = payload if len(payload) <= LIMIT else payload[:RAW_LIMIT]
        message = Message(topic, kept, len(payload), qos, bool(flags & 1), bool(flags & 8), mid * qos, NOW)
        want.append(message)  # type: ignore[arg-type]
    cuts = sorted({0, len(data), *(chance.randrange(len(data) + 1) for _ in range(8))})

    assert read([data[a:b] for a, b in pairwise(cuts)], five) == want
    assert read([data[i : i + 1] for i in range(min(len(data), 3000))] + [data[3000:]], five) == want


def test_a_message_beyond_all_limits_is_cut_while_it_comes() -> None:
    """Its size is known, its bytes are not kept, and what follows is read."""
    packets = Packets(LIMIT, five=True)
    whole = publish(b"big", bytes(10**7), 9, 1, True) + publish(b"next", b"1", 10, 1, True)
    found: list[Block | Packet] = []
    most = 0
    for begin in range(0, len(whole), 50_000):
        found += packets.feed(whole[begin : begin + 50_000], NOW)
        most = max(most, len(packets._rest))
    first, second = (item.message(0) for item in found if isinstance(item, Block))

    assert (first.topic, first.size, len(first.payload), first.mid) == (b"big", 10**7, RAW_LIMIT, 9)
    assert (second.topic, second.payload) == (b"next", b"1")
    assert most < 300_000


@pytest.mark.parametrize("size", [130, 20_000, 500_000], ids=["in two bytes", "in three", "longer than what is kept"])
@pytest.mark.parametrize("piece", [20_000, 10**7], ids=["in pieces", "at once"])
def test_a_message_beyond_all_limits_may_have_many_properties(size: int, piece: int) -> None:
    """Topic and id are read whatever stands between them and the payload, so it can be refused and acknowledged."""
    properties = b"\x26\x00\x01k\xff\x00" + bytes(0xFF00) if size > 65535 else b"\x26\x00\x01k\x00\x01v"
    properties *= size // len(properties) + 1
    whole = publish(b"big", bytes(10**6), 9, 1, True, properties=properties) + publish(b"next", b"1", 10, 1, True)
    first, second = read([whole[begin : begin + piece] for begin in range(0, len(whole), piece)], True)

    assert isinstance(first, Message)
    assert (first.topic, first.mid) == (b"big", 9)
    assert first.size >= 10**6
    assert first.payload == bytes(len(first.payload))
    assert isinstance(second, Message)
    assert (second.topic, second.payload) == (b"next", b"1")


@pytest.mark.parametrize("head", [b"\x34\x00\x01a", b"\x32\x00\x00"], ids=["qos 2", "no topic"])
def test_a_long_message_that_cannot_be_named_ends_the_connection(head: bytes) -> None:
    """Nothing says what to refuse, and the library would have to keep all of it."""
    with pytest.raises(Malformed):
        Packets(LIMIT, five=True).feed(head[:1] + length(10**6) + head[1:] + bytes(200_000), NOW)


@pytest.mark.parametrize(
    "packet",
    [
        publish(b"", b"1", 1, 1, True),
        publish(b"a", b"1", 1, 2, True),
        publish(b"a", b"1", 1, 3, True),
        b"\x32\x05\x00\x40abc",
        b"\x30\x00",
        b"\x30\x02\x00\x01",
        b"\x32\x04\x00\x01a\x00",
        b"\x32\x05\x00\x01a\x00\x01",
    ],
    ids=["no topic", "qos 2", "qos 3", "topic cut", "empty", "short", "id cut", "no properties"],
)
def test_what_is_no_plain_publish_goes_to_the_library(packet: bytes) -> None:
    """It knows what to do with it; messages before and after keep their order."""
    before, after = publish(b"a", b"1", 1, 1, True), publish(b"b", b"2", 2, 1, True)
    first, middle, last = read([before + packet + after], True)

    assert isinstance(first, Message)
    assert middle == Packet(packet[0], packet[2:])
    assert isinstance(last, Message)
    assert last.topic == b"b"


@pytest.mark.parametrize("data", [b"\x30\xff\xff\xff\xff\x01", b"\x90\xff\xff\xff\x7f"], ids=["length", "huge suback"])
def test_what_no_broker_sends_ends_the_connection(data: bytes) -> None:
    """A length of five bytes, or an answer of megabytes, is refused before anything is kept."""
    with pytest.raises(Malformed):
        Packets(LIMIT, five=True).feed(data, NOW)


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_no_bytes_do_more_than_be_refused(chunks: list[bytes], five: bool) -> None:
    """Whatever comes, there are messages, packets, or Malformed."""
    packets = Packets(LIMIT, five=five)
    try:
        for chunk in chunks:
            for item in packets.feed(chunk, NOW):
                if isinstance(item, Block):
                    lists = (item.topics, item.payloads, item.heads, item.mids, item.arrivals)
                    assert {len(one) for one in lists} == {len(item)}
    except Malformed:
        return
