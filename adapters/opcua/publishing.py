"""
The publish loop of one connection: one PublishResponse, one batch, acknowledged after it was settled.

It is ours and not the library's, which acknowledges whatever became of a message (A3), skips one it cannot read without
a trace, never compares sequence numbers (A8), and makes a task per value.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.ua.uaerrors import BadNoSubscription, BadSubscriptionIdInvalid, BadTimeout, UaStructParsingError

from adapters.base import AdapterContext
from adapters.opcua import subscription
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.decode import Columns, Times
from adapters.opcua.faults import LINK_ERRORS, describe
from adapters.opcua.handover import Handover
from adapters.opcua.link import Link
from adapters.opcua.progress import Held, Ledger, ahead, following
from adapters.opcua.subscription import Watch
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause, SampleBatch

#: Messages asked for again when numbers are missing; a larger hole is a gap at once.
_MOST_REPUBLISHED: Final = 1000
_NS: Final = 1_000_000_000

_CURRENT_TIME: Final = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)

#: (subscription id, sequence number) pairs for the next publish request.
Acks = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch on its way to ``read``, and what settles it."""

    batch: SampleBatch
    settle: Callable[[Exception | None], Awaitable[None]]


class PublishLoop:
    """
    Fetches messages over one link and hands them on in order, each at most once per connection.

    ``chores`` is awaited after each message, between two requests. :meth:`run` ends the hand-over with NotConnected.
    """

    def __init__(
        self,
        link: Link,
        watches: Sequence[Watch],
        options: OpcUaOptions,
        context: AdapterContext,
        ledger: Ledger,
        times: Times,
        counters: Counter[str],
        chores: Callable[[], Awaitable[None]],
    ) -> None:
        self.handover: Handover[Handed | Gap] = Handover()
        self._link = link
        self._watches: Mapping[int, Watch] = {watch.held.subscription_id: watch for watch in watches}
        self._options = options
        self._context = context
        self._ledger = ledger
        self._times = times
        self._counters = counters
        self._chores = chores
        self._tags = frozenset(tag.number for tag in context.tags)
        self._lateness_ns = int(2 * options.subscription.publishing * _NS) + _NS

    async def run(self, opening: Sequence[Gap | Columns]) -> None:
        """Hand on the *opening*, then what the server kept, then what comes, until the connection ends."""
        try:
            for item in opening:
                if isinstance(item, Gap):
                    await self.handover.put(item)
                else:
                    await self._deliver(item, None, 0)
            acks: Acks = []
            for watch in self._watches.values():
                acks += await self._catch_up(watch)
            await self._follow(acks)
        except NotConnected as error:
            self._end(str(error))
        except LINK_ERRORS as error:
            self._end(f"connection lost: {describe(error)}")

    def gap(self, cause: GapCause, from_ns: int, to_ns: int, tags: tuple[int, ...], detail: str) -> Gap:
        """A closed gap of this source."""
        context = self._context
        return Gap(context.name, tags, from_ns, to_ns, cause, map_revision=context.map_revision, detail=detail)

    def _end(self, reason: str) -> None:
        self._link.drop()
        self.handover.fail(NotConnected(f"{self._options.endpoint}: {reason}"))

    async def _follow(self, acks: Acks) -> None:
        loop = asyncio.get_running_loop()
        silence_s = self._silence_s()
        asking_s = self._options.silence_s() / 3  # longer than a keep-alive, unless the server made it longer
        while True:
            asked_at = loop.time()
            try:
                result = await self._link.publish(acks, silence_s, asking_s, self._ask)
            except UaStructParsingError:
                self._counters["undecodable"] += 1
                acks = []  # its number is not known; the hole shows at the next message
                continue
            except BadTimeout:
                acks = []
                continue
            except (BadNoSubscription, BadSubscriptionIdInvalid) as error:
                self._ledger.forget()
                raise NotConnected(f"the server no longer has the subscription: {describe(error)}") from error
            except NotConnected:
                if not all(watch.alive for watch in self._watches.values()):
                    self._ledger.forget()  # taken over and never heard: build anew (A1)
                raise
            acks = []
            self._counters["publish_responses"] += 1
            watch = self._watches.get(result.SubscriptionId)
            if watch is None:
                self._counters["foreign"] += 1
                if result.SubscriptionId:  # a left-over of an earlier connection in this session
                    await subscription.delete(self._link, [result.SubscriptionId], own=True)
                continue
            self._heard(watch, loop.time() - asked_at, silence_s)
            acks = await self._accept(watch, result.NotificationMessage)
            if watch.opening and not result.MoreNotifications and loop.time() >= watch.open_at:
                await self._open(watch)
            await self._chores()

    async def _open(self, watch: Watch) -> None:
        """
        Hand on what was read at connect of the items that have sent nothing, though their first cycles are over.

        A server owes a first value of each item (Part 4, 5.13.1.4). Where it comes, the value read is not used: it may
        be newer than values that wait in the item's queue, and would make them late.
        """
        opening, watch.opening = watch.opening, {}
        silent = [(tag, opening[tag]) for tag in watch.held.unheard if tag in opening]
        if not silent:
            return
        self._counters["silent_items"] += len(silent)
        columns = Columns(self._context.now_ns(), self._times)
        columns.extend(silent)
        await self._deliver(columns, watch.held, watch.held.last_sequence)

    async def _ask(self) -> None:
        """
        Read the server's clock: a sign of life where the server made the keep-alive longer than was asked for.

        Whether the subscription lives is still judged by its own answers alone.
        """
        await self._link.read([_CURRENT_TIME], 1)
        self._counters["asked"] += 1

    def _silence_s(self) -> float:
        """Without any answer for so long, the server counts as gone."""
        if self._options.silence_after is not None:
            return self._options.silence_after
        keep_alive_s = max(watch.held.keep_alive_s for watch in self._watches.values())
        return 2 * keep_alive_s + self._options.subscription.publishing

    def _heard(self, watch: Watch, waited_s: float, silence_s: float) -> None:
        """Count each subscription's silence; only time in which we waited counts, not time the journal took."""
        for other in self._watches.values():
            other.quiet_s += waited_s
            if other.quiet_s > 2 * silence_s and other is not watch:
                self._ledger.forget()
                raise NotConnected(f"subscription {other.held.subscription_id} is silent while others are not")
        watch.quiet_s = 0.0
        watch.alive = True

    async def _catch_up(self, watch: Watch) -> Acks:
        """Hand on what the server kept for us while we were away. Returns the acknowledgements."""
        held = watch.held
        acks = [(held.subscription_id, n) for n in watch.available if ahead(n, following(held.last_sequence)) < 0]
        kept = [n for n in watch.available if ahead(n, following(held.last_sequence)) >= 0]
        kept.sort(key=lambda n: ahead(n, following(held.last_sequence)))
        if not watch.backlog and not kept:
            return acks
        while True:
            kept = [n for n in kept if ahead(n, following(held.last_sequence)) >= 0]
            if watch.backlog:
                message = watch.backlog.pop(0)
            elif kept:
                message = await self._fetch(held, kept.pop(0))
            else:
                message = await self._fetch(held, following(held.last_sequence))
                if message is None:
                    return acks
            if message is not None:
                self._counters["republished"] += 1
                acks += await self._accept(watch, message)

    async def _accept(self, watch: Watch, message: Any) -> Acks:
        """Check the number of a message, close holes before it, hand its values on. Returns the acknowledgements."""
        held = watch.held
        sequence = int(message.SequenceNumber)
        distance = ahead(sequence, following(held.last_sequence)) if sequence else 0
        if distance < 0:
            if not message.NotificationData:
                return []
            self._counters["repeated"] += 1
            return [(held.subscription_id, sequence)]
        acks = await self._close_hole(watch, distance) if distance else []
        if message.NotificationData:
            await self._hand_on(watch, message)
            acks.append((held.subscription_id, sequence))
        else:  # a keep-alive; its number is that of the next message
            self._ledger.quiet(held, self._context.now_ns() - self._lateness_ns)
        return acks

    async def _close_hole(self, watch: Watch, distance: int) -> Acks:
        """
        Ask again for messages that did not come; what the server no longer has becomes a gap.

        The ledger passes a lost message only together with its gap, so that a connection or process that ends before
        finds the hole again.
        """
        held = watch.held
        acks: Acks = []
        lost = max(0, distance - _MOST_REPUBLISHED)
        for _ in range(distance - lost):
            sequence = following(held.last_sequence, lost + 1)
            message = await self._fetch(held, sequence)
            acks.append((held.subscription_id, sequence))
            if message is None:
                lost += 1
                continue
            self._counters["republished"] += 1
            await self._tell_lost(watch, lost)
            lost = 0
            await self._hand_on(watch, message)
        await self._tell_lost(watch, lost)
        return acks

    async def _tell_lost(self, watch: Watch, lost: int) -> None:
        """Hand on the gap over the next *lost* messages; returns when it is in the journal."""
        if not lost:
            return
        now_ns = self._context.now_ns()
        tags = tuple(tag.number for tag in watch.tags) if len(self._watches) > 1 else ()
        since = min(watch.held.covered_ns or now_ns, now_ns)
        last = following(watch.held.last_sequence, lost)
        detail = f"{lost} messages up to number {last}"
        await self.handover.put(self.gap(GapCause.SEQUENCE_GAP, since, now_ns, tags, detail))
        await self.handover.finished()  # a gap is durable before the runner reads again
        self._counters["sequence_gaps"] += lost
        self._ledger.lost(watch.held, last)

    async def _fetch(self, held: Held, sequence: int) -> Any | None:
        return await subscription.republish(self._link, held, sequence, self._counters)

    async def _hand_on(self, watch: Watch, message: Any) -> None:
        """The values of one message as one batch; returns when it is settled."""
        columns = Columns(self._context.now_ns(), self._times)
        tags = self._tags
        for part in message.NotificationData:
            if isinstance(part, ua.DataChangeNotification):
                items = part.MonitoredItems or ()
                columns.extend((item.ClientHandle, item.Value) for item in items if item.ClientHandle in tags)
            elif isinstance(part, ua.StatusChangeNotification):
                self._ledger.forget()
                raise NotConnected(f"the server ended the subscription: {part.Status.name}")
            else:
                self._counters["ignored_events"] += 1
        await self._deliver(columns, watch.held, int(message.SequenceNumber))

    async def _deliver(self, columns: Columns, held: Held | None, sequence: int) -> None:
        """Hand a batch over and wait until it is settled. Raises NotConnected when it was not journalled."""
        hole = columns.hole(held.covered_ns if held is not None else 0)
        if hole is not None:
            self._counters["overflow"] += columns.overflowed
            detail = f"the server's queue overflowed for {len(hole.tags)} tags"
            await self.handover.put(self.gap(GapCause.QUEUE_OVERFLOW, hole.from_ns, hole.to_ns, hole.tags, detail))
        generation, covered_ns = self._ledger.generation, self._covered_ns(columns)

        def noted() -> None:
            columns.remember()
            if held is not None:
                held.hear(columns.tags)
            self._ledger.settled(generation, held, sequence, covered_ns)

        if not len(columns):
            noted()
            return
        settled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        async def settle(error: Exception | None) -> None:
            if error is None:
                noted()
            if not settled.done():
                settled.set_result(error)

        await self.handover.put(Handed(columns.batch(self._context.name, self._context.map_revision), settle))
        error = await settled
        if error is not None:
            raise NotConnected(f"a batch was not journalled, and so not acknowledged: {error}")

    def _covered_ns(self, columns: Columns) -> int:
        """
        Up to when data is complete once this batch is journalled, on our clock.

        The latest source time, where the device clock makes sense: not after reception, and not longer before it than
        a busy server may publish late. A gap that begins there may overlap complete data by so much, and misses none.
        """
        return min(max(columns.latest_ns, columns.received_ns - self._lateness_ns), columns.received_ns)
