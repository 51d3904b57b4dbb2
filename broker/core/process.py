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
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from broker import events, footprint
from broker.api.app import Services, build_app
from broker.core.pipeline import Pipeline
from broker.core.reasoning import ReasoningService
from broker.core.writer import Writer
from broker.journal import JournalFiles
from broker.store import Store
from broker.supervisor import stop_at_eof
from broker.version import VERSION
from detectors.detection import Detection
from llm.client import Reasoner
from normalizers.normalizer import Normalizer
from schemas.errors import StoreError, StoreLocked

if TYPE_CHECKING:
    from fastapi import FastAPI

    from broker.config.model import Config

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_TRY_LATER: Final = 75


def run_core(config: Config) -> int:
    """Run until SIGTERM, SIGINT or the end of the supervisor; the exit code of the process."""
    events.set_up(config.log.level)
    events.process_started("core", VERSION)
    # acquire makes the journal's folder, but may not have come so far
    (config.data_dir / "journal").mkdir(parents=True, exist_ok=True)
    try:
        store = _open(config)
    except StoreLocked as error:
        events.process_stopped("core", str(error))
        return EXIT_TRY_LATER
    try:
        footprint.settle()
        return asyncio.run(_serve(config, store))
    finally:
        store.close()
        events.process_stopped("core", "done")


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


async def _serve(config: Config, store: Store) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no signal handlers on the loop; there the supervisor closes standard input
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    stop_at_eof(loop, stop)
    journal = JournalFiles(config.data_dir / "journal")
    writer = Writer(
        store,
        lambda: Pipeline(
            store, journal, Normalizer(config.normalize), Detection(config.detection), on_maps=footprint.settle
        ),
    )
    reasoner = Reasoner(config.llm, base_dir=config.base_dir, now_ns=time.time_ns)
    token = secrets.token_urlsafe(32)
    services = Services(config, store, writer, reasoner, token)
    reasoning = ReasoningService(store.reader(), writer, reasoner, time.time_ns, services.derived_work_waits)
    app = build_app(services)
    server = _server(config, app)
    ended = asyncio.Event()
    writer.start(lambda: _tell(loop, reasoning.wake), lambda: _tell(loop, ended.set))
    writer.submit(lambda tx: tx.interrupt_replays())  # of a core that was killed
    thinking = asyncio.create_task(reasoning.run(), name="reasoning")
    thinking.add_done_callback(_say_why)
    serving = asyncio.create_task(server.serve(), name="api")
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
        thinking.cancel()
        await asyncio.gather(thinking, serving, return_exceptions=True)
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
        host=config.api.host,
        port=config.api.port,
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
