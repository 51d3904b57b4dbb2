"""The adapter against the simulated server."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from schemas import status
from schemas.errors import ConfigError, EndOfInput
from schemas.samples import Gap, GapCause, SampleBatch
from schemas.status import Flag
from schemas.tagmap import Tag
from simulators import SignalValue
from simulators.modbus_server import ModbusServer, RegisterPoint

MakeTag = Callable[..., Tag]
MakeAdapter = Callable[..., Any]
Take = Callable[[Any], Awaitable[SampleBatch]]

#: Name, table, address, type, order on the wire, value, address in the map.
POINTS: list[tuple[str, str, int, str, str, SignalValue, str]] = [
    ("c0", "coil", 0, "bool", "ABCD", True, "C1"),
    ("c20", "coil", 20, "bool", "ABCD", False, "00021"),
    ("d5", "discrete", 5, "bool", "ABCD", True, "10006"),
    ("i16", "input", 0, "int16", "ABCD", -1234, "IR1"),
    ("f32", "input", 1, "float32", "CDAB", 21.5, "30002"),
    ("u16", "holding", 0, "uint16", "ABCD", 65535, "40001"),
    ("swap", "holding", 1, "int16", "BADC", -2, "HR2"),
    ("i32", "holding", 2, "int32", "ABCD", -123456, "HR3"),
    ("u32", "holding", 4, "uint32", "DCBA", 4_000_000_000, "HR5"),
    ("nan", "holding", 6, "float32", "BADC", math.nan, "HR7"),
    ("f64", "holding", 8, "float64", "CDAB", 1e-300, "HR9"),
    ("i64", "holding", 12, "int64", "GHEFCDAB", -(2**53) - 1, "HR13"),
    ("u64", "holding", 16, "uint64", "EFGHABCD", 2**64 - 1, "HR17"),
    ("text", "holding", 20, "string[7]", "ABCD", "Ofen 7", "HR21"),
    ("b3", "holding", 24, "bool", "ABCD", True, "400025.3"),
]


def server_of(values: dict[str, SignalValue], points: list[RegisterPoint]) -> ModbusServer:
    return ModbusServer(lambda: values, points)


def words(server: ModbusServer, function: int) -> int:
    return server.requests[function]


async def test_every_type_and_table_in_one_poll(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """All types from all four tables arrive in one batch with their exact values, by few reads and nothing else."""
    values = {name: value for name, *_, value, _ in POINTS}
    points = [
        RegisterPoint(name, table, address, type_name, order, bit=3 if name == "b3" else 0)  # type: ignore[arg-type]
        for name, table, address, type_name, order, _, _ in POINTS
    ]
    # The gap between coils 0 and 20 has to exist for the read over it to succeed.
    points += [RegisterPoint("c0", "coil", address, "bool") for address in range(1, 20)]
    tags = [
        make_tag(10 * i, written, None if table in ("coil", "discrete") else type_name, byte_order=order)
        for i, (_, table, _, type_name, order, _, written) in enumerate(POINTS)
    ]
    async with server_of(values, points) as server:
        adapter = make_adapter(server.port, tags)
        await adapter.connect()
        before = time.time_ns()
        batch = await take(adapter)
        after = time.time_ns()
        got = {row.tag: row.value for row in batch.rows()}
        want = {10 * i: value for i, (*_, value, _) in enumerate(POINTS)}
        assert math.isnan(got.pop(40 + 50))
        assert math.isnan(want.pop(40 + 50))
        assert got == want
        assert (batch.source, batch.map_revision) == ("plc", bytes(range(16)))
        assert (batch.status == status.GOOD).all()
        singles = {
            10 * i for i, (_, _, _, name, _, value, _) in enumerate(POINTS) if name == "float32" and value == value
        }
        assert singles
        told = {row.tag: row.flags for row in batch.rows()}
        assert told == {n: Flag.ARRIVAL_TIME | (Flag.FLOAT32 if n in singles else 0) for n in told}
        assert (np.diff(batch.source_ns) > 0).all()
        assert before <= batch.source_ns[0]
        assert batch.received_ns <= after
        assert server.requests == {1: 1, 2: 1, 3: 1, 4: 1}
        assert adapter.facts["plan"] == "4 blocks, 28 registers, 22 bits for 15 tags"


async def test_values_follow_the_server(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Each poll brings the value of that moment, with times that strictly increase over all polls."""
    values: dict[str, SignalValue] = {"n": 0}
    async with server_of(values, [RegisterPoint("n", "holding", 0, "uint32")]) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1", "uint32"), make_tag(1, "HR1", "uint32")])
        await adapter.connect()
        times: list[int] = []
        for n in range(5):
            values["n"] = n * 70000
            batch = await take(adapter)
            assert batch.value.tolist() == [n * 70000] * 2
            times += batch.source_ns.tolist()
        assert times == sorted(set(times))
        assert words(server, 3) == 5


