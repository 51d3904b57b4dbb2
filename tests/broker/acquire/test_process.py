"""The acquire process: what it writes before the first batch, each second, and at its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import takewhile
from pathlib import Path

import pytest

from adapters.base import Continuity, SourceOptions
from adapters.opcua.config import OpcUaOptions
from broker.account import account
from broker.acquire.gaps import GapLedger
from broker.acquire.process import Source, acquire
from broker.acquire.ticks import tick
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from schemas.entries import START, Entry, Link, MapInForce, Notice, Tick
from schemas.errors import ConfigError, NotConnected
from schemas.samples import Gap, GapCause, SampleBatch
from schemas.tagmap import Tag, TagMap
from tests.broker.acquire.conftest import OPTIONS
from tests.broker.acquire.scripted import REVISION, Plant, end, story

Eventually = Callable[..., Awaitable[None]]
TAGS = TagMap(site="Acme/Lyon", tags=(Tag(number=0, id="a", path="Acme/Lyon/a", source="plc", address="1"),))


def entries(data_dir: Path) -> list[Entry]:
    return list(JournalFiles(data_dir / "journal").read(START, 100_000))


async def run_until(
    data_dir: Path, sources: dict[str, Source], done: Callable[[], object], eventually: Eventually
) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(acquire(sources, TAGS, data_dir=data_dir, options=OPTIONS, stop=stop))
    await eventually(lambda: task.done() or done())
    stop.set()
    await task


async def test_first_run(tmp_path: Path, options: SourceOptions, eventually: Eventually) -> None:
    """The map comes first, then ticks and batches; nothing is claimed about a time before."""
    plant = Plant(1, 2)

    await run_until(tmp_path, {"plc": Source(options, plant.build)}, lambda: len(plant.settled) == 2, eventually)

    bodies = [entry.body for entry in entries(tmp_path)]
    assert bodies[0] == MapInForce(TAGS.revision, TAGS.body, account())
    assert Tick() in bodies
    assert not any(isinstance(body, Gap) for body in bodies)
    assert plant.closed == 1


async def test_what_is_read_without_protection_is_noted_for_the_audit(tmp_path: Path, eventually: Eventually) -> None:
    """At each start, with who accepts it; not of a source that is protected, or switched off."""
    plant = Plant(1)
    open_ = OpcUaOptions(endpoint="opc.tcp://192.0.2.1", security="None", insecure_ack="j.doe test 2999-12-31")
    sources = {
        "plc": Source(open_, plant.build),
        "off": Source(open_.model_copy(update={"enabled": False}), Plant().build),
        "safe": Source(OpcUaOptions(endpoint="opc.tcp://192.0.2.1"), Plant().build),
    }
    await run_until(tmp_path, sources, lambda: len(plant.settled) == 1, eventually)
    said = "plc: opc.tcp://192.0.2.1:4840 with security None is open to anybody on the wire; j.doe accepts it"
    assert [entry.body for entry in entries(tmp_path) if isinstance(entry.body, Notice)] == [
        Notice("insecure_source", f"{said} until 2999-12-31: test")
    ]


async def test_downtime_is_a_gap(tmp_path: Path, options: SourceOptions, eventually: Eventually) -> None:
    """A second run writes a gap for each source, from the last entry before to its own start."""
    plant = Plant(1)
    sources = {"plc": Source(options, plant.build)}
    await run_until(tmp_path, sources, lambda: len(plant.settled) == 1, eventually)
    last = entries(tmp_path)[-1].wall_ns

    plant.steps.append(2)
    await run_until(tmp_path, sources, lambda: len(plant.settled) == 2, eventually)

    (gap,) = [entry.body for entry in entries(tmp_path) if isinstance(entry.body, Gap)]
    assert (gap.source, gap.cause, gap.from_ns) == ("plc", GapCause.NOT_RUNNING, last)
    assert gap.to_ns is not None
    assert gap.to_ns > last
    # told before time passes: a source that was up at the end was heard by nobody meanwhile
    again = [entry.body for entry in entries(tmp_path) if entry.wall_ns > last]
    before_ticks = takewhile(lambda body: not isinstance(body, Tick), again)
    assert not next(body.up for body in before_ticks if isinstance(body, Link))


async def downtime(
    data_dir: Path, plant: Plant, options: SourceOptions, eventually: Eventually, *steps: object
) -> list[Gap]:
    """Two runs; every gap of the second one's downtime as the journal has it. *steps* are the second run's."""
    sources = {"plc": Source(options, plant.build)}
    plant.steps.append(1)
    await run_until(data_dir, sources, lambda: len(plant.settled) == 1, eventually)
    plant.steps += steps
    await run_until(data_dir, sources, lambda: not plant.steps and len(plant.settled) >= 2, eventually)
    bodies = [entry.body for entry in entries(data_dir)]
    return [body for body in bodies if isinstance(body, Gap) and body.cause is GapCause.NOT_RUNNING]


@pytest.mark.parametrize(("continuity", "told"), [("kept", [False, True]), ("lost", [False]), ("unknown", [False])])
async def test_a_downtime_that_the_peer_bridged_is_backfilled(
    tmp_path: Path, options: SourceOptions, eventually: Eventually, continuity: Continuity, told: list[bool]
) -> None:
    """An MQTT session or a server's queue that held everything fills the gap; nothing else claims to."""
    plant = Plant()
    plant.continuity = continuity
    gaps = await downtime(tmp_path, plant, options, eventually, NotConnected("not yet"), 2, NotConnected("cut"), 3)
    assert [gap.backfilled for gap in gaps] == told
    assert len({(gap.from_ns, gap.to_ns) for gap in gaps}) == 1


