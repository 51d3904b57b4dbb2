"""F5: what was settled, and what a reader was given, survives a power loss at any operation of the disk."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.journal import JournalFiles, JournalOptions
from broker.journal.log import Item, JournalLog
from schemas.entries import START, Entry, Position, Tick
from schemas.errors import JournalError
from schemas.samples import Gap, SampleBatch
from tests.broker.journal.conftest import batch, clock, small
from tests.broker.journal.simulated_disk import PowerLoss, SimulatedDisk

FOLDER = Path("/journal")
MakeBatch = Callable[[int, int], SampleBatch]
Clock = Callable[[], int]

__all__ = ["batch", "clock", "small"]


class Run:
    """One life of a writer and a reader on a disk, remembering what they were told."""

    def __init__(self, options: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
        self.options, self.clock, self.batch = options, clock, batch
        self.settled: dict[Position, str] = {}
        self.handed_out: dict[Position, str] = {}
        self.number = 0

    def live(self, disk: SimulatedDisk, rng: random.Random) -> None:
        log = JournalLog(FOLDER, self.options, disk=disk, now_ns=self.clock, mono_ns=self.clock)
        log.open()
        reader = JournalFiles(FOLDER, disk=disk)
        after = max(self.handed_out, default=START)
        for _ in range(rng.randint(3, 12)):
            names, items = [], []
            for _ in range(rng.randint(1, 4)):
                self.number += 1
                tick = rng.random() < 0.3
                body = Tick() if tick else self.batch(self.number, rng.randint(1, 12))
                names.append("tick" if tick else f"n{self.number}")
                items.append(Item.of(body, self.clock(), self.clock()))
            for place, name in zip(log.commit(items), names, strict=True):
                if isinstance(place, Position):
                    self.settled[place] = name
            for entry in reader.read(after, 50):
                self.handed_out[entry.position] = label(entry)
                after = entry.position
            if rng.random() < 0.2:
                reader.done(after)
                log.trim()

    def check(self, disk: SimulatedDisk) -> list[str]:
        """What is wrong with what a new start makes of the disk."""
        log = JournalLog(FOLDER, self.options, disk=disk, now_ns=self.clock, mono_ns=self.clock)
        log.open()
        assert all(isinstance(place, Position) for place in log.commit([Item.of(Tick(), 1, 1)]))
        published = log.published()
        found: dict[Position, str] = {}
        faults = []
        for entry in JournalFiles(FOLDER, disk=disk).read(START, 100_000):
            if isinstance(entry.body, Gap) and entry.position >= published:
                faults.append(f"gap at {entry.position}: {entry.body.detail}")
            if entry.position in found:
                faults.append(f"{entry.position} twice")
            found[entry.position] = label(entry)
        for told in (self.settled, self.handed_out):
            faults += [f"{p} {n} lost" for p, n in told.items() if p > published and found.get(p, "nothing") != n]
        return faults


def label(entry: Entry) -> str:
    match entry.body:
        case SampleBatch():
            return str(entry.body.exact[0])
        case Tick():
            return "tick"
    return type(entry.body).__name__


def faults_over(
    seeds: range, options: JournalOptions, clock: Clock, batch: MakeBatch, *, ignore_sync: bool
) -> list[str]:
    faults = []
    for seed in seeds:
        rng = random.Random(seed)
        run = Run(options, clock, batch)
        disk = SimulatedDisk(ignore_sync=ignore_sync)
        for _ in range(3):
            disk.stop_at = disk.steps + rng.randint(1, 90)
            try:
                run.live(disk, rng)
            except PowerLoss:
                pass
            except JournalError as error:
                faults.append(f"seed {seed}: {error}")
            ignored = disk.ignore_sync
            disk = disk.after_power_loss(rng)
            disk.ignore_sync = ignored
        faults += [f"seed {seed}: {fault}" for fault in run.check(disk)]
    return faults


def test_settled_entries_survive(
    small: JournalOptions,
    clock: Clock,
    batch: MakeBatch,
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """
    Three power losses at random operations lose nothing that was settled or handed to a reader.

    The negative control is the same run on a disk whose sync does nothing: it finds losses.
    """
    seeds = scale(300, 10_000)
    faults = faults_over(range(seeds), small, clock, batch, ignore_sync=False)
    control = faults_over(range(100), small, clock, batch, ignore_sync=True)
    lost = [fault for fault in control if fault.endswith("lost")]

    assert faults == []
    assert lost
    figures(
        "F5 power loss at any operation of the disk",
        f"{seeds} seeds, three losses each",
        lost=len(faults),
        doubled=sum("twice" in fault for fault in faults),
        control=f"sync does nothing: {len(lost)} settled entries lost in 100 seeds",
    )


def test_every_operation_of_a_small_run(small: JournalOptions, clock: Clock, batch: MakeBatch) -> None:
    """Power loss at each single operation of one run, first to last, loses nothing."""
    disk = SimulatedDisk()
    Run(small, clock, batch).live(disk, random.Random(7))
    faults = []
    for stop in range(1, disk.steps + 1):
        run, rng = Run(small, clock, batch), random.Random(7)
        broken = SimulatedDisk()
        broken.stop_at = stop
        try:
            run.live(broken, rng)
        except PowerLoss:
            faults += [f"stop {stop}: {fault}" for fault in run.check(broken.after_power_loss(rng))]

    assert faults == []


def test_without_folder_sync_files_are_lost(
    small: JournalOptions, clock: Clock, batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a new segment whose name was not synced takes its settled entries with it."""
    monkeypatch.setattr(SimulatedDisk, "sync_folder", lambda self, path: self.step())

    assert faults_over(range(20), small, clock, batch, ignore_sync=False) != []
