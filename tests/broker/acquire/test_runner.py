"""The one loop: durable before settled, lost once, back once, every outage a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal

import pytest

from adapters.base import SourceOptions
from broker.acquire.gaps import GapLedger
from broker.acquire.runner import AdapterRunner, backoff_s
from broker.journal import JournalWriter
from schemas.entries import Entry, Link
from schemas.errors import ConfigError, JournalError, NotConnected, OtherDevice
from schemas.samples import Gap, GapCause, Reject, SampleBatch
from tests.broker.acquire.scripted import REVISION, Plant, end, story

Read = Callable[[], list[Entry]]
Eventually = Callable[..., Awaitable[None]]


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_settles_only_what_is_durable(run: Callable[..., AdapterRunner], read: Read) -> None:
    """When a delivery is settled, a reader in another process can already read its batch."""
    plant = Plant(*range(50), end())
    seen: list[bool] = []
    plant.on_settle = lambda number: seen.append(f"batch {number}" in story(read()))

    await run(plant).run()

    assert seen == [True] * 50
    assert plant.settled == [(number, "") for number in range(50)]


async def test_a_lost_link_is_one_gap(run: Callable[..., AdapterRunner], read: Read) -> None:
    """Lost is said once however many attempts fail; the gap reaches from the last batch to the first one after it."""
    plant = Plant(1, NotConnected("cut"), NotConnected("cut again"), NotConnected("and again"), 2, end())

    await run(plant).run()

    assert story(read()) == [
        "batch 1",
        "up",
        "down",
        "gap link_down open",
        "batch 2",
        "up",
        "gap link_down closed",
        "down",
    ]
    bodies = [entry.body for entry in read()]
    batches = [body for body in bodies if isinstance(body, SampleBatch)]
    gap = next(body for body in bodies if isinstance(body, Gap) and body.to_ns is not None)
    assert (gap.from_ns, gap.to_ns) == (batches[0].received_ns, batches[1].received_ns)
    assert next(body for body in bodies if isinstance(body, Link) and not body.up).reason == "cut"
    assert (plant.connects, plant.built, plant.closed) == (4, 1, 1)


@pytest.mark.parametrize("continuity", ["kept", "lost"])
async def test_another_device_is_a_gap_of_its_own(
    run: Callable[..., AdapterRunner], read: Read, continuity: Literal["kept", "lost"]
) -> None:
    """The outage has two gaps, of the line and of the device, end to end, however often the line goes meanwhile."""
    other, cut = OtherDevice("another device answers"), NotConnected("cut")
    plant = Plant(1, cut, other, other, cut, other, 2, end())
    plant.continuity = continuity

    await run(plant).run()

    assert story(read())[2:] == [
        "down",
        "gap link_down open",
        "gap link_down closed",
        "gap device_changed open",
        "batch 2",
        "up",
        "gap device_changed closed",
        *(["gap link_down closed"] if continuity == "kept" else []),
        "down",
    ]
    gaps = [entry.body for entry in read() if isinstance(entry.body, Gap)]
    assert gaps[1].to_ns == gaps[2].from_ns
    assert gaps[2].detail == "another device answers"
    assert {gap.backfilled for gap in gaps[4:]} == ({True} if continuity == "kept" else set())
    assert gaps[3].backfilled == (continuity == "kept")


async def test_another_device_at_once(run: Callable[..., AdapterRunner], read: Read) -> None:
    """Where the device is told with the loss, there is one gap, with that cause."""
    await run(Plant(1, OtherDevice("x"), NotConnected("cut"), 2, end())).run()
    assert [word for word in story(read()) if word.startswith("gap")] == [
        "gap device_changed open",
        "gap device_changed closed",
    ]


async def test_an_outage_behind_a_clock_that_was_set_back_has_its_length(
    run: Callable[..., AdapterRunner], read: Read, eventually: Eventually
) -> None:
    """Start and last batch lie an hour ahead then: the gap begins at the loss by the new clock, not in the future."""
    plant = Plant(1)
    runner = run(plant)
    task = asyncio.create_task(runner.run())
    await eventually(lambda: plant.settled)
    plant.now -= 3600 * 10**9
    lost_ns = plant.now
    plant.steps += [NotConnected("cut"), 2]
    plant.wake.set()
    await eventually(lambda: "gap link_down closed" in story(read()))
    await cancel(task)
    gap = next(entry.body for entry in read() if isinstance(entry.body, Gap) and entry.body.to_ns is not None)
    assert gap.to_ns is not None
    assert lost_ns <= gap.from_ns < gap.to_ns < lost_ns + 10**9


async def test_peer_down_at_start(run: Callable[..., AdapterRunner], read: Read) -> None:
    """A peer that is not there at the start is a gap from the start, closed by the first batch."""
    plant = Plant(1, end(), refuse_connect=3)

    await run(plant).run()

    assert story(read())[:5] == ["down", "gap link_down open", "batch 1", "up", "gap link_down closed"]
    assert plant.connects == 4


async def test_backoff_grows_until_data_comes(run: Callable[..., AdapterRunner]) -> None:
    """A connection without data does not reset the waiting time; a durable batch does."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    plant = Plant(
        NotConnected("a"), NotConnected("b"), NotConnected("c"), NotConnected("d"), 1, NotConnected("e"), end()
    )

    await run(plant, sleep=sleep).run()

    assert waits == [0.01, 0.02, 0.04, 0.04, 0.01]