async def test_a_gap_before_the_first_data_leaves_the_downtime_open(
    tmp_path: Path, options: SourceOptions, eventually: Eventually
) -> None:
    """A peer that said it held everything, and then could not deliver it."""
    plant = Plant()
    plant.continuity = "kept"
    missing = Gap("plc", (3,), 5, 9, GapCause.SEQUENCE_GAP)
    gaps = await downtime(tmp_path, plant, options, eventually, missing, 2)
    assert [gap.backfilled for gap in gaps] == [False]


@pytest.mark.parametrize(
    ("tags", "begin", "end", "told"),
    [
        ((), -5, 5, [False, True]),
        ((), 1, 9, [False]),
        ((3,), -5, 5, [False]),
        ((), -9, -1, [False]),
    ],
)
async def test_what_the_history_filled_is_told_of_the_downtime_too(
    journal: JournalWriter,
    read: Callable[[], list[Entry]],
    tags: tuple[int, ...],
    begin: int,
    end: int,
    told: list[bool],
) -> None:
    """A filled gap of the whole source that reaches over the start of the process, and no other."""
    down = Gap("plc", (), 1000, 2000, GapCause.NOT_RUNNING)
    ledger = GapLedger("plc", REVISION, journal, downtime=down)
    await ledger.record(down)
    for _ in range(2):
        await ledger.report(Gap("plc", tags, 2000 + begin, 2000 + end, GapCause.SESSION_LOST, backfilled=True))
    gaps = [entry.body for entry in read()]
    found = [body for body in gaps if isinstance(body, Gap) and body.cause is GapCause.NOT_RUNNING]
    assert [gap.backfilled for gap in found] == told


async def test_open_gaps_are_closed_by_the_next_run(
    tmp_path: Path, options: SourceOptions, eventually: Eventually
) -> None:
    """A link that was down at the stop: its gap ends with the run, the downtime is the next gap."""
    broken = Plant(refuse_connect=10**6)
    await run_until(
        tmp_path,
        {"plc": Source(options, broken.build)},
        lambda: "gap link_down open" in story(entries(tmp_path)),
        eventually,
    )

    plant = Plant(1)
    await run_until(tmp_path, {"plc": Source(options, plant.build)}, lambda: plant.settled, eventually)

    words = [word for word in story(entries(tmp_path)) if "gap" in word]
    # The second run's segment repeats the open gap at its head, so that a reader can begin there.
    assert words == ["gap link_down open", "gap link_down open", "gap link_down closed", "gap not_running closed"]
    assert len({entry.body for entry in entries(tmp_path) if isinstance(entry.body, Gap)}) == 3


