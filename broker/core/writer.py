"""The one thread that writes SQL: journal bundles, and in between the commands of people and of the reasoning."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from broker import events
from broker.core.pipeline import Pipeline, StageUnreadable
from broker.store import Store, Transaction
from normalizers.clock import Skew
from schemas.entries import Position
from schemas.errors import Refused, StoreError

T = TypeVar("T")
Command = Callable[[Transaction], Any]

#: How long the thread sleeps when the journal has nothing new and no command waits.
POLL_S: Final = 0.02
#: Waiting time after the store refused a bundle, doubling up to the limit.
RETRY_S: Final = 0.5
RETRY_MAX_S: Final = 10.0
#: Roll-ups follow the last record after so long where no tick comes, because acquire is down.
SETTLE_S: Final = 2.0
MAINTAIN_EVERY_S: Final = 30.0
MAX_COMMANDS: Final = 1000
ALIVE_S: Final = 30.0
#: Failures of a stage before the process gives up: a fault of the program, not of the data. An entry may cost two.
MAX_FAILURES: Final = 40


class Writer:
    """
    Owns the pipeline and the store's write connection on a thread of its own.

    A bundle that the store refuses is tried again for ever, from the last saved stages: nothing is skipped. *beat* is
    called each time the thread goes round, with work or without.
    """

    def __init__(self, store: Store, pipeline: Callable[[], Pipeline], beat: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._heart_beat = beat
        self._make_pipeline = pipeline
        self._commands: queue.Queue[tuple[Command, Future[Any]]] = queue.Queue(MAX_COMMANDS)
        self._stop = threading.Event()
        self._drained = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairlead-writer", daemon=True)
        self._on_news: Callable[[], None] | None = None
        self._on_end: Callable[[], None] | None = None
        self._commanded_s = 0.0
        self.error: str = ""
        self.beat_s: float = time.monotonic()
        self.position = Position(0, 0)
        self.skews: Mapping[str, Skew] = {}

    def start(self, on_news: Callable[[], None] | None = None, on_end: Callable[[], None] | None = None) -> None:
        """
        Begin; on the writer thread *on_news* is called after a commit that stored evidence, and *on_end* when it ends.

        Not after each: at a hundred commits a second the wake-ups of the event loop were an eighth of core's work.
        """
        self._on_news = on_news
        self._on_end = on_end
        self._thread.start()

    def submit(self, command: Callable[[Transaction], T]) -> Future[T]:
        """
        Run *command* in a transaction of its own between two bundles.

        The future carries its result, or what it raised (then nothing of it was written).

        Raises:
            Refused: too many commands wait, or the core is stopping.
        """
        future: Future[T] = Future()
        if self._stop.is_set():
            raise Refused("the core is stopping")
        try:
            self._commands.put_nowait((command, future))
        except queue.Full:
            raise Refused("too many requests wait for the store; try again later") from None
        return future

    def stop(self, timeout_s: float = 20.0) -> None:
        """Finish what the journal and the queue hold, save the stages, end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def alive(self) -> bool:
        """Whether the thread has gone round lately; waiting for a store that refuses is going round too."""
        return self._thread.is_alive() and time.monotonic() - self.beat_s < ALIVE_S

    def _go_round(self) -> None:
        self.beat_s = time.monotonic()
        self._heart_beat()

    def _run(self) -> None:
        try:
            self._repeat()
        except BaseException as error:  # noqa: BLE001 - the process ends with it and is started again
            self.error = repr(error)
            events.core_part_failed("writer", self.error)
        finally:
            self._refuse_waiting()
            if self._on_end is not None:
                self._on_end()

    def _repeat(self) -> None:
        wait_s, failed, poison = RETRY_S, 0, None
        careful_to = Position(0, 0)
        anew: set[str] = set()
        while True:
            self._go_round()
            pipeline = self._make_pipeline()
            pipeline.stages.careful_to = careful_to
            try:
                if poison is not None:
                    # before the stages read on: they may fail at an entry that is in SQL already
                    pipeline.refuse(*poison)
                    poison = None
                pipeline.restore(anew)
                anew.clear()
                self._loop(pipeline)
            except StoreError as error:
                # the stages are ahead of SQL now; they are made anew from what was saved
                self.error = str(error)
                events.store_refused(str(error), wait_s)
                if self._stop.wait(wait_s):
                    return
                wait_s = min(wait_s * 2, RETRY_MAX_S)
            except StageUnreadable as error:
                # what it has learned is lost, the records are not
                anew.add(error.stage)
                events.stage_began_anew(error.stage, str(error))
            except Exception as error:
                failed += 1
                if pipeline.stages.at is None or failed > MAX_FAILURES:
                    raise
                if pipeline.stages.at.position > careful_to:
                    # one of several taken together: they go one by one now, so that it shows which
                    careful_to = pipeline.stages.bundle_end
                    continue
                poison = (pipeline.stages.at, repr(error))
                events.entry_refused(*pipeline.stages.at.position, repr(error))
            else:
                return

    def _loop(self, pipeline: Pipeline) -> None:
        maintain_at = time.monotonic() + MAINTAIN_EVERY_S
        settle_at: float | None = None
        while True:
            self._go_round()
            self._run_commands(block=False)
            done = pipeline.run_once()
            if self.beat_s >= maintain_at and pipeline.wall_ns:
                # retention follows the journal's time; this host's clock may be set to anything
                self._store.maintain(pipeline.wall_ns)
                maintain_at = time.monotonic() + MAINTAIN_EVERY_S
            if done:
                settle_at = self.beat_s + SETTLE_S
                self.error = ""
                self.position = pipeline.position
                self.skews = pipeline.skews()
                if pipeline.new_evidence and self._on_news is not None:
                    self._on_news()
            elif self._stop.is_set():
                pipeline.save()
                return
            else:
                if settle_at is not None and self.beat_s >= settle_at:
                    settle_at = None
                    pipeline.settle()
                if self._store.has_stale_rollups and self.beat_s >= self._commanded_s + SETTLE_S:
                    self._rebuild()
                self._run_commands(block=True)

    def _rebuild(self) -> None:
        """One step of what a replay that was cut off has left of the roll-ups; a running one makes them itself."""
        with self._store.transaction(later=True) as tx:
            _, left = tx.rebuild()
        if left:
            events.rollups_left(left)

    def _run_commands(self, *, block: bool) -> None:
        """Run what waits now; what comes meanwhile waits for the next bundle."""
        timeout = POLL_S if block else 0.0
        for _ in range(max(1, self._commands.qsize())):
            try:
                command, future = self._commands.get(block=block, timeout=timeout)
            except queue.Empty:
                return
            block = False
            self._commanded_s = time.monotonic()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                with self._store.transaction() as tx:
                    result = command(tx)
                    news = tx.new_evidence
            except BaseException as error:  # noqa: BLE001 - carried to whoever asked, not swallowed
                future.set_exception(error)
            else:
                future.set_result(result)
                if news and self._on_news is not None:
                    self._on_news()

    def _refuse_waiting(self) -> None:
        while True:
            try:
                _, future = self._commands.get_nowait()
            except queue.Empty:
                return
            future.set_exception(Refused("the core is stopping"))
