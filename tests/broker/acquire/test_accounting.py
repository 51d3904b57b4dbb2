"""Every row that came is accounted for, and every hole of a source has its gap row, whatever happens in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker import events
from broker.acquire.runner import AdapterRunner
from broker.acquire.session import Session
from schemas.alarms import Event
from schemas.entries import Entry
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause, Reject, SampleBatch
from tests.broker.acquire.scripted import REVISION, Plant, end, story

Read = Callable[[], list[Entry]]


def too_deep(number: int) -> SampleBatch:
    """Two rows, one of which cannot be journalled."""
    value: list[object] = []
    for _ in range(50):
        value = [value]
    return SampleBatch.build("plc", REVISION, number, tag=[1, 2], source_ns=[1, 2], value=[1.0, 2.0], exact={0: value})


async def test_every_row_is_accounted_for(run: Callable[..., AdapterRunner]) -> None:
    """Samples, rejects, a batch of which a part is refused: received is what was journalled, kept or acknowledged."""
    reject = Reject("plc", "a", "b", b"", 1)
    plant = Plant(1, 2, reject, too_deep(3), NotConnected("cut"), 4, end())
    runner = run(plant)
    await runner.run()
    state = runner.state
    assert (state.received, state.samples, state.unusable, state.refused, state.waiting) == (6, 4, 2, 0, 0)
    assert state.acknowledged == 6
    assert state.check() == {}


async def test_events_are_journalled_accounted_for_and_prove_that_the_source_is_back(
    run: Callable[..., AdapterRunner], read: Read
) -> None:
    """An event is a sign of life like a sample; one that cannot be journalled is a quarantine row."""
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    event = Event("plc", "i=2253", "", b"1", "i=2041", "", "", "", 1, None, 2, 500, "hot")
    plant = Plant(event, replace(event, fields={"Deep": deep}), end())
    runner = run(plant)
    await runner.run()
    words = [word.split(":")[0] for word in story(read())]
    assert words[0] == "event hot"
    assert "up" in words
    assert any(word.startswith("reject field Deep") for word in words)
    state = runner.state
    assert (state.received, state.events, state.samples, state.unusable, state.acknowledged) == (2, 1, 0, 1, 2)
    assert state.check() == {}
    assert state.as_json()["events"] == 1
    assert plant.settled == [(-1, ""), (-1, "")]


async def test_control_a_row_that_is_forgotten_is_told_once(
    run: Callable[..., AdapterRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: a session that does not account for a delivery violates both, in event and metric."""
    monkeypatch.setattr(Session, "_account", lambda self, pending, durable: None)
    before = {n: events.ACQUIRE_VIOLATIONS.labels(n)._value.get() for n in ("received", "acknowledged")}
    plant = Plant(1, end())
    runner = run(plant)
    await runner.run()
    runner.state.waiting = 0
    runner.refresh()
    runner.refresh()
    after = {n: events.ACQUIRE_VIOLATIONS.labels(n)._value.get() - before[n] for n in before}
    assert after == {"received": 1, "acknowledged": 1}


@pytest.mark.parametrize("seed", range(3))
async def test_the_sum_of_the_gaps_covers_every_hole(run: Callable[..., AdapterRunner], read: Read, seed: int) -> None:
    """Random losses of the link and bugs of the adapter: between two batches lies a gap, or nothing is missing."""
    rng = random.Random(seed)
    steps: list[object] = []
    lost: set[int] = set()
    for number in range(60):
        steps.append(number)
        if rng.random() < 0.4:
            lost.add(number)
            steps += [NotConnected("cut") for _ in range(rng.randint(1, 3))]
            steps += [RuntimeError("a bug")] if rng.random() < 0.1 else []
    plant = Plant(*steps, 60, end())
    await run(plant).run()
    bodies = [entry.body for entry in read()]
    times = {int(body.value[0]): body.received_ns for body in bodies if isinstance(body, SampleBatch)}
    closed = [body for body in bodies if isinstance(body, Gap) and body.to_ns is not None]
    holes = [(times[number], times[number + 1]) for number in sorted(lost)]

    assert [(gap.from_ns, gap.to_ns) for gap in closed] == holes
    assert all(gap.cause is GapCause.LINK_DOWN and not gap.tags for gap in closed)
    assert sum(gap.to_ns - gap.from_ns for gap in closed if gap.to_ns) == sum(high - low for low, high in holes)
