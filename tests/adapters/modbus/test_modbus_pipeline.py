"""Several requests under way at once: matched by transaction id, judged one by one, given back on trouble."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from schemas import status
from schemas.errors import NotConnected
from schemas.samples import SampleBatch
from schemas.tagmap import Tag
from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.adapters.modbus.scripted import frame, registers, serving

MakeTag = Callable[..., Tag]
MakeAdapter = Callable[..., Any]
Take = Callable[[Any], Awaitable[SampleBatch]]

Asked = tuple[int, int, int, int, int]
#: What to write, in pieces, when these requests wait; the requests that stay waiting.
Plan = Callable[[list[Asked]], tuple[list[bytes], list[Asked]]]
#: Addresses so far apart that each is a block of its own.
ADDRESSES = [1000 * i for i in range(1, 31)]


def answer(asked: Asked) -> bytes:
    t, u, f, a, n = asked
    return frame(t, u, registers(f, a, n))


@asynccontextmanager
async def collecting(plan: Plan) -> AsyncIterator[Any]:
    """A server that lets a plan choose among all the requests that wait."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: list[Asked] = []
        rest = b""
        while data := await reader.read(4096):
            rest += data
            while len(rest) >= 12:
                t, _, _, u, f, a, n = struct.unpack(">HHHBBHH", rest[:12])
                waiting.append((t, u, f, a, n))
                rest = rest[12:]
            server.deepest = max(server.deepest, len(waiting))
            pieces, waiting = plan(waiting)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    class Server:
        port = 0
        deepest = 0

    server = Server()
    async with serving(serve) as server.port:
        yield server


def tags(make_tag: MakeTag) -> list[Tag]:
    return [make_tag(a, f"HR{a}") for a in ADDRESSES]


@pytest.mark.parametrize("seed", range(6))
async def test_replies_in_any_order_and_any_pieces(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, seed: int
) -> None:
    """Replies shuffled, joined and cut anywhere give every tag its own value, and times in order."""
    chance = random.Random(seed)

    def shuffle(waiting: list[Asked]) -> tuple[list[bytes], list[Asked]]:
        chance.shuffle(waiting)
        data = b"".join(answer(asked) for asked in waiting)
        cuts = sorted(chance.sample(range(len(data)), chance.randint(0, min(8, len(data) - 1))))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if b > a], []

    async with collecting(shuffle) as server:
        adapter = make_adapter(server.port, tags(make_tag), address_style="zero_based", in_flight=8)
        await adapter.connect()
        for _ in range(5):
            batch = await take(adapter)
            assert (batch.status == status.GOOD).all()
            assert (batch.value == batch.tag).all()
            assert sorted(batch.tag.tolist()) == ADDRESSES
            assert (np.diff(batch.source_ns) > 0).all()
        assert 1 < server.deepest <= 8
        assert adapter.counters["doubtful_replies"] == 0


