"""Settling: in order, bounded, once, and never for what is not durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from adapters.base import SourceOptions
from broker.acquire.runner import AdapterRunner
from broker.journal import JournalFiles, JournalWriter
from schemas.entries import START, Entry
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause, SampleBatch
from tests.broker.acquire.conftest import OPTIONS
from tests.broker.acquire.scripted import REVISION, Plant, end, story
from tests.broker.journal.simulated_disk import SimulatedDisk

Read = Callable[[], list[Entry]]
Eventually = Callable[..., Awaitable[None]]


async def test_many_are_under_way_but_not_too_many(
    run: Callable[..., AdapterRunner], monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """Reading goes on while commits are under way, up to the bound; settles keep the order."""
    monkeypatch.setattr("broker.acquire.session.MAX_UNSETTLED", 8)
    plant = Plant(*range(200), end())
    most = 0

    def look(number: int) -> None:
        nonlocal most
        most = max(most, plant.reads - len(plant.settled))

    plant.on_settle = look

    await run(plant).run()

    assert [number for number, _ in plant.settled] == list(range(200))
    assert 2 < most <= 8 + 3


@pytest.mark.parametrize("full", ["full", "failing"])
async def test_a_journal_that_refuses_is_not_acknowledged(
    full: str, options: SourceOptions, eventually: Eventually
) -> None:
    """While the disk is full or fails, deliveries are refused, peers left alone, and the hole has its cause."""
    disk = SimulatedDisk(capacity=3_000 if full == "full" else 1 << 40)
    journal = JournalWriter(Path("/j"), OPTIONS, disk=disk)
    journal.open()
    plant = Plant(*range(400))
    plant.redeliver = True

    def break_the_disk(number: int) -> None:
        if full == "failing" and number == 100 and not disk.fail_syncs:
            disk.fail_syncs = set(range(disk.syncs + 1, disk.syncs + 10_000))

    plant.on_settle = break_the_disk
    waits = 0

    async def sleep(seconds: float) -> None:
        nonlocal waits
        waits += 1
        if waits > 3:
            disk.capacity = 1 << 20
            disk.fail_syncs = {-1}
        await asyncio.sleep(0.002)  # a back-off, in short

    runner = AdapterRunner(
        "plc", plant.build, options, journal, map_revision=REVISION, now_ns=plant.now_ns, sleep=sleep
    )
    task = asyncio.create_task(runner.run())
    await eventually(lambda: {number for number, error in plant.settled if not error} == set(range(400)))
    await eventually(lambda: runner.state.condition == "active")
    task.cancel()
    await asyncio.wait([task])
    journal.close()

    entries = list(JournalFiles(Path("/j"), disk=disk).read(START, 100_000))
    refused = [number for number, error in plant.settled if error]
    settled = [number for number, error in plant.settled if not error]
    assert refused
    assert {error for _, error in plant.settled if error} <= {"JournalFull", "JournalError", "NotConnected"}
    in_journal = {int(entry.body.value[0]) for entry in entries if isinstance(entry.body, SampleBatch)}
    assert set(settled) <= in_journal
    gaps = [entry.body for entry in entries if isinstance(entry.body, Gap)]
    assert {gap.cause for gap in gaps} == {GapCause.DISK_BUDGET}
    assert gaps[-1].to_ns is not None


async def test_a_settle_that_hangs_does_not_hold_up_the_end(
    run: Callable[..., AdapterRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that never takes its acknowledgement costs a bounded time, and every delivery is settled once."""
    monkeypatch.setattr("broker.acquire.session.SETTLE_S", 0.02)
    plant = Plant(1, 2, 3, end())
    plant.hang = True
    calls: list[int] = []
    plant.on_settle = calls.append

    await run(plant).run()

    assert sorted(calls) == [1, 2, 3]
    assert plant.closed == 1


async def test_a_settle_that_fails_loses_the_link(run: Callable[..., AdapterRunner], read: Read) -> None:
    """An acknowledgement that cannot be sent means that the connection is gone: reconnect, and the peer sends again."""
    plant = Plant(1, "silence", 2, end())

    def broken(number: int) -> None:
        if number == 1:
            raise NotConnected("the acknowledgement could not be sent")

    plant.on_settle = broken

    await run(plant).run()

    assert plant.settled == [(2, "")]
    assert "down" in story(read())


async def test_the_end_waits_for_what_was_refused(options: SourceOptions) -> None:
    """A source has not ended while the journal has refused its last batches: it is read again."""
    disk = SimulatedDisk()
    journal = JournalWriter(Path("/j"), OPTIONS, disk=disk)
    journal.open()
    plant = Plant(1, end(), 1, end())
    disk.fail_syncs = set(range(disk.syncs + 1, disk.syncs + 5))

    runner = AdapterRunner("plc", plant.build, options, journal, map_revision=REVISION, now_ns=plant.now_ns)
    await runner.run()
    journal.close()

    assert plant.settled == [(1, "JournalError"), (1, "")]
    assert runner.state.condition == "ended"
