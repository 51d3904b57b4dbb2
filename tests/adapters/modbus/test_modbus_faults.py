"""
Servers that misbehave on purpose: no wrong value may come through.

Each case has its negative control: the same bytes, read by the same library without the guard, give a wrong value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from schemas import status
from schemas.errors import NotConnected
from schemas.samples import SampleBatch
from schemas.tagmap import Tag
from tests.adapters.modbus.scripted import Script, frame, one_byte_at_a_time, registers, right, scripted

MakeTag = Callable[..., Tag]
MakeAdapter = Callable[..., Any]
Take = Callable[[Any], Awaitable[SampleBatch]]

BAD_REPLIES: dict[str, Script] = {
    "transaction 0": lambda t, u, f, a, n: [frame(0, u, registers(f, a - 1, n))],
    "transaction of another": lambda t, u, f, a, n: [frame(t + 7, u, registers(f, a - 1, n))],
    "another function": lambda t, u, f, a, n: [frame(t, u, registers(4, a - 1, n))],
    "bits for registers": lambda t, u, f, a, n: [frame(t, u, b"\x01\x01\x05")],
    "unknown function": lambda t, u, f, a, n: [frame(t, u, b"\x55\x01\x02")],
    "exception of another function": lambda t, u, f, a, n: [frame(t, u, b"\x84\x02")],
    "exception without code": lambda t, u, f, a, n: [frame(t, u, b"\x83")],
    "exception too long": lambda t, u, f, a, n: [frame(t, u, b"\x83\x02\x00")],
    "another unit": lambda t, u, f, a, n: [frame(t, 9, registers(f, a - 1, n))],
    "another protocol": lambda t, u, f, a, n: [frame(t, u, registers(f, a, n), protocol=1)],
    "too few registers": lambda t, u, f, a, n: [frame(t, u, registers(f, a, n - 1))],
    "too many registers": lambda t, u, f, a, n: [frame(t, u, registers(f, a, n + 1))],
    "odd byte count": lambda t, u, f, a, n: [frame(t, u, bytes([f, 2 * n - 1]) + registers(f, a, n)[2:-1])],
    "byte count too small": lambda t, u, f, a, n: [frame(t, u, bytes([f, 2 * n - 2]) + registers(f, a, n)[2:])],
    "byte count too large": lambda t, u, f, a, n: [frame(t, u, bytes([f, 2 * n + 2]) + registers(f, a, n)[2:])],
    "length too small": lambda t, u, f, a, n: [frame(t, u, registers(f, a, n), length=2 * n + 1)],
    "length too large": lambda t, u, f, a, n: [frame(t, u, registers(f, a, n), length=2 * n + 9)],
    "not modbus": lambda t, u, f, a, n: [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
}


async def unguarded(port: int, addresses: list[int], count: int = 4, timeout_s: float = 0.2) -> list[tuple[int, Any]]:
    """What pymodbus alone makes of the same server: (address asked, registers) of what it takes for good."""
    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=timeout_s, retries=0, reconnect_delay=0)
    assert await client.connect()
    taken: list[tuple[int, Any]] = []
    try:
        for address in addresses:
            with suppress(ModbusException):
                reply = await client.read_holding_registers(address, count=count)
                if not reply.isError():
                    taken.append((address, reply.registers))
    finally:
        client.close()
    return taken


def wrong(taken: list[tuple[int, Any]], count: int = 4) -> list[tuple[int, Any]]:
    return [(a, values) for a, values in taken if values != list(range(a, a + count))]


def tags_at(make_tag: MakeTag, addresses: list[int]) -> list[Tag]:
    return [make_tag(a, f"HR{a}") for a in addresses]


@pytest.mark.parametrize("name", sorted(BAD_REPLIES))
async def test_a_doubtful_reply_is_never_a_value(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, name: str
) -> None:
    """Every reply that does not fit its request makes bad rows without value, at once, and costs the socket."""
    async with scripted(BAD_REPLIES[name]) as port:
        tags = tags_at(make_tag, [101, 102, 103, 104])
        adapter = make_adapter(port, tags, address_style="zero_based", timeout="5s")
        await adapter.connect()
        batch = await asyncio.wait_for(take(adapter), 3)
        assert batch.status.tolist() == [status.BAD_DECODING_ERROR] * 4
        assert np.isnan(batch.value).all()
        assert adapter.counters["doubtful_replies"] == 1
        with pytest.raises(NotConnected, match=r"\(unit 1\)"):
            await take(adapter)
        assert adapter.counters["connections"] == 2


@pytest.mark.parametrize(
    "name", ["transaction 0", "another function", "bits for registers", "too few registers", "byte count too small"]
)
async def test_without_the_guard_they_are_wrong_values(name: str) -> None:
    """The library alone takes these replies for good (negative control)."""
    async with scripted(BAD_REPLIES[name]) as port:
        assert wrong(await unguarded(port, [101]))


async def test_frames_in_single_bytes_are_put_together(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """A right reply in pieces of one byte is a right reply."""
    async with scripted(one_byte_at_a_time) as port:
        adapter = make_adapter(port, tags_at(make_tag, [101, 102]), address_style="zero_based")
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [101, 102]
        assert adapter.counters["doubtful_replies"] == 0


def late_by_one(transaction_zero: bool) -> Script:
    """Answer every request with the reply to the one before it, as a device does after a time-out."""
    waiting: list[bytes] = []

    def script(t: int, u: int, f: int, a: int, n: int) -> list[bytes]:
        waiting.append(frame(0 if transaction_zero else t, u, registers(f, a, n)))
        return [waiting.pop(0)] if len(waiting) > 1 else []

    return script


@pytest.mark.parametrize("transaction_zero", [False, True])
async def test_a_late_reply_is_never_the_next_value(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, transaction_zero: bool
) -> None:
    """Replies that come one request late, with and without transaction id, give no wrong value in ten polls."""
    async with scripted(late_by_one(transaction_zero)) as port:
        tags = tags_at(make_tag, [100, 200, 300])
        adapter = make_adapter(port, tags, address_style="zero_based", timeout="30ms", fail_after=2)
        await adapter.connect()
        seen = 0
        for _ in range(10):
            try:
                batch = await take(adapter)
            except NotConnected:
                await adapter.connect()
                continue
            seen += len(batch)
            good = batch.status == status.GOOD
            assert (batch.value[good] == batch.tag[good]).all()
            assert np.isnan(batch.value[~good]).all()
        assert seen + adapter.counters["timeouts"] + adapter.counters["doubtful_replies"] > 0


async def test_transaction_ids_go_on_over_connections(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A new connection does not begin its transaction ids anew, so a reply owed to the old one cannot fit."""
    ids: list[int] = []

    def note(t: int, u: int, f: int, a: int, n: int) -> list[bytes]:
        ids.append(t)
        return right(t, u, f, a, n)

    async with scripted(note) as port:
        adapter = make_adapter(port, tags_at(make_tag, [100, 200]), address_style="zero_based")
        for _ in range(3):
            await adapter.connect()
            await take(adapter)
    assert ids == [1, 2, 3, 4, 5, 6]


