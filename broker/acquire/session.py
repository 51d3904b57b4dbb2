"""One connection of one adapter: read, journal, settle, until it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, NamedTuple

from adapters.base import Adapter
from broker import events
from broker.acquire import quarantine
from broker.acquire.gaps import GapLedger
from broker.acquire.state import SourceState
from broker.journal import JournalWriter
from schemas.entries import Body, Position
from schemas.errors import EndOfInput, JournalError, NotConnected
from schemas.samples import Delivery, Gap

#: Deliveries whose commit is under way; the adapter is not asked for more.
MAX_UNSETTLED: Final = 256
#: For one settle; and, as one deadline, for all that is under way at the end of a connection.
SETTLE_S: Final = 5.0
#: How often a source that has sent no batch yet is asked whether its peer says that nothing is new.
LOOK_S: Final = 1.0


class _Pending(NamedTuple):
    """
    A delivery under commit: ``rows`` are journalled as samples, ``rejects`` as quarantine rows, ``events`` as events.

    ``received`` is the number of rows, rejects and events that it came with.
    """

    delivery: Delivery
    futures: list[Future[Position]]
    rows: int
    rejects: int
    events: int
    received: int


class Silent(NotConnected):
    """The adapter hangs: nothing moved for ``silence_after``, or a settle did not return; it is built anew."""


def covered_ns(adapter: Adapter) -> int | None:
    """The time up to which the adapter's data is complete; None where the protocol cannot say."""
    return getattr(adapter, "covered_ns", None)


class Session:
    """
    The time between one connect and the loss of the connection.

    *back* is awaited once, with the time from which nothing is missing: when the first batch is durable, with its time
    of reception; or when the adapter's data is complete beyond *connected_ns*, with that.
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
        connected_ns: int,
        back: Callable[[int], Awaitable[None]],
    ) -> None:
        self._source = source
        self._adapter = adapter
        self._journal = journal
        self._ledger = ledger
        self._state = state
        self._silence_s = silence_s
        self._connected_ns = connected_ns
        self._back = back
        self._pending: asyncio.Queue[_Pending | None] = asyncio.Queue(MAX_UNSETTLED)
        self._limit: asyncio.Timeout | None = None
        self._broken: BaseException | None = None
        self._refused: JournalError | None = None
        self._end: float | None = None
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
        except NotConnected:
            await self._drain(settler)
            if self._refused is not None:
                raise self._refused from None  # the adapter only tells what our refusal did to the connection
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
        received = len(item.batch) + len(item.rejects) + len(item.events)
        self._state.received += received
        self._state.waiting += received
        try:
            futures = [await self._journal.append_async(reject) for reject in item.rejects]
            rows, rejects, told = len(item.batch), len(item.rejects), 0
            for event in item.events:
                try:
                    futures.append(await self._journal.append_async(event))
                    told += 1
                except ValueError as error:
                    futures.append(await self._journal.append_async(quarantine.refused_event(event, error)))
                    rejects += 1
            if rows:
                try:
                    futures.append(await self._journal.append_async(item.batch))
                except ValueError as error:
                    rest, refused = quarantine.divide(item.batch, error)
                    rows, rejects = 0 if rest is None else len(rest), rejects + len(refused)
                    bodies: list[Body] = [*refused, *([] if rest is None else [rest])]
                    futures += [await self._journal.append_async(body) for body in bodies]
            await self._pending.put(_Pending(item, futures, rows, rejects, told, received))
            self._state.in_flight += 1
        except BaseException:
            self._state.waiting -= received
            self._state.refused += received
            self._end_by()
            with suppress(NotConnected):
                await self._settle(item, _stopped())
            raise

    async def _next_pending(self) -> _Pending | None:
        while not self._proved:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    return await self._pending.get()
            covered = covered_ns(self._adapter)
            if covered is not None and covered > self._connected_ns:
                await self._prove(self._connected_ns)
        return await self._pending.get()

    async def _prove(self, to_ns: int) -> None:
        if not self._proved:
            self._proved = True
            await self._back(to_ns)

    async def _settle_in_order(self) -> None:
        while (pending := await self._next_pending()) is not None:
            self._state.in_flight -= 1
            error = await self._finish(pending)
            if error is not None:
                self._break(error)
            elif pending.rows or pending.events:
                await self._prove(pending.delivery.batch.received_ns)

    async def _finish(self, pending: _Pending) -> JournalError | None:
        """Wait for the commit, settle by its outcome and return it. Raises NotConnected where settling failed."""
        delivery = pending.delivery
        try:
            error = await _outcome(pending.futures)
        except BaseException:
            self._account(pending, durable=False)
            with suppress(NotConnected):
                await self._settle(delivery, _stopped())
            raise
        self._account(pending, durable=error is None)
        await self._settle(delivery, error)
        if error is not None:
            self._refused = error
            return error
        self._state.acknowledged += pending.received
        self._state.rejects += pending.rejects
        events.samples_journalled(self._source, pending.rows, pending.rejects)
        if pending.events:
            events.events_journalled(self._source, pending.events)
        if pending.rows or pending.events:
            self._state.last_batch_ns = delivery.batch.received_ns
        return None

    def _account(self, pending: _Pending, *, durable: bool) -> None:
        """Every row that was received is one of these, at any time; what is settled comes after."""
        self._state.waiting -= pending.received
        if durable:
            self._state.samples += pending.rows
            self._state.events += pending.events
            self._state.unusable += pending.received - pending.rows - pending.events
        else:
            self._state.refused += pending.received

    async def _settle(self, delivery: Delivery, error: JournalError | None) -> None:
        """Settle within the deadline. Raises Silent where it did not return."""
        by = asyncio.get_running_loop().time() + SETTLE_S
        try:
            async with asyncio.timeout_at(by if self._end is None else min(by, self._end)):
                await delivery.settle(error)
        except TimeoutError:
            raise Silent(f"an acknowledgement was not taken within {SETTLE_S:g} s") from None

    def _end_by(self) -> float:
        """The one deadline for all that is settled at the end; it runs from the first call."""
        if self._end is None:
            self._end = asyncio.get_running_loop().time() + SETTLE_S
        return self._end

    def _settler_ended(self, settler: asyncio.Task[None]) -> None:
        error = None if settler.cancelled() else settler.exception()
        if error is not None:
            self._break(error)

    async def _drain(self, settler: asyncio.Task[None]) -> None:
        """
        Settle everything taken, by what became of it, within one deadline.

        What is not durable by then is refused; a settle that a dead peer holds up is called, and given up.
        """
        end = self._end_by()
        try:
            async with asyncio.timeout_at(end):
                if not settler.done():
                    await self._pending.put(None)
                await asyncio.wait([settler])
        except TimeoutError:
            settler.cancel()
            await asyncio.wait([settler])
        finally:
            settler.cancel()
        while not self._pending.empty():
            left = self._pending.get_nowait()
            if left is not None:
                self._state.in_flight -= 1
                with suppress(TimeoutError, NotConnected):
                    async with asyncio.timeout_at(end):
                        await self._finish(left)


def _stopped() -> JournalError:
    return JournalError("the source was stopped before the batch was durable")


async def _outcome(futures: list[Future[Position]]) -> JournalError | None:
    error: JournalError | None = None
    for future in futures:
        try:
            # A future that is done answers without a turn of the loop, so also behind a deadline that has passed.
            if not future.done():
                await asyncio.wrap_future(future)
            future.result()
        except JournalError as failure:
            error = failure
    return error