async def test_one_at_a_time_is_the_default(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Without `in_flight` the next request leaves after the reply to the one before."""
    async with collecting(lambda waiting: ([answer(asked) for asked in waiting], [])) as server:
        adapter = make_adapter(server.port, tags(make_tag), address_style="zero_based")
        await adapter.connect()
        await take(adapter)
        assert server.deepest == 1


async def test_a_reply_with_another_id_costs_one_block_and_the_socket(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """An id that is not under way drops the connection; the other blocks are asked again on a new one."""
    spoilt: list[int] = []

    def once(waiting: list[Asked]) -> tuple[list[bytes], list[Asked]]:
        if not spoilt and len(waiting) >= 4:
            spoilt.append(1)
            t, u, f, a, n = waiting[2]
            return [frame(t + 999, u, registers(f, a + 1, n))], waiting
        return [answer(asked) for asked in waiting], []

    async with collecting(once) as server:
        adapter = make_adapter(server.port, tags(make_tag), address_style="zero_based", in_flight=4)
        await adapter.connect()
        batch = await take(adapter)
        good = batch.status == status.GOOD
        assert (~good).sum() == 1
        assert batch.status[~good].tolist() == [status.BAD_DECODING_ERROR]
        assert (batch.value[good] == batch.tag[good]).all()
        assert adapter.counters["doubtful_replies"] == 1
        assert adapter.counters["connections"] == 2
        assert (await take(adapter)).status.tolist() == [status.GOOD] * len(ADDRESSES)


async def test_a_wrong_reply_costs_the_block_it_answers(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """A reply with the right id and too few registers makes that block bad, though others are older."""

    def short(waiting: list[Asked]) -> tuple[list[bytes], list[Asked]]:
        for t, u, f, a, n in waiting:
            if a == ADDRESSES[2]:
                return [frame(t, u, registers(f, a, n)[:-2])], []
        return [answer(asked) for asked in waiting], []

    async with collecting(short) as server:
        adapter = make_adapter(server.port, tags(make_tag)[:4], address_style="zero_based", in_flight=4)
        await adapter.connect()
        batch = await take(adapter)
        bad = {row.tag: row.status for row in batch.rows() if row.status != status.GOOD}
        assert bad == {ADDRESSES[2]: status.BAD_DECODING_ERROR}
        assert np.isnan(batch.value[batch.tag == ADDRESSES[2]]).all()


async def test_a_request_without_reply_is_overdue_alone(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """One request that is never answered is bad when its time is up; those with it are asked again and are good."""

    def swallow(waiting: list[Asked]) -> tuple[list[bytes], list[Asked]]:
        kept = [asked for asked in waiting if asked[3] == ADDRESSES[5]]
        return [answer(asked) for asked in waiting if asked not in kept], kept

    async with collecting(swallow) as server:
        adapter = make_adapter(
            server.port, tags(make_tag), address_style="zero_based", in_flight=8, timeout="150ms", fail_after=5
        )
        await adapter.connect()
        for _ in range(2):
            batch = await take(adapter)
            bad = batch.status != status.GOOD
            assert batch.tag[bad].tolist() == [ADDRESSES[5]]
            assert batch.status[bad].tolist() == [status.BAD_TIMEOUT]
            assert np.isnan(batch.value[bad]).all()
            assert (batch.value[~bad] == batch.tag[~bad]).all()
        assert adapter.counters["timeouts"] == 2


async def test_late_replies_never_fit(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A server that answers every request with the reply to the one before gives no wrong value, eight under way."""
    owed: list[Asked] = []

    def late(waiting: list[Asked]) -> tuple[list[bytes], list[Asked]]:
        pieces = []
        for asked in waiting:
            owed.append(asked)
            if len(owed) > 1:
                t, u, f, a, n = owed.pop(0)
                pieces.append(frame(t, u, registers(f, a, n)))
        return pieces, []

    async with collecting(late) as server:
        adapter = make_adapter(
            server.port, tags(make_tag), address_style="zero_based", in_flight=8, timeout="60ms", fail_after=9
        )
        await adapter.connect()
        seen = 0
        for _ in range(6):
            try:
                batch = await take(adapter)
            except NotConnected:
                await adapter.connect()
                continue
            good = batch.status == status.GOOD
            seen += int(good.sum())
            assert (batch.value[good] == batch.tag[good]).all()
        assert seen > 0
        assert adapter.counters["timeouts"] + adapter.counters["doubtful_replies"] > 0


async def test_exceptions_among_good_replies_are_narrowed_down(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take
) -> None:
    """Refused addresses are found block by block while others are under way; every value is right."""
    missing = {7, 130, 131, 395}
    points = [RegisterPoint(f"r{i}", "holding", i, "uint16") for i in range(400) if i not in missing]
    async with ModbusServer(lambda: {f"r{i}": i for i in range(400)}, points) as server:
        adapter = make_adapter(server.port, [make_tag(i, f"HR{i + 1}") for i in range(400)], in_flight=4)
        await adapter.connect()
        for _ in range(2):
            batch = await take(adapter)
            bad = batch.status != status.GOOD
            assert set(batch.tag[bad].tolist()) == missing
            assert (batch.value[~bad] == batch.tag[~bad]).all()
        assert adapter.counters["refused_items"] == 4


@pytest.mark.parametrize("takes", [1, 2, 4])
async def test_several_connections_share_the_work(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, takes: int
) -> None:
    """A device that takes several connections gets the blocks over all of them, one that takes fewer over those."""
    points = [RegisterPoint(f"r{a}", "holding", a, "uint16") for a in ADDRESSES]
    async with ModbusServer(lambda: {f"r{a}": a for a in ADDRESSES}, points, most_connections=takes) as server:
        server.delay_s = 0.002
        adapter = make_adapter(server.port, tags(make_tag), address_style="zero_based", connections=4)
        await adapter.connect()
        for _ in range(3):
            batch = await take(adapter)
            assert (batch.status == status.GOOD).all()
            assert (batch.value == batch.tag).all()
            assert (np.diff(batch.source_ns) > 0).all()
        assert server.open_connections == takes
        assert adapter.counters["doubtful_replies"] == 0
