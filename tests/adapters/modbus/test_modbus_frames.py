"""Bytes of a stranger: any of them, in any pieces, on any framing."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.modbus.channel import Channel, Framing
from adapters.modbus.exchange import Answer, Exchange
from adapters.modbus.frames import crc
from adapters.modbus.planner import Block, Item
from adapters.modbus.units import Units
from schemas import status

BLOCKS = [Block.over((Item(1, 3, 10 * i, 2, i),)) for i in range(4)]
FRAMINGS: tuple[Framing, ...] = ("mbap", "mbap_zero", "rtu")


class Wire:
    """The transport of a channel: keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def abort(self) -> None:
        self.closed = True


def play(framing: Framing, depth: int, pieces: list[bytes]) -> tuple[list[Answer | None], Wire, Counter[str]]:
    """Feed *pieces* to a channel that asks four blocks of two registers; what it took for answers."""
    counters: Counter[str] = Counter()
    wire = Wire()

    async def run() -> list[Answer | None]:
        channel = Channel(framing, depth, 60.0, 0.0, 0, time.time_ns, counters)
        channel.connection_made(wire)  # type: ignore[arg-type]
        exchange = Exchange(BLOCKS, Units(9, 9, 1.0, counters), time.time_ns)
        asking = asyncio.ensure_future(channel.run(exchange))
        await asyncio.sleep(0)
        for piece in pieces:
            if piece and not wire.closed:
                channel.data_received(piece)
        channel.connection_lost(None)
        await asking
        return exchange.answers

    return asyncio.run(run()), wire, counters


def right_reply(framing: Framing, number: int) -> bytes:
    """The reply to block *number*, whose registers hold 1000 + number and number."""
    words = struct.pack(">HH", 1000 + number, number)
    if framing == "rtu":
        body = b"\x01\x03\x04" + words
        return body + crc(body)
    return struct.pack(">HHHBBB", number + 1 if framing == "mbap" else 0, 0, 7, 1, 3, 4) + words


@pytest.mark.parametrize("framing", FRAMINGS)
@given(data=st.data())
def test_any_bytes_are_judged(framing: Framing, data: st.DataObject) -> None:
    """
    Whatever comes, in whatever pieces: nothing is raised, and what is taken for registers was preceded byte by byte by
    the header that the request asks for.
    """
    depth = data.draw(st.sampled_from([1, 4])) if framing == "mbap" else 1
    replies = [right_reply(framing, i) for i in range(4)]
    parts = data.draw(st.lists(st.sampled_from(replies) | st.binary(max_size=20), max_size=6))
    stream = bytearray(b"".join(parts))
    for at in data.draw(st.lists(st.integers(0, max(0, len(stream) - 1)), max_size=2)) if stream else []:
        stream[at] ^= data.draw(st.integers(0, 255))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [bytes(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    answers, wire, _ = play(framing, depth, pieces)
    for answer in answers:
        if answer is not None and answer.status == status.GOOD:
            assert len(answer.payload) == 4
            assert b"\x01\x03\x04" + answer.payload in bytes(stream)
        elif answer is not None:
            assert answer.payload == b""
    functions = {frame[1] if framing == "rtu" else frame[7] for frame in wire.sent}
    assert functions == {3}


@pytest.mark.parametrize("framing", FRAMINGS)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_right_replies_in_any_pieces(framing: Framing, cuts: list[int]) -> None:
    """Right replies, joined or cut wherever, are all taken, each by its own block."""
    depth = 4 if framing == "mbap" else 1
    stream = b"".join(right_reply(framing, i) for i in range(4))
    if framing == "mbap":
        places = sorted({min(cut, len(stream)) for cut in cuts})
    else:  # the next reply comes after the next request
        size = len(stream) // 4
        places = sorted({min(cut, len(stream)) for cut in cuts} | {size * i for i in range(1, 4)})
    pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    answers, _, counters = play(framing, depth, pieces)
    assert [a and a.payload for a in answers] == [struct.pack(">HH", 1000 + i, i) for i in range(4)]
    assert not counters["doubtful_replies"]


@given(at=st.integers(0, 12), bit=st.integers(0, 7))
def test_one_bit_turned_over_in_a_header_is_noticed(at: int, bit: int) -> None:
    """Every bit of the header counts: whichever is wrong, no registers are taken (the payload has no checksum)."""
    reply = bytearray(right_reply("mbap", 0))
    reply[at] ^= 1 << bit
    answers, wire, counters = play("mbap", 1, [bytes(reply)])
    first = answers[0]
    if at < 9:
        assert first is None or (first.status, first.payload) == (status.BAD_DECODING_ERROR, b"")
        assert counters["doubtful_replies"] == wire.closed == 1
    else:
        assert first is not None
        assert first.payload == bytes(reply[9:])


@given(at=st.integers(0, 8), bit=st.integers(0, 7))
def test_one_bit_turned_over_in_a_serial_frame_is_noticed(at: int, bit: int) -> None:
    """The checksum covers every bit of a serial frame."""
    reply = bytearray(right_reply("rtu", 0))
    reply[at] ^= 1 << bit
    answers, _, _ = play("rtu", 1, [bytes(reply)])
    first: Any = answers[0]
    assert first is None or first.status != status.GOOD