async def test_disabled_across_runs_is_one_gap(tmp_path: Path, options: SourceOptions, eventually: Eventually) -> None:
    """A source that stays disabled keeps its one open gap; enabling it closes the gap."""
    off = {"plc": Source(options.model_copy(update={"enabled": False}), Plant().build)}
    for _ in range(2):
        await run_until(tmp_path, off, lambda: (tmp_path / "acquire.json").exists(), eventually)
    plant = Plant(1)

    await run_until(tmp_path, {"plc": Source(options, plant.build)}, lambda: plant.settled, eventually)

    words = [word for word in story(entries(tmp_path)) if "gap" in word]
    assert words.count("gap disabled closed") == 1
    assert words[-1] == "gap disabled closed"
    gaps = {entry.body for entry in entries(tmp_path) if isinstance(entry.body, Gap) and entry.body.to_ns is None}
    assert len(gaps) == 1


async def test_status_file(tmp_path: Path, options: SourceOptions, eventually: Eventually) -> None:
    """acquire.json names each source's state with its reason, the adapter's counters, and the journal's figures."""
    good, bad = Plant(1, 2, 3), Plant(refuse_connect=10**6)
    sources = {"good": Source(options, good.build), "bad": Source(options, bad.build)}

    await run_until(tmp_path, sources, lambda: len(good.settled) == 3 and bad.connects > 2, eventually)

    status = json.loads((tmp_path / "acquire.json").read_text())
    assert status["sources"]["good"]["state"] == "active"
    assert status["sources"]["good"]["samples"] == 3
    assert status["sources"]["good"]["facts"] == {"peer": "scripted"}
    assert status["sources"]["bad"]["state"] == "failing"
    assert status["sources"]["bad"]["error"] == "refused; is the plant on?"
    assert status["journal"]["seq"] > 0
    assert status["journal"]["budget_bytes"] == OPTIONS.max_size
    assert status["map_revision"] == TAGS.revision.hex()


async def test_the_end_of_one_source_is_not_the_end(
    tmp_path: Path, options: SourceOptions, eventually: Eventually
) -> None:
    """A replay that has ended leaves the other sources running."""
    short, long = Plant(1, end()), Plant(1)
    sources = {"short": Source(options, short.build), "long": Source(options, long.build)}

    long.steps[:] = [1, 2]
    await run_until(tmp_path, sources, lambda: short.closed and len(long.settled) == 2, eventually)

    assert json.loads((tmp_path / "acquire.json").read_text())["sources"]["short"]["state"] == "ended"


async def test_configuration_error_stops_the_process(
    tmp_path: Path, options: SourceOptions, eventually: Eventually
) -> None:
    """What no retry can change ends the process in order: the others are settled and closed first."""
    good, bad = Plant(1), Plant(ConfigError("no such certificate"))
    sources = {"good": Source(options, good.build), "bad": Source(options, bad.build)}

    with pytest.raises(ConfigError):
        await run_until(tmp_path, sources, lambda: False, eventually)
    assert good.closed == 1


async def test_missed_seconds_become_one_tick(tmp_path: Path) -> None:
    """A process that was stopped for a minute writes one tick, not sixty."""
    journal = JournalWriter(tmp_path, JournalOptions.model_validate({"commit": {"every": "1ms"}}))
    journal.open()
    mono = [0]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            raise asyncio.CancelledError
        mono[0] += 60_000_000_000 if len(waits) == 2 else int(seconds * 1e9)

    with pytest.raises(asyncio.CancelledError):
        await tick(
            journal, each_second=lambda: None, now_ns=lambda: 10**18 + mono[0], mono_ns=lambda: mono[0], sleep=sleep
        )
    journal.close()

    ticks = [entry for entry in JournalFiles(tmp_path).read(START) if isinstance(entry.body, Tick)]
    assert len(ticks) == 4
    assert waits == [1.0, 1.0, 1.0, 1.0]


async def test_samples_carry_on_over_a_restart(tmp_path: Path, options: SourceOptions, eventually: Eventually) -> None:
    """Positions go on without a hole over restarts, and every settled batch is there."""
    plant = Plant()
    for number in range(3):
        plant.steps.append(number)
        await run_until(
            tmp_path, {"plc": Source(options, plant.build)}, lambda n=number: len(plant.settled) == n + 1, eventually
        )

    found = entries(tmp_path)
    assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
    assert [entry.body.value[0] for entry in found if isinstance(entry.body, SampleBatch)] == [0.0, 1.0, 2.0]
