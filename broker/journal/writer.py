"""
The journal's writer: entries from any thread or task, group commit on a thread of its own.

The thread waits until the oldest entry is ``commit.every`` old or ``commit.bytes`` wait, writes what there is, syncs
once and completes the futures in the order of the entries.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker import events
from broker.journal.disk import Disk, RealDisk
from broker.journal.log import Item, JournalLog
from broker.journal.options import JournalOptions
from broker.journal.pressure import Pressure
from broker.journal.recovery import Opened
from schemas.entries import Body, Notice, Position
from schemas.errors import JournalError, JournalFull
from schemas.samples import Gap, GapCause

#: What may wait for the disk; at 100,000 values/s about 10 s, while the longest fsync measured is 1 s.
WAITING_BYTES: Final = 32 << 20
#: One commit takes no more, so that a slow disk gives its first answers early.
GROUP_BYTES: Final = 8 << 20
#: Samples are accepted again when this share of the budget is free below `stop_ack`; less would flap.
RESUME_SHARE: Final = 0.05
#: How often retention is looked at.
TRIM_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """
    Figures for people; sizes in bytes.

    ``read`` is core's position as last seen; ``written`` grows since the start; ``refusing`` is empty while samples
    are accepted. ``unread`` is the size of what core has not read, ``reserve`` the space still kept for what must not
    be lost; ``steps`` are those of :mod:`broker.journal.pressure` that are in force.
    """

    position: Position
    read: Position
    used: int
    written: int
    budget: int
    waiting: int
    refusing: str
    commits: int
    unread: int
    reserve: int
    steps: tuple[str, ...]


_Waiting = tuple[Item, "Future[Position]"]


class JournalWriter:
    """The one writer of a directory; :meth:`open` before the first :meth:`append`, :meth:`close` at the end."""

    def __init__(
        self,
        directory: Path,
        options: JournalOptions,
        *,
        disk: Disk | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._options = options
        self._now_ns = now_ns
        self._mono_ns = mono_ns
        self._log = JournalLog(directory, options, disk=disk or RealDisk(), now_ns=now_ns, mono_ns=mono_ns)
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._for_room: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._running = False
        self._refusing = ""
        self._full = False  # why: for want of space, not for a disk that fails
        self._abandoned = 0
        self._budget = options.max_size
        self._read = Position(0, 0)
        self._unread = 0
        self._held = 0
        self._pressure = Pressure(options.disk)

    def open(self) -> Opened:
        """
        Repair the directory, begin a segment, and start the thread.

        Where the end of the sequence could not be verified, a gap with cause ``journal_damaged`` is the first entry.

        Raises:
            JournalError: another process writes here, or the directory cannot be used. Never for a bad file.
        """
        opened = self._log.open()
        for text in opened.damage:
            events.journal_damaged(text)
        dropped = self._log.trim_damaged()
        if dropped:
            events.journal_damage_trimmed(len(dropped), sum(dropped))
        events.journal_opened(opened.epoch, opened.next_seq, opened.cut_bytes)
        self._held = self._log.reserve.held
        events.journal_reserve(self._held)
        self._running = True
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        if opened.unverified_end:
            self._report_unverified(opened.unverified_end, opened.last_wall_ns)
        self._thread.start()
        return opened

    @property
    def running(self) -> bool:
        """False once closed, or when the thread ended by a bug: then nothing will ever be accepted again."""
        return self._running

    @property
    def refusing(self) -> str:
        """Why samples are refused now; empty while they are accepted."""
        return self._refusing

    def status(self) -> JournalStatus:
        """Figures as of the last commit."""
        return JournalStatus(
            self._log.position,
            self._read,
            self._log.used,
            self._log.appended,
            self._budget,
            self._waiting_bytes,
            self._refusing,
            self._log.commits,
            self._unread,
            self._log.reserve.held,
            self._pressure.steps,
        )

    def append(self, body: Body) -> Future[Position]:
        """
        Queue one entry; waits while too much waits. Thread-safe; not for an event loop (:meth:`append_async`).

        The future completes when the entry is durable, with its position, or fails with JournalFull or JournalError.

        Raises:
            ValueError: the body cannot be encoded.
        """
        item = Item.of(body, self._now_ns(), self._mono_ns())
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes < WAITING_BYTES or not self._running)
            return self._push(item)

    async def append_async(self, body: Body) -> Future[Position]:
        """Like :meth:`append`; waits for room without holding the loop."""
        item = Item.of(body, self._now_ns(), self._mono_ns())
        while True:
            with self._changed:
                if self._waiting_bytes < WAITING_BYTES or not self._running:
                    return self._push(item)
                loop = asyncio.get_running_loop()
                room = loop.create_future()
                self._for_room.append((loop, room))
            await room

    def _push(self, item: Item) -> Future[Position]:
        future: Future[Position] = Future()
        future.set_running_or_notify_cancel()  # a waiter that is cancelled must not cancel what is being written
        if not self._running:
            future.set_exception(JournalError("the journal is closed"))
            return future
        size = len(item.payload)
        before = self._waiting_bytes
        self._waiting.append((item, future))
        self._waiting_bytes += size
        if before == 0 or before < self._options.commit.bytes <= self._waiting_bytes:
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Commit what waits, end the thread, release the files. Never raises."""
        with self._changed:
            self._running = False
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._log.close()

    def _run(self) -> None:
        trimmed = time.monotonic()
        group: list[_Waiting] = []
        why = "the journal is closed"
        try:
            while True:
                group = self._next_group()
                if group:
                    self._commit(group)
                elif not self._running:
                    return
                if time.monotonic() - trimmed > TRIM_EVERY_S or self._refusing:
                    trimmed = time.monotonic()
                    self._maintain()
        except BaseException as error:
            why = f"the journal's thread has ended: {error!r}"
            raise
        finally:
            with self._changed:
                self._running = False
                left = [future for _, future in (*group, *self._waiting) if not future.done()]
                self._waiting.clear()
                self._waiting_bytes = 0
                self._wake_all()
            # What was under way, too: whether it is durable is not known, so nobody may acknowledge it.
            for future in left:
                future.set_exception(JournalError(why))

    def _next_group(self) -> list[_Waiting]:
        """Wait for a group; empty after a while without entries, and when closing."""
        every, enough = self._options.commit.every, self._options.commit.bytes
        with self._changed:
            if not self._waiting:
                self._changed.wait_for(lambda: self._waiting or not self._running, TRIM_EVERY_S)
            if self._waiting:
                self._changed.wait_for(lambda: self._waiting_bytes >= enough or not self._running, every)
            group: list[_Waiting] = []
            size = 0
            while self._waiting and (not group or size < GROUP_BYTES):
                group.append(self._waiting.popleft())
                size += len(group[-1][0].payload)
            self._waiting_bytes -= size
            self._wake_all()
            return group

    def _wake_all(self) -> None:
        self._changed.notify_all()
        while self._for_room:
            loop, room = self._for_room.popleft()
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(_complete, room)

    def _commit(self, group: list[_Waiting]) -> None:
        begun = time.perf_counter()
        # once full, a smaller sample that would still fit is refused, too: else each of them would end the refusal
        outcome = self._log.commit([item for item, _ in group], accept=not self._full)
        events.journal_committed(time.perf_counter() - begun, self._log.used)
        if self._log.abandoned > self._abandoned:
            self._abandoned = self._log.abandoned
            events.journal_disk_failed(self._log.last_error)
        refused: list[JournalError] = []
        for (_, future), result in zip(group, outcome, strict=True):
            if isinstance(result, JournalError):
                refused.append(result)
                future.set_exception(result)
            else:
                future.set_result(result)
        if refused:
            self._refuse(str(refused[-1]), full=isinstance(refused[0], JournalFull))
        elif not self._full:
            self._accept()
        if bool(self._refusing) != ("stop_ack" in self._pressure.steps) or self._log.reserve.held != self._held:
            self._judge()

    def _refuse(self, why: str, *, full: bool) -> None:
        """Say once that samples are refused; where the journal is *full*, until there is room again."""
        if not self._refusing:
            events.journal_refusing(why, full=full)
        self._refusing = why
        self._full = self._full or full

    def _accept(self) -> None:
        """Say once that samples are accepted again."""
        if self._refusing:
            events.journal_accepting()
        self._refusing, self._full = "", False

    def _maintain(self) -> None:
        removed = self._log.trim(urgent=bool(self._refusing))
        if removed:
            events.journal_trimmed(len(removed), sum(segment.size for segment in removed))
        self._read = self._log.published()
        why = self._log.overtaken()
        if why:
            self._report_unverified(why, None)
        with suppress(OSError):
            self._budget = self._log.budget()
            room = self._options.disk.stop_ack * self._budget - self._log.used
            if self._full and room > RESUME_SHARE * self._budget:
                self._accept()
        if not self._refusing:
            self._log.reserve.fill()
        self._unread = self._log.unread()
        self._judge()

    def _judge(self) -> None:
        """Say which steps were entered and left; each is a notice in the journal, and so a row of the audit."""
        reserve = self._log.reserve
        self._held = reserve.held
        changes = self._pressure.update(
            used=self._log.used,
            unread=self._unread,
            budget=self._budget,
            refusing=self._refusing,
            reserve_given=reserve.given,
        )
        events.journal_reserve(reserve.held)
        for change in changes:
            events.journal_pressure(change.step, change.why, entered=change.entered)
            action = f"journal_{change.step}_{'entered' if change.entered else 'left'}"
            self._note(Notice(action, change.why))

    def _report_unverified(self, why: str, last_wall_ns: int | None) -> None:
        events.journal_damaged(why)
        now = self._now_ns()
        gap = Gap("", (), now if last_wall_ns is None else last_wall_ns, now, GapCause.JOURNAL_DAMAGED, detail=why)
        self._note(gap)

    def _note(self, body: Body) -> None:
        """Queue an entry of the journal itself."""
        item = Item.of(body, self._now_ns(), self._mono_ns())
        with self._changed:
            if self._running:
                self._push(item)


def _complete(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)