async def test_peer_names_the_waiting_time(run: Callable[..., AdapterRunner]) -> None:
    """A time that the peer or the protocol names is used instead of the back-off."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    await run(Plant(NotConnected("busy", retry_after_s=7.0), end()), sleep=sleep).run()

    assert waits == [7.0]


async def test_silence_builds_the_adapter_anew(run: Callable[..., AdapterRunner], read: Read) -> None:
    """A read in which nothing moves is given up, and a new adapter takes over."""
    plant = Plant(1, "silence", 2, end())

    await run(plant).run()

    assert plant.built == 2
    assert plant.closed == 2
    assert "gap link_down closed" in story(read())
    assert plant.settled == [(1, ""), (2, "")]


async def test_a_counter_that_moves_is_a_sign_of_life(
    run: Callable[..., AdapterRunner], eventually: Eventually
) -> None:
    """A quiet source whose keep-alives are counted is left alone for longer than the silence limit."""
    plant = Plant(1, "heartbeat")
    runner = run(plant)
    task = asyncio.create_task(runner.run())

    await eventually(lambda: runner.refresh().counters.get("keep_alive", 0) > 60)
    built = plant.built
    await cancel(task)

    assert built == 1
    assert plant.closed == 1


async def test_an_adapters_bug_is_an_outage(run: Callable[..., AdapterRunner], read: Read) -> None:
    """An exception that an adapter must not raise costs that source a reconnect with a new adapter, no more."""
    plant = Plant(1, ValueError("index out of range"), 2, end())
    runner = run(plant)

    await runner.run()

    assert plant.built == 2
    assert plant.settled == [(1, ""), (2, "")]
    gap = next(entry.body for entry in read() if isinstance(entry.body, Gap))
    assert gap.detail == "index out of range"


async def test_configuration_errors_are_not_retried(run: Callable[..., AdapterRunner]) -> None:
    """What no retry can change ends the runner, and the adapter is closed."""
    plant = Plant(ConfigError("no such certificate"))

    with pytest.raises(ConfigError):
        await run(plant).run()
    assert (plant.connects, plant.closed) == (1, 1)


async def test_gaps_of_the_adapter_pass_through(run: Callable[..., AdapterRunner], read: Read) -> None:
    """A gap that the adapter found is journalled as it is; one it left open is closed when it is replaced."""
    whole = Gap("plc", (3,), 5, 9, GapCause.QUEUE_OVERFLOW)
    opened = Gap("plc", (4,), 7, None, GapCause.SERVER_REFUSED)
    plant = Plant(1, whole, opened, "silence", 2, end())

    await run(plant).run()

    gaps = [entry.body for entry in read() if isinstance(entry.body, Gap) and entry.body.tags]
    assert gaps[:2] == [whole, opened]
    assert gaps[2].tags == (4,)
    assert gaps[2].to_ns is not None


async def test_what_the_history_filled_is_told_of_the_outage_too(journal: JournalWriter, read: Read) -> None:
    """A filled gap of the whole source that holds the outage's begin closes it as backfilled, once; others do not."""
    ledger = GapLedger("plc", REVISION, journal)
    session = Gap("plc", (), 80, 190, GapCause.SESSION_LOST, backfilled=True)
    for filled in (
        replace(session, tags=(3,)),
        replace(session, from_ns=101),
        replace(session, to_ns=99),
    ):
        await ledger.open(GapCause.LINK_DOWN, 100, "cut")
        await ledger.close(200)
        await ledger.report(filled)
    before = [entry.body for entry in read()]
    assert not any(isinstance(body, Gap) and body.cause is GapCause.LINK_DOWN and body.backfilled for body in before)
    await ledger.report(session)
    await ledger.report(session)
    after = [entry.body for entry in read()][len(before) :]
    assert [(gap.cause, gap.from_ns, gap.to_ns, gap.backfilled) for gap in after if isinstance(gap, Gap)] == [
        (GapCause.SESSION_LOST, 80, 190, True),
        (GapCause.LINK_DOWN, 100, 200, True),
        (GapCause.SESSION_LOST, 80, 190, True),
    ]