async def test_refused_addresses_are_bad_alone(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """
    Exception 2 on a block is narrowed down: only the addresses that do not exist are bad, and they are remembered over
    connections and over restarts.
    """
    names = [f"r{i}" for i in range(40)]
    missing = {7, 8, 31}
    points = [RegisterPoint(n, "holding", i, "uint16") for i, n in enumerate(names) if i not in missing]
    async with server_of({n: i for i, n in enumerate(names)}, points) as server:
        adapter = make_adapter(server.port, [make_tag(i, f"HR{i + 1}") for i in range(40)])
        await adapter.connect()
        costs = []
        for _ in range(3):
            before = words(server, 3)
            batch = await take(adapter)
            costs.append(words(server, 3) - before)
            rows = {row.tag: row for row in batch.rows()}
            assert set(rows) == set(range(40))
            for i, row in rows.items():
                if i in missing:
                    assert row.status == status.BAD_CONFIGURATION_ERROR
                    assert math.isnan(float(row.value))  # type: ignore[arg-type]
                else:
                    assert (row.status, row.value) == (status.GOOD, i)
        assert costs[0] > costs[1] == costs[2] == 3
        assert adapter.counters["refused_items"] == 3
        assert adapter.facts["refused"] == "HR32, HR8, HR9"
        for again in (adapter, make_adapter(server.port, [make_tag(i, f"HR{i + 1}") for i in range(40)])):
            await again.connect()
            before = words(server, 3)
            batch = await take(again)
            assert (batch.status == status.BAD_CONFIGURATION_ERROR).sum() == 3
            assert words(server, 3) - before <= 4  # one of the refused is tried after a start
        assert adapter.counters["refused_items"] == 3
        assert again.counters["refused_items"] == 0


async def test_an_illegal_hole_is_learnt(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A gap that the device does not let us read over costs no value, and is planned around from then on."""
    points = [RegisterPoint("x", "holding", address, "uint16") for address in (0, 1, 5, 6, 10)]
    async with server_of({"x": 9}, points) as server:
        adapter = make_adapter(server.port, [make_tag(i, f"HR{i + 1}") for i in (0, 1, 5, 6, 10)])
        await adapter.connect()
        costs = []
        for _ in range(4):
            before = words(server, 3)
            batch = await take(adapter)
            costs.append(words(server, 3) - before)
            assert batch.value.tolist() == [9] * 5
            assert (batch.status == status.GOOD).all()
        assert costs[-1] == 3
        assert adapter.counters["refused_items"] == 0


async def test_a_repaired_device_is_believed_again(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Addresses that all were refused are probed, and come back when the device has them."""
    async with server_of({"x": 5}, [RegisterPoint("x", "holding", i, "uint16") for i in range(3)]) as server:
        server.exception = 2
        adapter = make_adapter(server.port, [make_tag(i, f"HR{i + 1}") for i in range(3)])
        await adapter.connect()
        assert (await take(adapter)).status.tolist() == [status.BAD_CONFIGURATION_ERROR] * 3
        server.exception = None
        await take(adapter)
        batch = await take(adapter)
        assert batch.status.tolist() == [status.GOOD] * 3
        assert batch.value.tolist() == [5] * 3


@pytest.mark.parametrize(
    ("code", "want"),
    [
        (1, status.BAD_CONFIGURATION_ERROR),
        (4, status.BAD_DEVICE_FAILURE),
        (5, status.BAD_SERVER_TOO_BUSY),
        (6, status.BAD_SERVER_TOO_BUSY),
        (7, status.BAD_DEVICE_FAILURE),
        (8, status.BAD_DEVICE_FAILURE),
        (9, status.BAD_UNEXPECTED_ERROR),
        (10, status.BAD_NO_COMMUNICATION),
        (11, status.BAD_NO_COMMUNICATION),
    ],
)
async def test_an_exception_is_a_status(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, code: int, want: int
) -> None:
    """An exception makes that poll's rows bad, the connection stays, and the next poll is good again."""
    async with server_of({"x": 5}, [RegisterPoint("x", "holding", 0, "uint16")]) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1")])
        await adapter.connect()
        assert (await take(adapter)).value.tolist() == [5]
        server.exception = code
        bad = await take(adapter)
        assert bad.status.tolist() == [want]
        assert np.isnan(bad.value).all()
        server.exception = None
        assert (await take(adapter)).value.tolist() == [5]
        assert server.connections == 1
        assert adapter.counters["exceptions"] == 1


async def test_a_failed_block_never_shows_old_bytes(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A block that fails leaves its tags without value, text included, while the other block is read."""
    values: dict[str, SignalValue] = {"near": 1, "far": 2, "text": "abc"}
    points = [
        RegisterPoint("near", "holding", 0, "uint16"),
        RegisterPoint("far", "holding", 100, "uint64"),
        RegisterPoint("text", "holding", 104, "string[4]"),
    ]
    async with server_of(values, points) as server:
        tags = [make_tag(0, "HR1"), make_tag(1, "HR101", "uint64"), make_tag(2, "HR105", "string[4]")]
        adapter = make_adapter(server.port, tags)
        await adapter.connect()
        assert [row.value for row in (await take(adapter)).rows()] == [1, 2, "abc"]
        values["text"] = None
        batch = await take(adapter)
        assert batch.status.tolist() == [status.GOOD, status.BAD_DEVICE_FAILURE, status.BAD_DEVICE_FAILURE]
        assert batch.value[0] == 1
        assert np.isnan(batch.value[1:]).all()
        assert not batch.exact


async def test_no_value_is_torn(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Counters that change between any two requests are whole in every poll, also while blocks are divided."""
    requests = itertools.count(1)

    def signals() -> dict[str, SignalValue]:
        n = next(requests)
        return {"wide": n * 65537}

    points = [RegisterPoint("wide", "holding", 2 * i, "uint32") for i in range(150)]
    async with ModbusServer(signals, points) as server:
        tags = [make_tag(i, f"HR{2 * i}", "uint32") for i in range(152)]  # the last two do not exist
        tags += [make_tag(1000 + i, f"HR{2 * i + 1}") for i in range(150)]  # the low word of each, once more
        adapter = make_adapter(server.port, tags, address_style="zero_based")
        await adapter.connect()
        for _ in range(4):
            batch = await take(adapter)
            wide = batch.value[(batch.tag < 1000) & (batch.status == status.GOOD)].astype(np.int64)
            assert len(wide) == 150
            assert (wide >> 16 == wide & 0xFFFF).all()
            assert len(set(wide.tolist())) > 1


async def test_units_behind_one_gateway(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """A unit that the gateway does not reach is bad for itself; the unit beside it is read."""
    async with server_of({"x": 5}, [RegisterPoint("x", "holding", 0, "uint16")]) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1"), make_tag(1, "4!HR1")])
        await adapter.connect()
        batch = await take(adapter)
        assert batch.status.tolist() == [status.GOOD, status.BAD_NO_COMMUNICATION]


async def test_periods_are_polled_apart(make_tag: MakeTag, make_adapter: MakeAdapter) -> None:
    """Tags of different periods are read each at its own; every point of both grids is polled or told missed."""
    async with server_of({"x": 5}, [RegisterPoint("x", "holding", i, "uint16") for i in range(2)]) as server:
        adapter = make_adapter(server.port, [make_tag(0, "HR1"), make_tag(1, "HR2", scan_ms=60)])
        await adapter.connect()
        points = [0, 0]
        batches: list[list[int]] = []
        while not batches or batches[-1] != [0, 1] or points[1] < 4:
            outcome = await adapter.read()
            if isinstance(outcome, Gap):
                points[outcome.tags[0]] += int(outcome.detail.split()[0])
                continue
            await outcome.settle()
            batches.append(outcome.batch.tag.tolist())
            for tag in batches[-1]:
                points[tag] += 1
        assert batches[0] == [0, 1]
        assert [0] in batches
        assert 3 * (points[1] - 1) < points[0] <= 3 * points[1]


async def test_a_missed_poll_is_a_gap(
    make_tag: MakeTag, make_adapter: MakeAdapter, take: Take, eventually: Any
) -> None:
    """When reading stops for several periods, the polls that never happened are told, then reading goes on."""
    async with server_of({"x": 5}, [RegisterPoint("x", "holding", 0, "uint16")]) as server:
        adapter = make_adapter(server.port, [make_tag(3, "HR1", scan_ms=20)])
        await adapter.connect()
        await take(adapter)
        loop = asyncio.get_running_loop()
        stop = loop.time() + 0.1
        await eventually(lambda: loop.time() > stop)
        before = adapter.counters["missed_polls"]
        gap = await adapter.read()
        assert isinstance(gap, Gap)
        missed = adapter.counters["missed_polls"] - before
        assert (gap.source, gap.tags, gap.cause, gap.map_revision) == (
            "plc",
            (3,),
            GapCause.POLL_MISSED,
            bytes(range(16)),
        )
        assert gap.to_ns is not None
        assert gap.from_ns < gap.to_ns <= time.time_ns()
        batch = await take(adapter)
        assert batch.value.tolist() == [5]
        assert gap.to_ns <= batch.source_ns[0] + 1000
        assert missed == round((gap.to_ns - gap.from_ns) / 2e7) >= 3


async def test_a_source_without_tags_ends(make_adapter: MakeAdapter) -> None:
    """A source that no tag names has nothing to read."""
    async with server_of({}, []) as server:
        adapter = make_adapter(server.port, [])
        await adapter.connect()
        with pytest.raises(EndOfInput):
            await adapter.read()


def test_a_wrong_tag_is_a_configuration_error(make_tag: MakeTag, make_adapter: MakeAdapter) -> None:
    """An adapter is not made over a tag that it cannot read."""
    with pytest.raises(ConfigError, match="A/B/T0"):
        make_adapter(1, [make_tag(0, "401")])


async def test_every_way_to_write_an_address(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Bits, bytes, BCD, arrays and texts, in the words of several systems, come by one request with their values."""
    words = {
        0: 0b1010_0110_0000_1111,
        1: 0x1234,
        2: 0x0012,
        3: 0x3456,
        4: 1,
        5: 2,
        6: 65535,
        7: 0x4142,
        8: 0x4300,
        9: 0x0000,
        10: 0x4148,
        11: 0x12AB,
    }
    points = [RegisterPoint(f"r{i}", "holding", i, "uint16") for i in words]
    want: dict[str, tuple[str | None, Any]] = {
        "HR1.0": (None, 1),
        "HR1.0-3": (None, 15),
        "40001.9-15": ("int16", -45),
        "HR1.L": ("uint8", 15),
        "HR1.H": ("int8", -90),
        "HRBCD2": (None, 1234),
        "[Dev]1.HRBCD_323": (None, 123456),
        "HR5[3]": ("uint16", [1, 2, 65535]),
        "400005 [3]": ("int16", [1, 2, -1]),
        "HRS8:4": (None, "ABC"),
        "400008.4L": (None, "BA\ufffdC"),
        "1!40010#LB": ("float32", 12.5),
        "HRF10": (None, 12.5),
        "HR8": ("bytes[3]", b"ABC"),
        "HR12": ("bcd16", None),
    }
    tags = [make_tag(i, address, type_, byte_order="CDAB") for i, (address, (type_, _)) in enumerate(want.items())]
    tags[6] = tags[6].model_copy(update={"byte_order": "ABCD"})
    async with server_of({f"r{i}": word for i, word in words.items()}, points) as server:
        adapter = make_adapter(server.port, tags)
        await adapter.connect()
        rows = {row.tag: row for row in (await take(adapter)).rows()}
        for i, (address, (_, value)) in enumerate(want.items()):
            if value is None:
                assert rows[i].status == status.BAD_DECODING_ERROR, address
                assert math.isnan(float(rows[i].value))  # type: ignore[arg-type]
            else:
                assert (rows[i].status, rows[i].value) == (status.GOOD, value), address
        assert bool(rows[10].flags & Flag.DECODE_LOSS)
        assert server.requests == {3: 1}


async def test_times_follow_our_clock_back(make_tag: MakeTag, make_adapter: MakeAdapter, take: Take) -> None:
    """Polls of a source whose host's clock was set back by an hour bear the new time: flagged once, and counted."""
    back_ns = 0

    def clock() -> int:
        return time.time_ns() - back_ns

    points = [RegisterPoint("a", "holding", 0, "uint16", "ABCD")]
    async with server_of({"a": 1}, points) as server:
        adapter = make_adapter(server.port, [make_tag(0, "40001")], now_ns=clock)
        await adapter.connect()
        first = await take(adapter)
        back_ns = 3600 * 10**9
        second, third = await take(adapter), await take(adapter)
    step = int(first.source_ns[0]) - int(second.source_ns[0])
    assert 3500 * 10**9 < step < back_ns
    assert third.source_ns[0] > second.source_ns[0]
    assert [bool(batch.flags[0] & Flag.CLOCK_SUSPECT) for batch in (first, second, third)] == [False, True, False]
    assert adapter.counters["clock_steps"] == 1
