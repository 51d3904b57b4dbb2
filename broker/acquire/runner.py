"""The one loop that connects, reads, backs off and reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from adapters.base import Adapter, Backoff, Continuity, SourceOptions
from broker import events
from broker.acquire.gaps import GapLedger
from broker.acquire.session import Session, Silent, covered_ns
from broker.acquire.state import SourceState
from broker.journal import JournalWriter
from schemas.entries import END_OF_INPUT, Link
from schemas.errors import ConfigError, EndOfInput, JournalError, NotConnected, OtherDevice
from schemas.samples import Gap, GapCause

#: Adapters bring their own time-outs for each step; above them all stands this one.
CONNECT_S: Final = 60.0
CLOSE_S: Final = 5.0
#: How often a refusing journal is asked again before its sources reconnect.
REFUSED_S: Final = 1.0


def backoff_s(options: Backoff) -> Iterator[float]:
    """Waiting times that double from first to max."""
    wait = options.first
    while True:
        yield min(wait, options.max)
        wait = min(wait * 2, options.max)


def continuity(adapter: Adapter) -> Continuity:
    """What the last connect found out; ``unknown`` where the adapter does not say."""
    return getattr(adapter, "continuity", "unknown")


class AdapterRunner:
    """
    Owns the life of one source: connect, read, journal, settle, reconnect, close.

    A lost connection is said once and opened as a gap, from the time up to which the data is complete: the last batch,
    or the adapter's ``covered_ns`` where a quiet peer went on saying that nothing is new. It is said to be back, and
    the gap closed, when the first batch after it is durable or ``covered_ns`` has passed the time of the connect; that
    also resets the back-off, because only the peer's own word proves that it is back. Where the peer kept everything
    over the whole outage (``continuity``), the gap is closed as backfilled; where it did so over the time in which the
    broker was not running, *downtime*, the gap of that time is told once more, as backfilled.
    """

    def __init__(
        self,
        name: str,
        build: Callable[[], Adapter],
        options: SourceOptions,
        journal: JournalWriter,
        *,
        map_revision: bytes,
        now_ns: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        disabled_gap: Gap | None = None,
        downtime: Gap | None = None,
    ) -> None:
        self._name = name
        self._build = build
        self._options = options
        self._journal = journal
        self._now_ns = now_ns
        self._sleep = sleep
        self._ledger = GapLedger(name, map_revision, journal, sleep, downtime=downtime)
        self._downtime_kept = downtime is not None  # by the peer, over all connects up to the first data
        self._disabled_gap = disabled_gap
        self._started_ns = now_ns()
        self._adapter: Adapter | None = None
        self._link: bool | None = None
        self._covered_ns = 0
        self._continuity: Continuity = "unknown"  # over all connects of the outage
        self._waits = backoff_s(options.backoff)
        self.state = SourceState("pending" if options.enabled else "disabled", self._started_ns)

    def refresh(self) -> SourceState:
        """The state with the adapter's counters as they are now; they go to the metrics, too."""
        for name, text in self.state.check().items():
            events.acquire_invariant_violated(name, f"{self._name}: {text}")
        adapter = self._adapter
        if adapter is not None:
            self.state.publish(adapter.counters, adapter.facts)
            for counter, value in self.state.counters.items():
                events.ADAPTER.labels(self._name, counter).set(value)
        return self.state

    async def run(self) -> None:
        """
        Run until the end of input or cancellation; whatever the adapter does, the loop goes on.

        When cancelled, what is under way is settled and the adapter closed before this returns.

        Raises:
            ConfigError: nothing that time could change.
        """
        if not self._options.enabled:
            if self._disabled_gap is None:
                await self._ledger.open(GapCause.DISABLED, self._started_ns, "enabled: false")
            return
        try:
            while True:
                try:
                    await self._connect_and_read()
                except EndOfInput as end:
                    await self._ended(end)
                    return
                except (ConfigError, asyncio.CancelledError):
                    raise
                except JournalError as error:
                    await self._lost(error, GapCause.DISK_BUDGET)
                    await self._wait_for_journal()
                except Silent as error:
                    await self._rebuild()
                    await self._lost(error, GapCause.LINK_DOWN)
                except NotConnected as error:
                    other = isinstance(error, OtherDevice)
                    await self._lost(error, GapCause.DEVICE_CHANGED if other else GapCause.LINK_DOWN)
                except Exception as error:  # noqa: BLE001 - an adapter's bug must not stop the other sources
                    if self.state.condition != "failing":
                        events.adapter_failed(self._name, error)
                    await self._rebuild()
                    await self._lost(error, GapCause.LINK_DOWN)
        finally:
            await self._discard()

    async def _connect_and_read(self) -> None:
        if self._adapter is None:
            self._adapter = self._build()
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._adapter.connect()
        except TimeoutError:
            raise Silent(f"connect did not return within {CONNECT_S:g} s") from None
        connected_ns = self._now_ns()
        found = continuity(self._adapter)
        if found != "kept":
            self._continuity = found
            self._downtime_kept = False
        self.state.turn("pending", connected_ns)
        await Session(
            self._name,
            self._adapter,
            self._journal,
            self._ledger,
            self.state,
            silence_s=self._options.silence_s(),
            connected_ns=connected_ns,
            back=self._back,
        ).run()

    async def _back(self, to_ns: int) -> None:
        self._waits = backoff_s(self._options.backoff)
        self.state.turn("active", self._now_ns())
        if self._link is not True:
            self._link = True
            events.source_connected(self._name)
            await self._ledger.record(Link(self._name, True))
        await self._ledger.close(to_ns, backfilled=self._continuity == "kept")
        # a gap that the adapter has told meanwhile says that something is missing after all
        kept, self._downtime_kept = self._downtime_kept, False
        if kept and self._adapter is not None and continuity(self._adapter) == "kept":
            await self._ledger.fill_downtime()

    async def _lost(self, error: BaseException, cause: GapCause) -> None:
        """Record the loss once, then wait."""
        reason = str(error) or type(error).__name__
        wait = error.retry_after_s if isinstance(error, NotConnected) else None
        wait = next(self._waits) if wait is None else wait
        self.state.turn("failing", self._now_ns(), reason)
        if self._link is not False:
            self._link = False
            self.state.reconnects += 1
            events.source_lost(self._name, reason, wait)
            await self._ledger.record(Link(self._name, False, reason))
        if self._ledger.outage is None:
            self._note_coverage()
            self._continuity = "kept"
            begin = max(self._started_ns, self.state.last_batch_ns or 0, self._covered_ns)
            # those may lie ahead where this host's clock was set back; the gap would have no length
            await self._ledger.open(cause, min(begin, self._now_ns()), reason)
        elif cause is GapCause.DEVICE_CHANGED:
            await self._ledger.turn(cause, self._now_ns(), reason)
        await self._sleep(wait)

    async def _wait_for_journal(self) -> None:
        """No use in asking a peer for what cannot be kept; it holds it better than we do."""
        while self._journal.refusing and self._journal.running:
            await self._sleep(REFUSED_S)

    async def _ended(self, end: EndOfInput) -> None:
        now = self._now_ns()
        self.state.turn("ended", now)
        events.source_ended(self._name, str(end))
        self._link = False
        await self._ledger.close(now)
        await self._ledger.record(Link(self._name, False, f"{END_OF_INPUT}: {end}" if str(end) else END_OF_INPUT))

    def _note_coverage(self) -> None:
        if self._adapter is not None:
            self._covered_ns = max(self._covered_ns, covered_ns(self._adapter) or 0)

    async def _discard(self) -> None:
        """Close the adapter."""
        self._note_coverage()
        adapter, self._adapter = self._adapter, None
        if adapter is None:
            return
        self.state.publish(adapter.counters, adapter.facts)
        try:
            async with asyncio.timeout(CLOSE_S):
                await adapter.close()
        except TimeoutError:
            events.adapter_failed(self._name, TimeoutError(f"close did not return within {CLOSE_S:g} s"))

    async def _rebuild(self) -> None:
        """Close the adapter, so that the next connect builds a new one, and the gaps that only it could close."""
        await self._discard()
        await self._ledger.close_own(self._now_ns())
