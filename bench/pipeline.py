"""
What stands behind the adapter, stage by stage: a journal filled with batches, then the core's pipeline over it.

No adapter, no API, no second process: this is the CPU of the writer thread alone. Bundles are cut as a live stream at
the given rate gives them (``--bundle-ms`` of it a transaction). Each tag wanders by a sine with noise, so that nothing
is cheap because it stands still. Printed: CPU µs a value by stage (exclusive), and the longest transaction.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.stages import Stages
from broker.core.pipeline import Pipeline
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store import Store, StoreOptions, intake, levels, transaction
from broker.store.memory import Memory
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import Entry, JournalReader, Link, MapInForce, Position, Tick
from schemas.samples import SampleBatch
from schemas.status import Flag
from schemas.tagmap import Tag, TagMap

SECOND = 1_000_000_000
#: The first seconds register tags and fill caches; they are not counted.
WARM_UP_S = 2
T0 = 1_790_000_000 * SECOND
#: Stages in the order of the table.
ORDER = (
    "journal read",
    "normalizer",
    "detectors",
    "tick",
    "insert",
    "roll-ups",
    "stage state",
    "commit",
    "checkpoint",
    "other",
)


class LiveReader:
    """A reader that gives what a live stream would have given in one bundle."""

    def __init__(self, inner: JournalReader, bundle_ns: int) -> None:
        self._inner = inner
        self._bundle_ns = bundle_ns
        self._until_ns = 0
        self._next: list[Entry] = []

    def read(self, after: Position, limit: int = 1000) -> Sequence[Entry]:
        """Entries of the next *bundle_ns* of wall time."""
        found = self._next or list(self._inner.read(after, limit))
        self._next = []
        if not found:
            return []
        self._until_ns = found[0].wall_ns + self._bundle_ns
        while found[-1].wall_ns < self._until_ns:
            more = self._inner.read(found[-1].position, limit)
            if not more:
                return found
            found += more
        inside = [entry for entry in found if entry.wall_ns < self._until_ns]
        self._next = found[len(inside) :]
        return inside

    def done(self, position: Position) -> None:
        """Publish the restart position."""
        self._inner.done(position)


def site(tags: int, scan_ms: int, sources: int) -> TagMap:
    """*tags* float tags on 20 lines of *sources* sources; every second one with a range, every tenth scaled."""
    return TagMap(
        site="Bench/Site",
        tags=tuple(
            Tag(
                number=i,
                id=f"t-{i}",
                path=f"Bench/Site/Area/Line{i % 20}/v{i}",
                source=f"plc{i * sources // tags}",
                address=str(i),
                type="float32",
                scan_ms=scan_ms,
                unit="1",
                range=(-1000.0, 1000.0) if i % 2 else None,
                factor=0.1 if i % 10 == 0 else 1.0,
            )
            for i in range(tags)
        ),
    )


def fill(folder: Path, tag_map: TagMap, rate: int, rows: int, seconds: float) -> int:
    """Write *seconds* of stream, batches of *rows*, a tick each second; the number of values."""
    count = len(tag_map.tags)
    now = [T0]
    # the whole stream waits in memory for the disk at times, but a bench may take its time
    writer = JournalWriter(folder, JournalOptions(), now_ns=lambda: now[0], mono_ns=lambda: now[0])
    writer.open()
    writer.append(MapInForce(tag_map.revision, tag_map.body)).result()
    source_of = np.array([int(tag.source[3:]) for tag in tag_map.tags])
    for name in sorted({tag.source for tag in tag_map.tags}):
        writer.append(Link(name, True))
    chance = np.random.default_rng(7)
    noise = chance.normal(size=1 << 16)
    level = chance.uniform(-200, 200, count)
    period = chance.uniform(20, 200, count)
    waiting = []
    total = turn = 0
    next_tick = T0 + SECOND
    place = 0
    while total < rate * seconds:
        stop = min(place + rows, count)
        edge = int(np.searchsorted(source_of[place:stop], source_of[place], side="right"))
        numbers = np.arange(place, place + edge, dtype=np.int32)
        now[0] = T0 + total * SECOND // rate
        while now[0] >= next_tick:
            now[0], later = next_tick, now[0]
            writer.append(Tick())
            now[0], next_tick = later, next_tick + SECOND
        seconds_in = (now[0] - T0) / 1e9
        value = level[numbers] + 5 * np.sin(seconds_in / period[numbers])
        value += noise[(numbers * 31 + turn * 977) & 0xFFFF]
        batch = SampleBatch.build(
            f"plc{source_of[place]}",
            tag_map.revision,
            now[0],
            tag=numbers,
            source_ns=now[0] + np.arange(len(numbers)),
            value=value,
            flags=np.full(len(numbers), int(Flag.ARRIVAL_TIME), np.uint32),
        )
        waiting.append(writer.append(batch))
        total += len(numbers)
        place += edge
        if place == count:
            place, turn = 0, turn + 1
    writer.append(Tick())
    for future in waiting:
        future.result(120)
    writer.close()
    return total


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Fill, run, print one row."""
    tag_map = site(arguments.tags, max(1, round(arguments.tags / arguments.rate * 1000)), arguments.sources)
    journal_folder = folder / "journal"
    fill(journal_folder, tag_map, arguments.rate, arguments.batch, arguments.seconds)
    store = Store.open(StoreOptions(url=arguments.store), folder, write=True)
    store.upgrade()
    reader = LiveReader(JournalFiles(journal_folder), round(arguments.bundle_ms * 1e6))
    options = DetectionOptions(clean_window=f"{arguments.clean_window}s")
    pipeline = Pipeline(store, reader, Normalizer(NormalizerOptions()), Detection(options))
    stages = Stages()
    dialect = store._write.dialect  # type: ignore[union-attr]
    places = [
        (LiveReader, "read", "journal read"),
        (Normalizer, "step", "normalizer"),
        (Normalizer, "join", "normalizer"),
        (Detection, "records", "detectors"),
        (Detection, "tick", "tick"),
        (transaction.Transaction, "records", "insert"),
        (intake.Intake, "write", "insert"),
        (levels.Level, "add", "roll-ups"),
        (levels.Level, "write", "roll-ups"),
        (Memory, "note_newest", "roll-ups"),
        (transaction.Transaction, "save_stage", "stage state"),
        (Normalizer, "state", "stage state"),
        (Detection, "state", "stage state"),
        (dialect, "do_commit", "commit"),
        (Store, "maintain", "checkpoint"),
    ]
    longest: list[float] = []
    profile = cProfile.Profile()
    with stages.of(places):
        pipeline.restore()
        run = stages.wrap("other", pipeline.run_once)
        while pipeline.wall_ns < T0 + WARM_UP_S * SECOND:
            run()
        stages.spent.clear()
        before = store.reader().counts().records
        begun, used = time.perf_counter(), time.process_time()
        if arguments.profile:
            profile.enable()
        while True:
            at = time.perf_counter()
            if not run():
                break
            longest.append(time.perf_counter() - at)
        profile.disable()
        took, used = time.perf_counter() - begun, time.process_time() - used
    stored = store.reader().counts().records
    store.close()
    size = sum(file.stat().st_size for file in folder.glob("store.db*"))
    total = stored - before
    figures = " | ".join(f"{stages.spent[stage] / total * 1e6:.3f}" for stage in ORDER)
    times = np.array(longest) * 1000
    print(
        f"| {arguments.tags} | {arguments.rate} | {arguments.batch} | {figures} | **{used / total * 1e6:.2f}** "
        f"| {np.percentile(times, 50):.0f} / {np.percentile(times, 99):.0f} / {times.max():.0f} "
        f"| {total / took:.0f} | {size / stored:.0f} |",
        flush=True,
    )
    if arguments.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(arguments.profile)


