"""
The core process: one writer thread from the journal into SQL, and around it API, pages and reasoning on asyncio.

``data_dir/core.json`` (mode 0600) tells programs on this machine where the API is and gives them a token of an
administrator; it is made at each start and removed at a clean stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import uvicorn
from anyio.to_thread import current_default_thread_limiter

from broker import events, footprint
from broker.account import account
from broker.api.app import Services, build_app
from broker.api.listening import CannotListen, listen
from broker.config.applied import applied
from broker.config.secrets import resolve_secret
from broker.core.configured import note_configuration
from broker.core.detector_watch import DetectorWatch
from broker.core.model_watch import ModelWatch
from broker.core.pipeline import Pipeline
from broker.core.reasoning import ReasoningService
from broker.core.release import ReleaseService
from broker.core.writer import Writer
from broker.heartbeat import Heart
from broker.journal import JournalFiles
from broker.models.locate import locate
from broker.scorecard.standing import Standings
from broker.stopping import stop_at_eof, stop_on_signal
from broker.store import Store
from broker.version import VERSION
from detectors.detection import Detection
from llm.client import Reasoner
from normalizers.normalizer import Normalizer
from schemas.errors import ConfigError, StoreError, StoreLocked

if TYPE_CHECKING:
    from fastapi import FastAPI

    from broker.config.model import Config

#: Requests that are worked on at once. Each takes turns with the writer's thread for the interpreter: beside 40, the
#: number of the framework, rows were in SQL four times as late, and no more requests were answered (F29).
_REQUESTS: Final = 4
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_TRY_LATER: Final = 75
EXIT_CONFIG: Final = 78


def run_core(config: Config) -> int:
    """Run until SIGTERM, SIGINT or the end of the supervisor; the exit code of the process."""
    events.set_up(config.log.level)
    events.process_started("core", VERSION)
    try:
        api_key = "" if config.llm.api_key is None else resolve_secret(config.llm.api_key, config.base_dir)
    except ConfigError as error:
        print(f"llm.api_key: {error}", file=sys.stderr)
        events.process_stopped("core", "the configuration cannot work")
        return EXIT_CONFIG
    # acquire makes the journal's folder, but may not have come so far
    (config.data_dir / "journal").mkdir(parents=True, exist_ok=True)
    try:
        store = _open(config)
    except StoreLocked as error:
        events.process_stopped("core", str(error))
        return EXIT_TRY_LATER
    reason = "done"
    try:
        footprint.settle()
        with listen(config.api) as listener:
            return asyncio.run(_serve(config, store, api_key, listener))
    except CannotListen as error:
        events.core_part_failed("api", str(error))
        reason = "the API cannot listen"
        # the supervisor tries again after a while, but not what only another configuration can mend
        return EXIT_TRY_LATER if error.passing else EXIT_CONFIG
    finally:
        store.close()
        events.process_stopped("core", reason)


def _open(config: Config) -> Store:
    """
    The store with the newest tables. Raises StoreLocked, StoreError.

    The migrations run apart: they need Alembic, and this process for once only.
    """
    store = Store.open(config.store, config.data_dir, write=True)
    try:
        current = store.is_current()
    except StoreError:
        store.close()
        raise
    if current:
        return store
    store.close()
    footprint.apart(partial(_upgrade, config))
    return Store.open(config.store, config.data_dir, write=True)


def _upgrade(config: Config) -> None:
    with closing(Store.open(config.store, config.data_dir, write=True)) as store:
        store.upgrade()


async def _serve(config: Config, store: Store, api_key: str, listener: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    stop_on_signal(loop, stop)
    stop_at_eof(loop, stop)
    journal = JournalFiles(config.data_dir / "journal")
    writer = Writer(
        store,
        lambda: Pipeline(
            store, journal, Normalizer(config.normalize), Detection(config.detection), on_maps=footprint.settle
        ),
        Heart.of_environment().beat,
    )
    reader = store.reader()
    reasoner = Reasoner(
        config.llm,
        base_dir=config.base_dir,
        now_ns=time.time_ns,
        locate=partial(locate, config, reader),
        api_key=api_key,
    )
    watch = ModelWatch(reader, writer, reasoner, config.models.watch, time.time_ns)
    rejects = DetectorWatch(reader, ZoneInfo(config.site.timezone), config.detection.rejects, time.time_ns)
    token = secrets.token_urlsafe(32)
    standings = Standings(config.data_dir, config.llm.mode)
    services = Services(config, store, writer, reasoner, token, standings, watch, rejects)
    named = None if config.llm.backend == "none" else config.llm.model
    reasoning = ReasoningService(
        reader, writer, reasoner, time.time_ns, standings, services.derived_work_waits, named, config.llm
    )
    app = build_app(services)
    current_default_thread_limiter().total_tokens = _REQUESTS
    server = _server(config, app)
    ended = asyncio.Event()
    writer.start(lambda: _tell(loop, reasoning.wake), lambda: _tell(loop, ended.set))
    writer.submit(lambda tx: tx.interrupt_replays())  # of a core that was killed
    writer.submit(partial(note_configuration, options=applied(config), actor=account()))
    thinking = asyncio.create_task(reasoning.run(), name="reasoning")
    thinking.add_done_callback(_say_why)
    watching = asyncio.create_task(watch.run(), name="model watch")
    watching.add_done_callback(_say_why)
    judging = asyncio.create_task(rejects.run(), name="detector watch")
    judging.add_done_callback(_say_why)
    beside: list[asyncio.Task[None]] = [thinking, watching, judging]
    if config.review.policy is not None:
        release = ReleaseService(
            reader,
            writer,
            config.review.policy,
            config.site.name,
            time.time_ns,
            lambda: reasoner.state.status in ("ready", "starting"),
        )
        beside.append(asyncio.create_task(release.run(), name="release by policy"))
        beside[-1].add_done_callback(_say_why)
    serving = asyncio.create_task(server.serve([listener]), name="api")
    access = config.data_dir / "core.json"
    try:
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        _publish(access, config, token)
        waiting = {asyncio.create_task(stop.wait()), asyncio.create_task(ended.wait())}
        await asyncio.wait({*waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if serving.done():
            _say_why(serving)
        return EXIT_OK if stop.is_set() else EXIT_FAILED
    finally:
        access.unlink(missing_ok=True)
        server.should_exit = True
        for part in beside:
            part.cancel()
        await asyncio.gather(*beside, serving, return_exceptions=True)
        await reasoner.close()
        await asyncio.to_thread(app.state.replays.stop)
        await asyncio.to_thread(writer.stop)


def _say_why(task: asyncio.Task[None]) -> None:
    """Report a part that ended by itself; without reasoning the rules go on explaining."""
    if not task.cancelled():
        events.core_part_failed(task.get_name(), repr(task.exception()))


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    # the writer may commit once more while the loop is being closed
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what)


def _server(config: Config, app: FastAPI) -> uvicorn.Server:
    tls = config.api.tls
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=None if tls is None else config.base_dir / tls.cert,
        ssl_keyfile=None if tls is None else config.base_dir / tls.key,
    )
    server = uvicorn.Server(settings)
    # the core owns the signals: the API stops with everything else, not before
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    return server


def _publish(access: Path, config: Config, token: str) -> None:
    scheme = "https" if config.api.tls else "http"
    host = f"[{config.api.host}]" if ":" in config.api.host else config.api.host
    body = json.dumps({"url": f"{scheme}://{host}:{config.api.port}", "token": token, "pid": os.getpid()})
    part = access.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(body)
    part.replace(access)
