"""One connection of one adapter: read, journal, settle, until it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from adapters.base import Adapter
from broker import events
from broker.acquire.gaps import GapLedger
from broker.acquire.state import SourceState
from broker.journal import JournalWriter
from schemas.entries import Position
from schemas.errors import EndOfInput, JournalError, NotConnected
from schemas.samples import Delivery, Gap, Reject

#: Deliveries whose commit is under way; the adapter is not asked for more.
MAX_UNSETTLED: Final = 256
#: A peer that does not take its acknowledgement may hold up the end of a connection for so long.
SETTLE_S: Final = 5.0

_Pending = tuple[Delivery, "list[Future[Position]]"]


class Silent(NotConnected):
    """Nothing came and nothing moved for longer than ``silence_after``; the adapter is built anew."""


class Session:
    """
    The time between one connect and the loss of the connection.

    *back* is awaited once, when the first batch is durable, with the batch's time of reception.
    """

    def __init__(
        self,
        source: str,
        adapter: Adapter,
        journal: JournalWriter,
        ledger: GapLedger,
        state: SourceState,
        *,
        silence_s: float,
        back: Callable[[int], Awaitable[None]],
    ) -> None:
        self._source = source
        self._adapter = adapter
        self._journal = journal
        self._ledger = ledger
        self._state = state
        self._silence_s = silence_s
        self._back = back
        self._pending: asyncio.Queue[_Pending | None] = asyncio.Queue(MAX_UNSETTLED)
        self._limit: asyncio.Timeout | None = None
        self._broken: BaseException | None = None
        self._refused: JournalError | None = None
        self._reading = False
        self._proved = False
        self._alive_at = 0.0
        self._life = 0
        self._watch: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """
        Read until the connection is lost, then settle what is under way.

        Raises:
            NotConnected: lost, or silent (:class:`Silent`).
            EndOfInput: the source has ended.
            JournalError: a delivery could not be made durable.
            Exception: whatever an adapter must not raise.
        """
        settler = asyncio.create_task(self._settle_in_order(), name=f"settle {self._source}")
        settler.add_done_callback(self._settler_ended)
        try:
            await self._read()
        except EndOfInput:
            await self._drain(settler)
            if self._refused is not None:
                raise self._refused from None  # it has not ended for us: what was refused has to be read again
            raise
        except TimeoutError:
            if self._broken is None:
                raise
            raise self._broken from None
        finally:
            await self._drain(settler)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as self._limit:
                self._alive_at, self._life = loop.time(), self._adapter.counters.total()
                self._look()
                while True:
                    self._reading = True
                    item = await self._adapter.read()
                    self._reading = False
                    self._alive_at = loop.time()
                    await self._take(item)
        finally:
            self._limit = None
            if self._watch is not None:
                self._watch.cancel()

    def _break(self, error: BaseException) -> None:
        """End the session from outside its read: the first reason counts."""
        if self._limit is not None and self._broken is None:
            self._broken = error
            self._limit.reschedule(asyncio.get_running_loop().time())

    def _look(self) -> None:
        """The watchdog: a delivery, a gap, or any counter of the adapter that moved is a sign of life."""
        loop = asyncio.get_running_loop()
        life = self._adapter.counters.total()
        if not self._reading or life != self._life:
            self._alive_at, self._life = loop.time(), life
        if loop.time() - self._alive_at >= self._silence_s:
            self._break(Silent(f"nothing came for {self._silence_s:g} s"))
            return
        self._watch = loop.call_later(self._silence_s / 4, self._look)

    async def _take(self, item: Delivery | Gap) -> None:
        if isinstance(item, Gap):
            await self._ledger.report(item)
            return
        events.samples_received(self._source, len(item.batch))
        try:
            futures = [await self._journal.append_async(reject) for reject in item.rejects]
            if len(item.batch):
                try:
                    futures.append(await self._journal.append_async(item.batch))
                except ValueError as error:
                    futures.append(await self._journal.append_async(self._quarantined(item, error)))
            await self._pending.put((item, futures))
            self._state.in_flight += 1
        except BaseException:
            await item.settle(JournalError("the source was stopped before the batch was durable"))
            raise

    def _quarantined(self, item: Delivery, error: ValueError) -> Reject:
        """A batch that cannot be encoded is a fault of its adapter; it must not block what follows (C8)."""
        raw = repr(item.batch)[:4096].encode(errors="backslashreplace")[:4096]
        return Reject(self._source, "batch", str(error), raw, item.batch.received_ns)

    async def _settle_in_order(self) -> None:
        while (pending := await self._pending.get()) is not None:
            delivery, futures = pending
            self._state.in_flight -= 1
            try:
                error = await _outcome(futures)
            except BaseException:
                await delivery.settle(JournalError("the source was stopped before the batch was durable"))
                raise
            await delivery.settle(error)
            if error is not None:
                self._refused = error
                self._break(error)
                continue
            rows = len(delivery.batch)
            self._state.samples += rows
            self._state.rejects += len(delivery.rejects)
            events.samples_journalled(self._source, rows, len(delivery.rejects))
            if rows:
                self._state.last_batch_ns = delivery.batch.received_ns
                if not self._proved:
                    self._proved = True
                    await self._back(delivery.batch.received_ns)

    def _settler_ended(self, settler: asyncio.Task[None]) -> None:
        error = None if settler.cancelled() else settler.exception()
        if error is not None:
            self._break(error)

    async def _drain(self, settler: asyncio.Task[None]) -> None:
        """Settle everything taken, by what became of it; what a dead peer holds up is refused."""
        try:
            async with asyncio.timeout(SETTLE_S):
                if not settler.done():
                    await self._pending.put(None)
                await asyncio.wait([settler])
        except TimeoutError:
            settler.cancel()
            await asyncio.wait([settler])
        while not self._pending.empty():
            left = self._pending.get_nowait()
            if left is not None:
                self._state.in_flight -= 1
                with suppress(TimeoutError, NotConnected):
                    async with asyncio.timeout(SETTLE_S):
                        await left[0].settle(NotConnected("the connection was lost"))


async def _outcome(futures: list[Future[Position]]) -> JournalError | None:
    error: JournalError | None = None
    for future in futures:
        try:
            await asyncio.wrap_future(future)
        except JournalError as failure:
            error = failure
    return error
