"""F26: this host's clock jumps while a source runs: order, durability and time-outs do not care, the audit says so."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np

from adapters.base import Backoff, Continuity, SourceOptions
from broker.acquire.process import Source, acquire
from broker.core.pipeline import Pipeline
from broker.journal import JournalFiles, JournalOptions
from broker.store import Store
from broker.store.rows.records import RecordRow
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import START, Notice
from schemas.samples import Delivery, Gap, SampleBatch
from schemas.status import Flag
from schemas.tagmap import Tag, TagMap
from tests.broker.core import stream

S = 1_000_000_000
MAP = TagMap(site="A/B", tags=(Tag(number=0, id="t0", path="A/B/T0", source="plc", address="0"),))
#: +1 h, -1 h, the end of summer time in local clocks (none in UTC), 1970, and back; then NTP's slow steps.
JUMPS = (3600.0, -3600.0, -1_700_000_000.0, 1_700_000_000.0, 1.5, -1.5, 86_400.0 * 400, -86_400.0 * 400)


class Clock:
    """Wall and monotonic time that pass when the test says so."""

    def __init__(self) -> None:
        self.wall = 1_790_000_000 * S
        self.mono = 5 * S

    def now_ns(self) -> int:
        return self.wall

    def mono_ns(self) -> int:
        return self.mono

    def pass_s(self, seconds: float) -> None:
        self.wall += round(seconds * S)
        self.mono += round(seconds * S)


class Feed:
    """An adapter that delivers what it is given; rows bear the time of arrival, like Modbus."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {}
        self.covered_ns: int | None = None
        self.continuity: Continuity = "unknown"
        self.waiting: asyncio.Queue[SampleBatch] = asyncio.Queue()
        self.connects = self.settled = 0

    async def connect(self) -> None:
        self.connects += 1

    async def read(self) -> Delivery | Gap:
        batch = await self.waiting.get()

        async def settle(error: Exception | None) -> None:
            self.settled += error is None

        return Delivery(batch, settle)

    async def close(self) -> None:
        pass


def sample(number: int, at: int) -> SampleBatch:
    flags = np.array([int(Flag.ARRIVAL_TIME)], np.uint32)
    return SampleBatch.build(
        "plc", MAP.revision, at, tag=[0], source_ns=[at + number], value=[float(number)], flags=flags
    )


async def test_a_clock_that_jumps(
    tmp_path: Path,
    eventually: Callable[..., Awaitable[None]],
    scale: Callable[[int, int], int],
    figures: Callable[..., None],
) -> None:
    """Every value is in SQL, once, in the order in which it came; each jump above one second is in the audit, once."""
    clock, rng = Clock(), random.Random(4)
    feed = Feed()
    options = SourceOptions(backoff=Backoff(first="10ms", max="20ms"))  # type: ignore[arg-type]
    stop = asyncio.Event()
    running = asyncio.create_task(
        acquire(
            {"plc": Source(options, lambda: feed)},
            MAP,
            data_dir=tmp_path,
            options=JournalOptions.model_validate({"commit": {"every": "1ms"}}),
            stop=stop,
            now_ns=clock.now_ns,
            mono_ns=clock.mono_ns,
        )
    )
    # slow steps around the true time: between any two of them the clock moves by less than a jump
    offsets = [rng.uniform(-0.4, 0.4) for _ in range(scale(15, 200))]
    steps = [after - before for before, after in pairwise([0.0, *offsets, 0.0])]
    steps += JUMPS[: scale(4, len(JUMPS))] * scale(1, 10)
    sent = told = 0
    await _deliver(feed, clock, 0, eventually)
    for jump in steps:
        clock.wall += round(jump * S)
        if abs(jump) > 1:
            # a tick looks at the clock, once a second of real time; a second that did not pass on it would make each
            # next tick wait for one more
            told += 1
            clock.pass_s(1.0)
            await eventually(lambda told=told: _notices(tmp_path) >= told, 240)  # each look reads the journal
        clock.pass_s(0.2)
        sent += 1
        await _deliver(feed, clock, sent, eventually)
    stop.set()
    await running
    connects, reconnects = feed.connects, feed.connects - 1

    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        pipeline = Pipeline(store, files, Normalizer(NormalizerOptions()), Detection(DetectionOptions()))
        pipeline.restore()
        while pipeline.run_once():
            pass
        values, by_time, jumps = _stored(store)
    lost, doubled = sent + 1 - len(set(values)), len(values) - len(set(values))
    wanted = sum(abs(jump) > 1 for jump in steps)

    assert (lost, doubled) == (0, 0)
    assert values == sorted(values), "seq is not the order of arrival"
    assert by_time != sorted(by_time), "the control: the wall clock gives another order"
    assert connects == 1, "a time-out took the jump for silence"
    assert jumps == wanted, "slow steps are no jump, and each jump is told once"
    figures(
        "F26 this host's clock jumps",
        f"{len(steps)} steps from 0.4 s to 1970 and back, {sent + 1} values",
        lost=lost,
        doubled=doubled,
        wrong=reconnects,
        control="ordered by time of arrival the values are out of order",
    )


async def _deliver(feed: Feed, clock: Clock, number: int, eventually: Callable[..., Awaitable[None]]) -> None:
    feed.waiting.put_nowait(sample(number, clock.wall))
    await eventually(lambda: feed.settled > number, 240)


def _notices(folder: Path) -> int:
    with closing(JournalFiles(folder / "journal")) as reader:
        return sum(isinstance(entry.body, Notice) for entry in reader.read(START, 100_000))


def _stored(store: Store) -> tuple[list[float], list[float], int]:
    """Values in order of ``seq``, and of the time of arrival; and how many jumps the audit has."""
    rows = store.reader().records(after=0, limit=10_000)
    audit = [row for row in store.reader().audit(limit=10_000) if row.action == "clock_jumped"]
    by_time = sorted(rows, key=lambda row: row.received_ns)
    return _values(rows), _values(by_time), len(audit)


def _values(rows: Sequence[RecordRow]) -> list[float]:
    return [row.value for row in rows if row.value is not None]
