"""An adapter that does what a list of steps says, and remembers what was asked of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from adapters.base import Continuity
from schemas.alarms import Event
from schemas.entries import Entry
from schemas.errors import EndOfInput, NotConnected
from schemas.samples import Delivery, Gap, Reject, SampleBatch

REVISION = b"0123456789abcdef"


class Plant:
    """
    Source of every adapter a runner builds: steps are taken in turn, and all of them write into one record.

    A step is an int (a batch with this number), a Gap, an exception to raise, "silence" (read hangs), "heartbeat" (read
    hangs, a counter moves), a Reject, or a whole SampleBatch. After the last step read hangs until ``wake`` is set.
    ``hang``: settling never returns. ``continuity`` is what a connect finds out. ``redeliver``: what was refused comes
    again, as from a peer that waits for its acknowledgement.
    """

    def __init__(self, *steps: object, refuse_connect: int = 0) -> None:
        self.steps = list(steps)
        self.refuse_connect = refuse_connect
        self.built = self.connects = self.closed = self.reads = 0
        self.hang = False
        self.redeliver = False
        self.wake = asyncio.Event()
        self.settled: list[tuple[int, str]] = []
        self.continuity: Continuity = "unknown"
        self.on_settle: Callable[[int], None] = lambda number: None
        self.now = 1_800_000_000 * 10**9

    def now_ns(self) -> int:
        self.now += 1_000_000
        return self.now

    def build(self) -> ScriptedAdapter:
        self.built += 1
        return ScriptedAdapter(self)


class ScriptedAdapter:
    def __init__(self, plant: Plant) -> None:
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {"peer": "scripted"}
        self._plant = plant
        self.continuity: Continuity = "unknown"

    async def connect(self) -> None:
        self._plant.connects += 1
        self.continuity = self._plant.continuity
        if self._plant.refuse_connect > 0:
            self._plant.refuse_connect -= 1
            raise NotConnected("refused; is the plant on?")

    async def read(self) -> Delivery | Gap:
        self._plant.reads += 1
        while not self._plant.steps:
            await self._plant.wake.wait()
            self._plant.wake.clear()
        step = self._plant.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Gap):
            self.continuity = "lost"
            return step
        if step == "silence":
            await asyncio.Event().wait()
        if step == "heartbeat":
            while True:
                self.counters["keep_alive"] += 1
                await asyncio.sleep(0.005)  # the rate of the heartbeats
        assert isinstance(step, int | SampleBatch | Reject | Event)
        return self._deliver(step)

    def _deliver(self, step: int | SampleBatch | Reject | Event) -> Delivery:
        now = self._plant.now_ns()
        number = step if isinstance(step, int) else -1
        empty = SampleBatch.build("plc", REVISION, now, tag=[], source_ns=[], value=[])
        batch = step if isinstance(step, SampleBatch) else empty
        if isinstance(step, int):
            batch = SampleBatch.build("plc", REVISION, now, tag=[1], source_ns=[now], value=[float(step)])

        async def settle(error: Exception | None) -> None:
            self._plant.on_settle(number)
            if self._plant.hang:
                await asyncio.Event().wait()
            self._plant.settled.append((number, "" if error is None else type(error).__name__))
            if error is not None and self._plant.redeliver:
                self._plant.steps.append(number)

        rejects, events = (step,) if isinstance(step, Reject) else (), (step,) if isinstance(step, Event) else ()
        return Delivery(batch, settle, rejects, events)

    async def close(self) -> None:
        self._plant.closed += 1


def story(entries: list[Entry]) -> list[str]:
    """Entries as short words, ticks left out."""
    words = []
    for entry in entries:
        body = entry.body
        match body:
            case SampleBatch():
                words.append(f"batch {body.value[0]:g}")
            case Gap():
                words.append(f"gap {body.cause.value} {'open' if body.to_ns is None else 'closed'}")
            case Event():
                words.append(f"event {body.message}")
            case Reject():
                words.append(f"reject {body.reason}")
            case _:
                if hasattr(body, "up"):
                    words.append("up" if body.up else "down")
    return words


def end() -> EndOfInput:
    return EndOfInput("done")
