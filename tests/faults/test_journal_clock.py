"""F26: this host's clock jumps while a source runs: order, durability and time-outs do not care, the audit says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from adapters.base import Backoff, SourceOptions
from broker.acquire.process import Source, acquire
from broker.core.pipeline import Pipeline
from broker.journal import JournalFiles, JournalOptions
from broker.store import Store
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer, NormalizerOptions
from schemas.samples import SampleBatch
from schemas.status import Flag
from schemas.tagmap import Tag, TagMap
from tests.broker.acquire.scripted import Plant
from tests.broker.core import stream

S = 1_000_000_000
MAP = TagMap(site="A/B", tags=(Tag(number=0, id="t0", path="A/B/T0", source="plc", address="0"),))
#: +1 h, -1 h, the end of summer time in local clocks (none in UTC), 1970, and back; then NTP's slow steps.
JUMPS = (3600.0, -3600.0, 1.5, -1.5, -1_700_000_000.0, 1_700_000_000.0, 86_400.0 * 400, -86_400.0 * 400)
SLEWS = 50


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


class Numbered(Plant):
    """Gives the next number each time it is let go; rows bear the time of arrival, like Modbus."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def now_ns(self) -> int:
        return self._clock.wall


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
    plant = Numbered(clock)
    options = SourceOptions(backoff=Backoff(first="10ms", max="20ms"))  # type: ignore[arg-type]
    stop = asyncio.Event()
    running = asyncio.create_task(
        acquire(
            {"plc": Source(options, plant.build)},
            MAP,
            data_dir=tmp_path,
            options=JournalOptions.model_validate({"commit": {"every": "1ms"}}),
            stop=stop,
            now_ns=clock.now_ns,
            mono_ns=clock.mono_ns,
        )
    )
    steps: list[float] = [rng.uniform(-0.4, 0.4) for _ in range(SLEWS)] + list(JUMPS) * scale(1, 10)
    sent = 0
    await _deliver(plant, clock, 0, eventually)
    for jump in steps:
        clock.wall += round(jump * S)
        # a tick looks at the clock; one each second of real time
        seen = _ticks(tmp_path)
        if abs(jump) > 1:
            await eventually(lambda seen=seen: _ticks(tmp_path) >= seen + 2, 30)
        clock.pass_s(0.2)
        sent += 1
        await _deliver(plant, clock, sent, eventually)
    stop.set()
    await running
    connects, reconnects = plant.connects, plant.connects - 1

    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        pipeline = Pipeline(store, files, Normalizer(NormalizerOptions()), Detection(DetectionOptions()))
        pipeline.restore()
        while pipeline.run_once():
            pass
        values, jumps = _stored(store)
    lost, doubled = sent + 1 - len(set(values)), len(values) - len(set(values))
    wanted = sum(abs(jump) > 1 for jump in steps)

    assert (lost, doubled) == (0, 0)
    assert values == sorted(values), "seq is not the order of arrival"
    assert connects == 1, "a time-out took the jump for silence"
    assert wanted <= jumps <= wanted + 2, "slow steps may add up to one jump more"
    figures(
        "F26 this host's clock jumps",
        f"{len(steps)} steps from 0.4 s to 1970 and back, {sent + 1} values",
        lost=lost,
        doubled=doubled,
        wrong=reconnects,
        control="order by arrival time is another one than by seq",
    )
    assert [row for row in values if row] != sorted(values, reverse=True)


async def _deliver(plant: Numbered, clock: Clock, number: int, eventually: Callable[..., Awaitable[None]]) -> None:
    plant.steps.append(sample(number, clock.wall))
    # what hangs in read looks for the next step when it is asked again: let it go by a heartbeat
    await eventually(lambda: len(plant.settled) > number, 30)


def _ticks(folder: Path) -> int:
    reader = JournalFiles(folder / "journal")
    try:
        return sum(type(entry.body).__name__ == "Tick" for entry in reader.read((0, 0), 100_000))  # type: ignore[arg-type]
    finally:
        reader.close()


def _stored(store: Store) -> tuple[list[float], int]:
    rows = store.reader().records(after=0, limit=10_000)
    audit = [row for row in store.reader().audit(limit=10_000) if row.action == "clock_jumped"]
    return [row.value for row in rows if row.value is not None], len(audit)
