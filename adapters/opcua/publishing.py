"""
The publish loop of one connection: every message once and in order, and what is missing fetched again or a gap.

It is ours and not the library's, which acknowledges whatever became of a message (A3), skips one it cannot read without
a trace, never compares sequence numbers (A8), keeps one request in flight (A9), and makes a task per value. Several
requests are in flight here, so that the way to the server does not stop the stream; messages are judged by one consumer
in the order of arrival.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import numpy as np
from asyncua.ua.uaerrors import BadNoSubscription, BadSubscriptionIdInvalid, UaStructParsingError

from adapters.base import AdapterContext
from adapters.opcua import subscription
from adapters.opcua.columns import Columns, Times
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.deliveries import Deliveries
from adapters.opcua.faults import LINK_ERRORS, describe
from adapters.opcua.heartbeat import Heartbeat
from adapters.opcua.link import Link
from adapters.opcua.notifiers import Notifiers
from adapters.opcua.progress import Held, Ledger, ahead, following
from adapters.opcua.requests import Requests
from adapters.opcua.responses import Message
from adapters.opcua.subscription import Watch
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause

#: Messages asked for again when numbers are missing; a larger hole is a gap at once.
_MOST_REPUBLISHED: Final = 1000
#: A server that said nothing for so long is asked for its clock: with the time-out of a request, one that has stopped
#: without closing is noticed within ten seconds, however rare its keep-alives.
ASK_AFTER_S: Final = 4.0


class PublishLoop:
    """
    Fetches messages over one link and hands them on in order (``deliveries``), each at most once per connection.

    *heard* is told of the values of each message, *chores* is awaited after it and once after the opening.
    :meth:`run` ends the ``handover`` with NotConnected.
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
        heard: Callable[[Watch, Columns], None],
        chores: Callable[[], Awaitable[None]],
        notifiers: Notifiers,
        heartbeat: Heartbeat,
    ) -> None:
        self.deliveries = Deliveries(link, options, context, ledger, times, counters, heard, notifiers, heartbeat)
        self.handover = self.deliveries.handover
        self._link = link
        self._watches: Mapping[int, Watch] = {watch.held.subscription_id: watch for watch in watches}
        self._options = options
        self._context = context
        self._ledger = ledger
        self._counters = counters
        self._chores = chores
        self._heartbeat = heartbeat
        self._numbers = {
            watch.held.subscription_id: np.array([tag.number for tag in watch.tags], np.int64) for watch in watches
        }

    async def run(self, opening: Sequence[Gap | Columns]) -> None:
        """Hand on the *opening*, then what the server kept, then what comes, until the connection ends."""
        try:
            for item in opening:
                if isinstance(item, Gap):
                    await self.deliveries.tell(item)
                else:
                    await self.deliveries.batch(item)
            await self._chores()
            for watch in self._watches.values():
                await self._catch_up(watch)
            await self._follow()
        except NotConnected as error:
            self.deliveries.end(str(error))
        except LINK_ERRORS as error:
            self.deliveries.end(f"connection lost: {describe(error)}")

    async def _follow(self) -> None:
        loop, deliveries = asyncio.get_running_loop(), self.deliveries
        requests = Requests(self._link, self._options.subscription.in_flight, deliveries.due, self._counters)
        silence_s = self._silence_s()
        asking_s = min(self._options.silence_s() / 3, ASK_AFTER_S)
        while True:
            asked_at = loop.time()
            try:
                reply = await requests.take(silence_s, asking_s, self._ask)
            except UaStructParsingError:
                self._counters["undecodable"] += 1
                continue  # its number is not known; the hole shows at the next message
            except (BadNoSubscription, BadSubscriptionIdInvalid) as error:
                await deliveries.give_up()
                raise NotConnected(f"the server no longer has the subscription: {describe(error)}") from error
            except NotConnected:
                if not all(watch.alive for watch in self._watches.values()):
                    await deliveries.give_up()  # taken over and never heard: build anew (A1)
                raise
            self._counters["publish_responses"] += 1
            watch = self._watches.get(reply.subscription_id)
            if watch is None:
                self._counters["foreign"] += 1
                if reply.subscription_id:  # a left-over of an earlier connection in this session
                    await subscription.delete(self._link, [reply.subscription_id], own=True)
                continue
            await self._heard(watch, loop.time() - asked_at, silence_s)
            await self._accept(watch, reply.message, behind=reply.more)
            if watch.opening and not reply.more and loop.time() >= watch.open_at:
                await self._open(watch)
            if not reply.more:
                await self._confirm(watch)
            await self._chores()

    async def _open(self, watch: Watch) -> None:
        """
        Hand on what was read at connect of the items that have sent nothing, though their first cycles are over.

        A server owes a first value of each item (Part 4, 5.13.1.4). Where it comes, the value read is not used: it may
        be newer than values that wait in the item's queue, and would make them late.
        """
        if watch.held.unheard:
            await self.deliveries.drained()  # a batch that waits may hold the first value of an item
        opening, watch.opening = watch.opening, {}
        silent = [(tag, opening[tag]) for tag in watch.held.unheard if tag in opening]
        if not silent:
            return
        self._counters["silent_items"] += len(silent)
        await self.deliveries.first_values(watch, silent)

    async def _confirm(self, watch: Watch) -> None:
        """Hand on that nothing changed in the tags of a subscription that was heard just now and holds no more."""
        held, now_s = watch.held, asyncio.get_running_loop().time()
        batch = self._heartbeat.confirm(held.subscription_id, self._numbers[held.subscription_id], held.refused, now_s)
        if batch is not None:
            await self.deliveries.confirmed(batch)

    async def _ask(self) -> None:
        """
        Ask for a sign of life where the server made the keep-alive longer than was asked for.

        Whether the subscription lives is still judged by its own answers alone.
        """
        await self._link.ask()
        self._counters["asked"] += 1

    def _silence_s(self) -> float:
        """Without any answer for so long, the server counts as gone."""
        if self._options.silence_after is not None:
            return self._options.silence_after
        keep_alive_s = max(watch.held.keep_alive_s for watch in self._watches.values())
        return 2 * keep_alive_s + self._options.subscription.publishing

    async def _heard(self, watch: Watch, waited_s: float, silence_s: float) -> None:
        """Count each subscription's silence; only time in which we waited counts, not time the journal took."""
        for other in self._watches.values():
            other.quiet_s += waited_s
            if other.quiet_s > 2 * silence_s and other is not watch:
                await self.deliveries.give_up()
                raise NotConnected(f"subscription {other.held.subscription_id} is silent while others are not")
        watch.quiet_s = 0.0
        watch.alive = True

    async def _catch_up(self, watch: Watch) -> None:
        """Hand on what the server kept for us while we were away."""
        held = watch.held
        for number in watch.available:
            if ahead(number, following(held.last_sequence)) < 0:
                self.deliveries.acknowledge(held, number)
        kept = [n for n in watch.available if ahead(n, following(watch.reached)) >= 0]
        kept.sort(key=lambda n: ahead(n, following(watch.reached)))
        if not watch.backlog and not kept:
            return
        while True:
            kept = [n for n in kept if ahead(n, following(watch.reached)) >= 0]
            if watch.backlog:
                message: Message | None = watch.backlog.pop(0)
            elif kept:
                message = await self._fetch(held, kept.pop(0))
            else:
                message = await self._fetch(held, following(watch.reached))
                if message is None:
                    return
            if message is not None:
                self._counters["republished"] += 1
                await self._accept(watch, message, behind=True)

    async def _accept(self, watch: Watch, message: Message, *, behind: bool) -> None:
        """Check the number of a message, close holes before it, hand its values on; *behind*: more waits there."""
        held, sequence = watch.held, message.sequence
        distance = ahead(sequence, following(watch.reached)) if sequence else 0
        if distance < 0:
            if message.parts:
                self._counters["repeated"] += 1
                if ahead(sequence, following(held.last_sequence)) < 0:
                    self.deliveries.acknowledge(held, sequence)
            return
        if distance:
            await self._close_hole(watch, distance)
        if message.parts:
            await self.deliveries.message(watch, message, behind=behind)
        else:  # a keep-alive; its number is that of the next message
            self.deliveries.quiet(watch)

    async def _close_hole(self, watch: Watch, distance: int) -> None:
        """
        Ask again for messages that did not come; what the server no longer has becomes a gap.

        The ledger passes a lost message only together with its gap, so that a connection or process that ends before
        finds the hole again.
        """
        held = watch.held
        lost = max(0, distance - _MOST_REPUBLISHED)
        asked_for: list[int] = []
        for _ in range(distance - lost):
            sequence = following(watch.reached, lost + 1)
            message = await self._fetch(held, sequence)
            if message is None:
                lost += 1
                asked_for.append(sequence)
                continue
            self._counters["republished"] += 1
            await self._tell_lost(watch, lost)
            lost = 0
            await self.deliveries.message(watch, message, behind=True)
        await self._tell_lost(watch, lost)
        for sequence in asked_for:  # one that cannot be read is still there
            self.deliveries.acknowledge(held, sequence)

    async def _tell_lost(self, watch: Watch, lost: int) -> None:
        """Hand on the gap over the next *lost* messages; returns when it is in the journal."""
        if not lost:
            return
        await self.deliveries.drained()
        now_ns = self._context.now_ns()
        tags = tuple(tag.number for tag in watch.tags) if len(self._watches) > 1 else ()
        since = min(watch.held.covered_ns or now_ns, now_ns)
        last = following(watch.reached, lost)
        detail = f"{lost} messages up to number {last}"
        gap = self._context.gap(GapCause.SEQUENCE_GAP, tags, since, now_ns, detail, events=watch.events)
        await self.deliveries.told(gap)
        self._counters["sequence_gaps"] += lost
        self._ledger.lost(watch.held, last)
        self._heartbeat.forget(tag.number for tag in watch.tags)
        watch.reached = last

    async def _fetch(self, held: Held, sequence: int) -> Message | None:
        return await subscription.republish(self._link, held, sequence, self._counters)
