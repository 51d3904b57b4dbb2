"""
The acquire process: journal, runners and ticks on one loop.

Order of a start: journal opened and repaired, map, gaps of the time before, runners. Order of a stop: reads end, what
is under way is settled, adapters close, last commit.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from prometheus_client import generate_latest

from adapters.base import Adapter, AdapterContext, SourceOptions
from broker import events, footprint
from broker.account import account
from broker.acquire.files import METRICS_FILE, STATUS_FILE
from broker.acquire.inbox import take_commands
from broker.acquire.runner import AdapterRunner
from broker.acquire.state import JournalFigures, acquire_json
from broker.acquire.ticks import tick
from broker.heartbeat import Heart
from broker.journal import JournalOptions, JournalWriter, Opened
from broker.stopping import stop_at_eof, stop_on_signal
from broker.version import VERSION
from schemas.entries import Body, Link, MapInForce, Notice
from schemas.errors import ConfigError, JournalError
from schemas.samples import Gap, GapCause
from schemas.tagmap import TagMap

if TYPE_CHECKING:
    from broker.config.model import Config

METRICS_EVERY_NS: Final = 5_000_000_000
#: One budget for reads to end, settles to go out and adapters to close. The supervisor's grace is longer by what the
#: last commit may take.
STOP_S: Final = 20.0
#: For the last tick, which waits for the journal at most.
TICKS_END_S: Final = 2.0
#: After this share of the budget, what still runs is cancelled once more.
PATIENCE: Final = 0.75
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78


@dataclass(frozen=True, slots=True)
class Source:
    """One configured source; ``build`` makes a fresh adapter, which does no I/O before ``connect``."""

    options: SourceOptions
    build: Callable[[], Adapter]


def run_acquire(config: Config) -> int:
    """Run until SIGTERM, SIGINT or the end of the supervisor; the exit code of the process."""
    events.set_up(config.log.level)
    events.process_started("acquire", VERSION)
    try:
        sources, tag_map = prepare(config)
        footprint.settle()
        reason = _run(_until_signal(config, sources, tag_map))
    except ConfigError as error:
        print(error, file=sys.stderr)
        events.process_stopped("acquire", "the configuration cannot work")
        return EXIT_CONFIG
    except JournalError as error:
        events.process_stopped("acquire", str(error))
        return EXIT_FAILED
    events.process_stopped("acquire", reason)
    return EXIT_OK


def prepare(config: Config) -> tuple[dict[str, Source], TagMap]:
    """
    The sources with their adapters' factories, and the resolved tag map.

    Raises:
        ConfigError: the tag map has an error.
    """
    import adapters
    from adapters.base import REGISTRY

    assert adapters.__all__, "importing the package fills the registry"
    tag_map = TagMap.from_body(footprint.apart(partial(_tag_map, config)))
    sources = {}
    for name, options in config.sources.items():
        state_dir = config.state_dir(name)
        state_dir.mkdir(parents=True, exist_ok=True)
        context = AdapterContext(
            name, tag_map.of_source(name), tag_map.revision, time.time_ns, state_dir, config.base_dir
        )
        spec = REGISTRY[config.kinds[name]]
        sources[name] = Source(options, partial(spec.build, options, context))
    return sources, tag_map


def _tag_map(config: Config) -> bytes:
    """The resolved map; reading it takes three times the memory of what comes out. Raises ConfigError."""
    from broker.tagmap import load

    return load(config).body


def _run(main: Coroutine[None, None, str]) -> str:
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def _until_signal(config: Config, sources: Mapping[str, Source], tag_map: TagMap) -> str:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    stop_on_signal(loop, stop)
    stop_at_eof(loop, stop)
    heart = Heart.of_environment()
    return await acquire(sources, tag_map, data_dir=config.data_dir, options=config.journal, stop=stop, beat=heart.beat)


async def acquire(
    sources: Mapping[str, Source],
    tag_map: TagMap,
    *,
    data_dir: Path,
    options: JournalOptions,
    stop: asyncio.Event,
    beat: Callable[[], None] = lambda: None,
    now_ns: Callable[[], int] = time.time_ns,
    mono_ns: Callable[[], int] = time.monotonic_ns,
) -> str:
    """
    Run every source until *stop* is set, and return why it ended.

    The journal is ``data_dir/journal``; ``data_dir/acquire.json`` is replaced each second, its time of change is the
    sign of life; ``data_dir/acquire.prom`` has the metrics as Prometheus text, a few seconds old.

    Raises:
        JournalError: the journal cannot be used, or its thread has ended.
        ConfigError: a source found something in its options that no retry can change.
    """
    journal = JournalWriter(data_dir / "journal", options, now_ns=now_ns, mono_ns=mono_ns)
    opened = await asyncio.to_thread(journal.open)
    started_ns = now_ns()
    try:
        downtime: dict[str, Gap] = {}
        for body in _first_entries(opened, sources, tag_map, started_ns):
            if isinstance(body, Gap) and body.cause is GapCause.NOT_RUNNING:
                events.gap_opened(body.source, body.cause.value)
                downtime[body.source] = body
            await journal.append_async(body)
        disabled = {gap.source: gap for gap in opened.open_gaps if gap.cause is GapCause.DISABLED}
        runners = {
            name: AdapterRunner(
                name,
                source.build,
                source.options,
                journal,
                map_revision=tag_map.revision,
                now_ns=now_ns,
                disabled_gap=disabled.get(name),
                downtime=downtime.get(name),
            )
            for name, source in sources.items()
        }
        figures = JournalFigures(options.disk.stop_ack)
        measured_ns = mono_ns() - METRICS_EVERY_NS

        def each_second() -> None:
            nonlocal measured_ns
            states = {name: runner.refresh() for name, runner in runners.items()}
            status = figures.as_json(journal.status(), mono_ns())
            body = acquire_json(os.getpid(), now_ns(), started_ns, tag_map.revision, status, states)
            _replace(data_dir / STATUS_FILE, msgspec.json.encode(body))
            if mono_ns() - measured_ns >= METRICS_EVERY_NS:
                measured_ns = mono_ns()
                _replace(data_dir / METRICS_FILE, generate_latest(events.ACQUIRE))

        tasks = [asyncio.create_task(runner.run(), name=name) for name, runner in runners.items()]
        ticking = asyncio.create_task(tick(journal, each_second=each_second, beat=beat, now_ns=now_ns, mono_ns=mono_ns))
        tasks.append(asyncio.create_task(take_commands(journal, data_dir), name="commands"))
        try:
            await _until_stopped([*tasks, ticking], ticking, stop)
        finally:
            # Ticks go on meanwhile, and end at once when they are cancelled.
            await _end(tasks, STOP_S)
            await _end([ticking], TICKS_END_S)
            each_second()
    finally:
        await asyncio.to_thread(journal.close)
    return "asked to stop"


def _first_entries(opened: Opened, sources: Mapping[str, Source], tag_map: TagMap, now_ns: int) -> list[Body]:
    """
    The map; then what was left open is closed, and the time in which nothing ran becomes a gap of each source.

    Not of one that the previous run did not know, was disabled, or had ended: nothing of it can be missing.
    """
    entries: list[Body] = [MapInForce(tag_map.revision, tag_map.body, account())]
    entries += _insecure(sources, now_ns)
    last_ns = opened.last_wall_ns
    if last_ns is None:
        return entries
    last_ns = min(last_ns, now_ns)
    was_disabled = set()
    for gap in opened.open_gaps:
        if gap.cause is GapCause.DISABLED:
            was_disabled.add(gap.source)
            if gap.source in sources and not sources[gap.source].options.enabled:
                continue
            entries.append(replace(gap, to_ns=max(gap.from_ns, now_ns)))
        else:
            entries.append(replace(gap, to_ns=max(gap.from_ns, last_ns)))
    known = _known_before(opened)
    idle = was_disabled | opened.ended
    down = [name for name in sources if name not in idle and (known is None or name in known)]
    for name in down:
        # before the first tick: nobody was there to hear the tags of a source that was up
        entries.append(Link(name, False, "the broker was not running"))
        entries.append(Gap(name, (), last_ns, now_ns, GapCause.NOT_RUNNING, map_revision=tag_map.revision))
    return entries


def _insecure(sources: Mapping[str, Source], now_ns: int) -> list[Body]:
    """For the audit: which sources are read without protection, and who accepts that."""
    found: list[Body] = []
    for name, source in sources.items():
        insecure = source.options.insecure()
        if source.options.enabled and insecure is not None:
            found.append(Notice("insecure_source", f"{name}: {insecure.text(now_ns)}"))
    return found


def _known_before(opened: Opened) -> frozenset[str] | None:
    """Sources of the previous run, by its map and its entries; None where its map cannot be read."""
    if opened.map is None:
        return None
    try:
        before = TagMap.from_body(opened.map.body)
    except ValueError:
        return None
    return opened.sources | {tag.source for tag in before.tags}


async def _until_stopped(tasks: list[asyncio.Task[None]], ticking: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Return when *stop* is set; raise what a runner or the ticks raised. A source that has ended is no reason."""
    stopping = asyncio.create_task(stop.wait())
    left: set[asyncio.Task[None]] = set(tasks)
    try:
        while not stopping.done():
            done, _ = await asyncio.wait({*left, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
                left.discard(task)
            if ticking not in left:
                raise JournalError("the ticks have ended")
    finally:
        stopping.cancel()


async def _end(tasks: list[asyncio.Task[None]], within_s: float) -> None:
    """Cancel, wait, cancel once more what hangs. What a task raises now no longer matters."""
    for share in (PATIENCE, 1.0 - PATIENCE):
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=within_s * share)
            tasks = list(left)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    # What cannot be written on a full disk must not stop the sources: the time inside tells its age, the time of
    # change that we live.
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            os.utime(path)