def main(argv: Sequence[str]) -> int:
    """``python -m bench pipeline``."""
    parser = argparse.ArgumentParser(prog="python -m bench pipeline", description=__doc__)
    parser.add_argument("--tags", type=int, default=10_000, help="tags (default 10000)")
    parser.add_argument("--sources", type=int, default=1, help="sources they come from (default 1)")
    parser.add_argument("--rate", type=int, default=100_000, help="values a second of journal time (default 100000)")
    parser.add_argument("--batch", type=int, default=1000, help="rows of one batch (default 1000)")
    parser.add_argument("--bundle-ms", type=float, default=50.0, help="journal time of one transaction (default 50)")
    parser.add_argument("--seconds", type=float, default=20.0, help="journal time of the stream (default 20)")
    parser.add_argument("--clean-window", type=float, default=600.0, help="learning time of the chart, s (default 600)")
    parser.add_argument("--store", help="database, default SQLite in a temporary folder")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="print the N dearest functions")
    arguments = parser.parse_args(argv)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; CPU µs a value by stage")
    print(
        f"| tags | values/s | batch | {' | '.join(ORDER)} | all | bundle p50/p99/max ms | values/s flat out | B/row |"
    )
    print("|" + "---|" * (len(ORDER) + 7), flush=True)
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", dir=arguments.folder) as folder:
        measure(arguments, Path(folder))
    return 0