async def test_rejects_are_journalled_and_settled(run: Callable[..., AdapterRunner], read: Read) -> None:
    """What cannot become a sample is in the journal with its reason, and its delivery is settled."""
    plant = Plant(Reject("plc", "t/1", "no JSON", b"{", 3), end())
    runner = run(plant)

    await runner.run()

    assert story(read()) == ["reject no JSON", "down"]
    assert plant.settled == [(-1, "")]
    assert runner.state.rejects == 1


async def test_a_batch_that_cannot_be_encoded_is_quarantined(run: Callable[..., AdapterRunner], read: Read) -> None:
    """A wrong batch becomes a reject with the reason; it does not block what follows."""
    wrong = SampleBatch.build("plc", REVISION, 1, tag=[1, 2], source_ns=[1], value=[1.0, 2.0])
    plant = Plant(wrong, 2, end())

    await run(plant).run()

    assert [word.split()[0] for word in story(read())] == ["reject", "batch", "up", "down"]
    assert plant.settled == [(-1, ""), (2, "")]


async def test_disabled_source_is_a_gap(run: Callable[..., AdapterRunner], read: Read, options: SourceOptions) -> None:
    """`enabled: false` builds nothing and opens one gap."""
    plant = Plant(1)

    await run(plant, options=options.model_copy(update={"enabled": False})).run()

    assert story(read()) == ["gap disabled open"]
    assert plant.built == 0


async def test_cancelling_leaves_nothing(run: Callable[..., AdapterRunner], read: Read, eventually: Eventually) -> None:
    """A stop settles what is under way, closes the adapter and leaves no task."""
    before = asyncio.all_tasks()
    plant = Plant(*range(20))
    runner = run(plant)
    task = asyncio.create_task(runner.run())
    await eventually(lambda: plant.reads == 21)

    await cancel(task)

    assert len(plant.settled) == 20
    assert plant.closed == 1
    assert runner.state.in_flight == 0
    assert asyncio.all_tasks() == before


def test_backoff_doubles_to_its_limit(options: SourceOptions) -> None:
    """Waiting times double from first to max."""
    waits = backoff_s(options.backoff)

    assert [next(waits) for _ in range(4)] == [0.01, 0.02, 0.04, 0.04]


async def test_closed_journal_ends_the_runner(run: Callable[..., AdapterRunner], journal: JournalWriter) -> None:
    """When the journal is closed for good, the runner ends with its error and does not spin."""
    journal.close()

    with pytest.raises(JournalError):
        await run(Plant(1, 2)).run()