async def test_without_the_guard_a_late_reply_is_the_next_value() -> None:
    """With transaction id 0 the library alone gives the registers of the request before (negative control)."""
    async with scripted(late_by_one(True)) as port:
        taken = await unguarded(port, [100, 200, 300], timeout_s=0.05)
        assert wrong(taken) == [(200, [100, 101, 102, 103]), (300, [200, 201, 202, 203])]


async def test_bytes_that_nobody_asked_for_cost_the_socket(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, eventually: Any
) -> None:
    """A second reply that comes between two polls is noticed: the next poll uses a new socket and is right."""
    extra = [frame(2, 1, registers(3, 100, 1))]

    def twice(t: int, u: int, f: int, a: int, n: int) -> list[bytes]:
        return right(t, u, f, a, n) + [extra.pop() for _ in extra[:]]

    async with scripted(twice) as port:
        adapter = make_adapter(port, tags_at(make_tag, [101]), address_style="zero_based")
        await adapter.connect()
        first = await take(adapter)
        await eventually(lambda: not adapter._link.usable)
        second = await take(adapter)
        for batch in (first, second):
            good = batch.status == status.GOOD
            assert (batch.value[good] == 101).all()
        assert second.status.tolist() == [status.GOOD]
        assert adapter.counters["connections"] == 2


async def test_one_bad_reply_costs_one_block(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """After a doubtful reply the next block of the same poll is read on a new socket."""

    def first_is_bad(t: int, u: int, f: int, a: int, n: int) -> list[bytes]:
        return [frame(0, u, registers(f, a, n))] if a == 100 else right(t, u, f, a, n)

    async with scripted(first_is_bad) as port:
        adapter = make_adapter(port, tags_at(make_tag, [100, 200]), address_style="zero_based")
        await adapter.connect()
        for _ in range(3):
            batch = await take(adapter)
            assert batch.status.tolist() == [status.BAD_DECODING_ERROR, status.GOOD]
            assert batch.value[1] == 200


async def test_a_silent_unit_does_not_silence_another(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A unit that never answers costs its own rows; the unit behind the same gateway goes on, poll after poll."""

    def only_unit_two(t: int, u: int, f: int, a: int, n: int) -> list[bytes]:
        return right(t, u, f, a, n) if u == 2 else []

    async with scripted(only_unit_two) as port:
        tags = [make_tag(a, f"1!HR{a}") for a in (100, 200, 300)] + [make_tag(400, "2!HR400")]
        adapter = make_adapter(
            port, tags, address_style="zero_based", timeout="150ms", degrade={"after": 9, "pause": "600s"}
        )
        await adapter.connect()
        for _ in range(3):
            batch = await take(adapter)
            assert batch.status.tolist() == [status.BAD_TIMEOUT] * 3 + [status.GOOD]
            assert batch.value[3] == 400
        assert adapter.counters["timeouts"] == 2 + 1 + 1


async def test_a_clock_set_back_keeps_times_in_order(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Source times strictly increase even when our own clock is set back between two polls."""
    async with scripted(right) as port:
        now = iter([5000, 6000, 1000, 2000, 7000, 7000])
        adapter = make_adapter(port, tags_at(make_tag, [100, 200]), lambda: next(now, 0), address_style="zero_based")
        await adapter.connect()
        times = [(await take(adapter)).source_ns.tolist() for _ in range(3)]
        assert times == [[5000, 6000], [6001, 6002], [7000, 7001]]
