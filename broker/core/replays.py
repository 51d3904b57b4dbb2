"""Replays in the running core: one at a time, on a thread of its own, written between bundles of the live stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from broker import events
from broker.core.replay import Replay
from broker.core.replay_outcome import ReplayRequest
from broker.core.writer import Command, Writer
from broker.store import Store
from schemas.errors import FairleadError, Refused, StoreError

if TYPE_CHECKING:
    from broker.config.model import Config

#: How often a replay that waits looks whether it may go on.
PAUSE_S: Final = 1.0


class ReplayService:
    """
    Starts replays; their progress and end stand in the store's ledger (``Reader.replays``).

    While *waits* says so they pause between two transactions.
    """

    def __init__(self, config: Config, store: Store, writer: Writer, waits: Callable[[], bool] = lambda: False) -> None:
        self._config = config
        self._store = store
        self._writer = writer
        self._waits = waits
        self._busy = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, request: ReplayRequest) -> int:
        """
        Check, begin, and return the revision; the rest goes on by itself.

        Raises:
            Refused: another replay runs, or this one cannot be.
            StoreError: the store cannot be written now.
        """
        if self._waits():
            raise Refused("the journal fills because core is behind; replay when it has caught up")
        if self._writer.error:
            raise StoreError(f"the store cannot be written now: {self._writer.error}")
        if not self._busy.acquire(blocking=False):
            raise Refused("another replay runs; wait for its end")
        try:
            replay = self._made(request)
            replay.check()
            revision = replay.begin()
        except BaseException:
            self._busy.release()
            raise
        self._thread = threading.Thread(target=self._run, args=(replay,), name="replay", daemon=True)
        self._thread.start()
        return revision

    def _made(self, request: ReplayRequest) -> Replay:
        keep = self._config.store.keep
        return Replay(
            self._config.data_dir / "journal",
            self._store.reader(),
            self._config.normalize,
            request,
            committed=self._store.position(),
            keep_s=min(keep.records, keep.rollups_1m),
            write=self._write,
            stop=self._stop,
        )

    def _write(self, command: Command) -> Any:
        while self._waits() and not self._stop.wait(PAUSE_S):
            pass
        return self._writer.submit(command).result()

    def _run(self, replay: Replay) -> None:
        try:
            replay.run()
        except FairleadError:
            pass  # it stands in the ledger, or the core is going down
        except Exception as error:  # noqa: BLE001 - a fault of the program must not be silent
            events.core_part_failed("replay", repr(error))
        finally:
            self._busy.release()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End what runs after its current transaction."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
