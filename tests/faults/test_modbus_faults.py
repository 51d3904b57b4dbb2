"""Modbus under faults: killed brokers, stopped peers, late and garbled replies. No wrong value may come through."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from adapters.base import AdapterContext
from adapters.modbus import ModbusAdapter, ModbusOptions
from adapters.modbus.frames import crc
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import Delivery
from schemas.tagmap import Tag
from simulators.modbus_server import ModbusServer, RegisterPoint
from tests.adapters.modbus.scripted import frame, registers, serving
from tests.e2e.processes import Broker
from tests.patient_loop import PatientLoop

Eventually = Callable[..., Awaitable[None]]
Scale = Callable[[Any, Any], Any]
SCAN_NS = 50 * 10**6


def make(folder: Path, port: int, addresses: Sequence[int], **options: Any) -> ModbusAdapter:
    """An adapter that reads each of *addresses* (apart, so that each is a block) every 20 ms."""
    tags = tuple(
        Tag(number=a, id=f"t{a}", path=f"A/B/T{a}", source="plc", address=f"HR{a}", type="uint16", scan_ms=20)
        for a in addresses
    )
    context = AdapterContext("plc", tags, b"m" * 16, time.time_ns, folder, folder)
    defaults = {"host": "127.0.0.1", "port": port, "address_style": "zero_based"}
    return ModbusAdapter(ModbusOptions(**{**defaults, **options}), context)


# F3


def unexplained(
    rows: Sequence[tuple[int, float]], gaps: Sequence[tuple[int, int]], period_ns: int
) -> tuple[int, int, int]:
    """
    Rows against gaps of one tag whose value counts its polls: polls missing outside every gap, values that came twice,
    and rows inside a gap. One period of slack at each end of a gap.
    """
    lost = inside = 0
    for (from_ns, before), (to_ns, after) in pairwise(rows):
        covered = any(g_from - period_ns <= to_ns and from_ns <= g_to + period_ns for g_from, g_to in gaps)
        if after - before > 1 and not covered:
            lost += int(after - before) - 1
        if to_ns - from_ns > 3 * period_ns and not covered:
            lost += 1
    for ns, _ in rows:
        inside += any(g_from + period_ns < ns < g_to - period_ns for g_from, g_to in gaps)
    values = Counter(value for _, value in rows)
    return lost, sum(n - 1 for n in values.values()), inside


@pytest.mark.slow
async def test_f3_kill_during_polling(
    tmp_path: Path, free_port: Callable[[], int], eventually: Eventually, scale: Scale, figures: Callable[..., None]
) -> None:
    """
    Killed while polling, the broker leaves a gap over exactly the time without polls, to a poll at each end, and never
    gives an old value again.
    """
    kills = scale(3, 50)
    polls = 0

    def signals() -> dict[str, float]:
        nonlocal polls
        polls += 1
        return {"n": polls}

    recovery = 0.0
    async with ModbusServer(signals, [RegisterPoint("n", "holding", 0, "uint32")]) as plc:
        source = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "scan": "50ms", "byte_order": "ABCD"}
        tag = {"path": "Acme/Lyon/Line1/N", "source": "plc", "address": "40001", "type": "uint32", "unit": "1"}
        broker = Broker(tmp_path, {"plc": source}, [tag], port=free_port())
        count = "SELECT count(*) FROM records"
        try:
            broker.start("acquire", "core")
            for n in range(kills + 1):
                before = (broker.rows(count) or [(0,)])[0][0]
                await eventually(lambda before=before: (broker.rows(count) or [(0,)])[0][0] > before + 10, 240)
                if n < kills:
                    broker.kill("acquire")
                    begun = time.monotonic()
                    broker.start("acquire")
                    # rows of before the kill may still be on their way: what counts is that the new process was heard
                    closed = "SELECT count(*) FROM gaps WHERE cause = 'not_running' AND to_ns IS NOT NULL"
                    await eventually(lambda n=n, closed=closed: broker.count(closed) == n + 1, 240)
                    recovery = max(recovery, time.monotonic() - begun)
            gaps = broker.rows("SELECT from_ns, to_ns FROM gaps WHERE to_ns IS NOT NULL ORDER BY from_ns")
            down = broker.rows("SELECT from_ns, to_ns FROM gaps WHERE cause = 'not_running' ORDER BY from_ns")
            rows = broker.rows("SELECT source_ts, value FROM records ORDER BY seq")
        finally:
            broker.stop()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PatientLoop)
    stood_ns = round(1e9 * loop.stood_s)
    assert len(down) == kills
    lost, doubled, inside = unexplained(rows, gaps, SCAN_NS)
    assert (lost, doubled, inside) == (0, 0, 0)
    for from_ns, to_ns in down:  # from the last row before the kill to the first one after it
        last = max(ns for ns, _ in rows if ns <= from_ns + SCAN_NS)
        first = min(ns for ns, _ in rows if ns >= to_ns - SCAN_NS)
        assert abs(from_ns - last) <= SCAN_NS + stood_ns
        assert abs(first - to_ns) <= 4 * SCAN_NS + stood_ns  # a poll, and three for a busy machine

    # control: a broker that writes the last value again at each scan, instead of a gap
    (from_ns, to_ns) = down[0]
    held = max((ns, value) for ns, value in rows if ns <= from_ns + SCAN_NS)
    filled = sorted([*rows, *((ns, held[1]) for ns in range(from_ns + 2 * SCAN_NS, to_ns - SCAN_NS, SCAN_NS))])
    _, repeated, made_up = unexplained(filled, gaps, SCAN_NS)
    assert repeated > 0
    assert made_up > 0
    without, _, _ = unexplained(rows, [gap for gap in gaps if gap != down[0]], SCAN_NS)
    assert without > 0
    figures(
        "F3 kill -9, Modbus polling",
        f"{kills} kills, 20 polls/s",
        lost=lost,
        doubled=doubled,
        wrong=inside,
        recovery_s=round(recovery, 1),
        control=f"last value repeated: {repeated} doubled, {made_up} made up",
    )


# F15


@pytest.fixture
def served() -> Any:
    """A Modbus server in a process of its own, with its port."""
    command = [sys.executable, "-m", "bench.modbus_load", "10", "1", "--type", "uint32"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2]
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rsplit(":", 1)[1])
    yield process, port
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)


async def test_f15_stopped_peer(
    served: tuple[subprocess.Popen[str], int], tmp_path: Path, scale: Scale, figures: Callable[..., None]
) -> None:
    """A peer that stops without closing anything is noticed with default options within 10 s, and found again."""
    process, port = served
    adapter = make(tmp_path, port, [0, 10])
    control = AsyncModbusTcpClient("127.0.0.1", port=port)
    noticed, back, loop = 0.0, 0.0, asyncio.get_running_loop()
    for _ in range(scale(1, 5)):
        await adapter.connect()
        await _take(adapter)
        assert await control.connect()
        os.kill(process.pid, signal.SIGSTOP)
        asking = asyncio.ensure_future(control.read_holding_registers(0, count=2))
        begun = loop.time()
        await _lost(adapter)
        noticed = max(noticed, loop.time() - begun)
        assert control.connected, "the library has noticed nothing yet (negative control)"
        assert not asking.done()
        asking.cancel()
        await asyncio.wait([asking])
        control.close()
        os.kill(process.pid, signal.SIGCONT)
        begun = loop.time()
        await adapter.connect()
        while not (await _take(adapter))[1]:
            pass
        back = max(back, loop.time() - begun)
    await adapter.close()
    assert noticed <= 10
    assert back <= 10
    figures(
        "F15 peer stopped (half-open), Modbus",
        "default options",
        wrong=0,
        recovery_s=round(back, 1),
        control=f"noticed after {noticed:.1f} s; the library's client still says connected then",
    )


async def _lost(adapter: ModbusAdapter) -> None:
    """Read until the adapter says that the peer is gone; no good value may come before."""
    with suppress(NotConnected):
        while True:
            assert not (await _take(adapter))[1]


async def _take(adapter: ModbusAdapter) -> tuple[list[tuple[int, float]], int]:
    """The next batch as (tag, value) of the good rows, and how many they are."""
    while True:
        item = await adapter.read()
        if isinstance(item, Delivery):
            await item.settle()
            batch = item.batch
            good = batch.status == status.GOOD
            assert np.isnan(batch.value[~good]).all(), "a bad row carries a number"
            return list(zip(batch.tag[good].tolist(), batch.value[good].tolist(), strict=True)), int(good.sum())


# F24, F25

Asked = tuple[int, int, int, int, int]
#: What to write, after which delay in seconds, for one request.
Misbehave = Callable[[Asked], list[tuple[float, bytes]]]


@asynccontextmanager
async def misbehaving(behave: Misbehave, serial: bool = False) -> AsyncIterator[int]:
    """A server that sends what it owes over the newest connection, as gateways do; gives its port."""
    newest: list[asyncio.StreamWriter] = []
    loop = asyncio.get_running_loop()

    def send(piece: bytes) -> None:
        if not newest[-1].is_closing():
            newest[-1].write(piece)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        newest.append(writer)
        while True:
            if serial:
                u, f, a, n = struct.unpack(">BBHH", (await reader.readexactly(8))[:6])
                t = 0
            else:
                t, _, _, u, f, a, n = struct.unpack(">HHHBBHH", await reader.readexactly(12))
            for delay_s, piece in behave((t, u, f, a, n)):
                if delay_s:
                    loop.call_later(delay_s, send, piece)
                else:
                    writer.write(piece)
                    await writer.drain()

    async with serving(serve) as port:
        yield port


async def polled(adapter: ModbusAdapter, polls: int) -> tuple[int, int, int]:
    """Good rows, wrong ones among them, and rows that were bad, of so many polls."""
    good = wrong = bad = 0
    await adapter.connect()
    for _ in range(polls):
        try:
            rows, _ = await _take(adapter)
        except NotConnected:
            await adapter.connect()
            continue
        good += len(rows)
        bad += len(adapter._texts) - len(rows)
        wrong += sum(value != tag for tag, value in rows)
    return good, wrong, bad


async def unguarded(port: int, addresses: Sequence[int], timeout_s: float, serial: bool = False) -> int:
    """Wrong values that the library alone takes from the same server."""
    framer = FramerType.RTU if serial else FramerType.SOCKET
    client = AsyncModbusTcpClient(
        "127.0.0.1", port=port, framer=framer, timeout=timeout_s, retries=0, reconnect_delay=0
    )
    wrong = 0
    for address in addresses:
        if not client.connected:
            assert await client.connect()
        with suppress(ModbusException):
            reply = await client.read_holding_registers(address, count=1)
            if not reply.isError():
                wrong += reply.registers != [address]
    client.close()
    return wrong


FAR = [100, 200, 300]


@pytest.mark.parametrize("kind", ["id right", "id 0", "serial frames"])
async def test_f24_late_replies(kind: str, tmp_path: Path, scale: Scale, figures: Callable[..., None]) -> None:
    """
    Every third reply comes half a time-out late, over whatever connection stands then, and the next one slowly: no
    value of another place.
    """
    timeout_s = scale(0.12, 0.3)
    asked = 0

    def late(request: Asked) -> list[tuple[float, bytes]]:
        nonlocal asked
        asked += 1
        t, u, f, a, n = request
        pdu = registers(f, a, n)
        if kind == "serial frames":
            body = bytes([u]) + pdu
            reply = body + crc(body)
        else:
            reply = frame(0 if kind == "id 0" else t, u, pdu)
        return [((0.0, 1.5, 0.8)[(asked - 1) % 3] * timeout_s, reply)]

    options: dict[str, Any] = {"timeout": f"{timeout_s * 1000:g}ms", "fail_after": 5}
    if kind == "id 0":
        options["workarounds"] = {"transaction_id_zero": True}
    if kind == "serial frames":
        options["transport"] = "rtu_over_tcp"
    async with misbehaving(late, kind == "serial frames") as port:
        adapter = make(tmp_path, port, FAR, **options)
        good, wrong, bad = await polled(adapter, scale(6, 100))
        await adapter.close()
    assert wrong == 0
    assert good > 0
    assert bad > 0
    control = "with ids the library alone is right, too"
    if kind != "id right":
        asked = 0
        async with misbehaving(late, kind == "serial frames") as port:
            taken = await unguarded(port, FAR * 10, timeout_s, kind == "serial frames")
        assert taken > 0
        control = f"library alone: {taken} wrong of {10 * len(FAR)}"
    figures(f"F24 late replies, {kind}", f"{good + bad} values asked", wrong=wrong, control=control)


def garble(chance: random.Random, request: Asked, alone: bool) -> bytes:
    """One of many ways in which a reply does not fit its request, or fits and says no."""
    t, u, f, a, n = request
    other = a + chance.choice([-1, 1, 100])
    ways: list[Callable[[], bytes]] = [
        lambda: frame(t, u, registers(4, other, n)),
        lambda: frame(t, u, b"\x01\x01\x05"),
        lambda: frame(t, u, b"\x55\x01\x02"),
        lambda: frame(t, u, registers(f, other, n + 1)),
        lambda: frame(t, u, bytes([f, 2 * n - 1]) + registers(f, other, n)[2:-1]),
        lambda: frame(t, u, bytes([f, 2 * n + 2]) + registers(f, other, n)[2:]),
        lambda: frame(t, u, bytes([f, 0])),
        lambda: frame(t, u + 1, registers(f, other, n)),
        lambda: frame(0, u, registers(f, other, n)),
        # with several under way the next id may be another request's own, and no client can tell
        lambda: frame(t + (1 if alone else 1000), u, registers(f, other, n)),
        lambda: struct.pack(">HHHB", t, 1, 2 * n + 3, u) + registers(f, other, n),
        lambda: struct.pack(">HHHB", t, 0, 2 * n + 1, u) + registers(f, other, n),
        lambda: struct.pack(">HHHB", t, 0, 2 * n + 40, u) + registers(f, other, n),
        lambda: frame(t, u, bytes([f | 0x80])),
        lambda: frame(t, u, bytes([f | 0x80, 2, 0])),
        lambda: frame(t, u, bytes([0x84, 2])),
        lambda: frame(t, u, registers(f, a, n)) + chance.randbytes(chance.randint(1, 30)),
        lambda: chance.randbytes(chance.randint(1, 60)),
        *(lambda code=code: frame(t, u, bytes([f | 0x80, code])) for code in range(1, 12)),
    ]
    return chance.choice(ways)()


@pytest.mark.parametrize("in_flight", [1, 4])
async def test_f25_garbled_replies(in_flight: int, tmp_path: Path, scale: Scale, figures: Callable[..., None]) -> None:
    """
    Two replies in three are garbled or exceptions, right ones come in single bytes: no wrong value, and when it stops
    all is well within two polls.
    """
    chance = random.Random(25)
    well = False

    def behave(request: Asked) -> list[tuple[float, bytes]]:
        t, u, f, a, n = request
        if not well and chance.random() < 2 / 3:
            return [(0.0, garble(chance, request, in_flight == 1))]
        return [(0.0, bytes([byte])) for byte in frame(t, u, registers(f, a, n))]

    places = [100 * i for i in range(1, 9)]
    async with misbehaving(behave) as port:
        adapter = make(tmp_path, port, places, timeout="60ms", fail_after=3, in_flight=in_flight)
        good, wrong, bad = await polled(adapter, scale(25, 1000))
        well = True
        took = alive = 0
        while not alive and took < 3:  # the first may still find the broken connection
            took += 1
            with suppress(NotConnected):
                rows, _ = await _take(adapter)
                wrong += sum(value != tag for tag, value in rows)
                alive = len(rows) + adapter.facts["refused"].count("HR") >= len(places)
            if not adapter._connected:
                await adapter.connect()
        doubtful = adapter.counters["doubtful_replies"]
        await adapter.close()
        well = False
        taken = await unguarded(port, places * scale(8, 40), 0.06)
    assert wrong == 0
    assert good > 0
    assert bad > 0
    assert doubtful > 0
    assert alive
    assert taken > 0, "the library alone must take some of these for good (negative control)"
    figures(
        f"F25 garbled replies, {in_flight} in flight",
        f"{good + bad} values asked, {doubtful} doubtful",
        wrong=wrong,
        control=f"library alone: {taken} wrong of {len(places) * scale(8, 40)}",
    )
