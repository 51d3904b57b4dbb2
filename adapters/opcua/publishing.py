"""
The publish loop of one connection: one message, one batch, acknowledged after it was settled.

It is ours and not the library's, which acknowledges whatever became of a message (A3), skips one it cannot read without
a trace, never compares sequence numbers (A8), keeps one request in flight (A9), and makes a task per value. Several
requests are in flight here and several batches unsettled, so that neither the way to the server nor a slow disk stops
the stream; messages are judged by one consumer in the order of arrival, and batches are noted in their order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from asyncua import ua
from asyncua.ua.uaerrors import BadNoSubscription, BadSubscriptionIdInvalid, UaStructParsingError

from adapters.base import AdapterContext
from adapters.opcua import subscription
from adapters.opcua.columns import Columns, Times
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.event_reader import Told
from adapters.opcua.event_wire import EventList
from adapters.opcua.faults import LINK_ERRORS, describe
from adapters.opcua.handover import Handover
from adapters.opcua.heartbeat import Heartbeat
from adapters.opcua.link import Link
from adapters.opcua.notifiers import Notifiers
from adapters.opcua.progress import Held, Ledger, ahead, following
from adapters.opcua.requests import Acks, Requests
from adapters.opcua.responses import Message
from adapters.opcua.subscription import Watch
from adapters.opcua.window import Window
from adapters.opcua.wire import Rows
from schemas.alarms import Event
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause, Reject, SampleBatch

#: Messages asked for again when numbers are missing; a larger hole is a gap at once.
_MOST_REPUBLISHED: Final = 1000
_NS: Final = 1_000_000_000
#: A server that said nothing for so long is asked for its clock: with the time-out of a request, one that has stopped
#: without closing is noticed within ten seconds, however rare its keep-alives.
ASK_AFTER_S: Final = 4.0

_CURRENT_TIME: Final = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)

#: Batches that may wait for the journal; a commit may take a second (delivery contract).
_MOST_UNSETTLED: Final = 32


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch on its way to ``read``, what was refused and what happened beside it, and what settles all of it."""

    batch: SampleBatch
    settle: Callable[[Exception | None], Awaitable[None]]
    rejects: tuple[Reject, ...] = ()
    events: tuple[Event, ...] = ()


class PublishLoop:
    """
    Fetches messages over one link and hands them on in order, each at most once per connection.

    ``heard`` is told of the values of each message, ``chores`` is awaited after it and once after the opening,
    ``found`` is told of each gap before it is handed on. :meth:`run` ends the hand-over with NotConnected.
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
        found: Callable[[Gap], None] = lambda _: None,
    ) -> None:
        self.handover: Handover[Handed | Gap] = Handover()
        self._link = link
        self._watches: Mapping[int, Watch] = {watch.held.subscription_id: watch for watch in watches}
        self._options = options
        self._context = context
        self._ledger = ledger
        self._times = times
        self._counters = counters
        self._heard_values = heard
        self._chores = chores
        self._notifiers = notifiers
        self._heartbeat = heartbeat
        self._numbers = {
            watch.held.subscription_id: np.array([tag.number for tag in watch.tags], np.int64) for watch in watches
        }
        self.found = found
        self._places = {tag.number: tag.address for tag in context.tags}
        self._tags = frozenset(self._places)
        self._known = np.zeros(max(self._tags, default=0) + 1, np.bool_)
        self._known[list(self._tags)] = True
        self._lateness_ns = int(2 * options.subscription.publishing * _NS) + _NS
        self._window: Window[Columns] = Window(_MOST_UNSETTLED, self._refused)
        self._settled: Acks = []

    async def run(self, opening: Sequence[Gap | Columns]) -> None:
        """Hand on the *opening*, then what the server kept, then what comes, until the connection ends."""
        try:
            for item in opening:
                if isinstance(item, Gap):
                    self.found(item)
                    await self.handover.put(item)
                else:
                    await self._deliver(item, None, None)
            await self._chores()
            for watch in self._watches.values():
                await self._catch_up(watch)
            await self._follow()
        except NotConnected as error:
            self._end(str(error))
        except LINK_ERRORS as error:
            self._end(f"connection lost: {describe(error)}")

    def gap(
        self, cause: GapCause, from_ns: int, to_ns: int, tags: tuple[int, ...], detail: str, *, events: bool = False
    ) -> Gap:
        """A closed gap of this source."""
        name, revision = self._context.name, self._context.map_revision
        return Gap(name, tags, from_ns, to_ns, cause, map_revision=revision, detail=detail, events=events)

    def _end(self, reason: str, *, at_once: bool = False) -> None:
        self._link.drop()
        self.handover.fail(NotConnected(f"{self._options.endpoint}: {reason}"), at_once=at_once)

    def _refused(self, error: Exception) -> None:
        """A batch was not journalled: what was not taken yet must not overtake it."""
        self._end(f"a batch was not journalled, and so not acknowledged: {error}", at_once=True)

    def _due(self) -> Acks:
        """What may be acknowledged: never more than the file knows of."""
        if not self._settled or not self._ledger.written():
            return []
        acks, self._settled = self._settled, []
        return acks

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        requests = Requests(self._link, self._options.subscription.in_flight, self._due, self._counters)
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
                await self._give_up()
                raise NotConnected(f"the server no longer has the subscription: {describe(error)}") from error
            except NotConnected:
                if not all(watch.alive for watch in self._watches.values()):
                    await self._give_up()  # taken over and never heard: build anew (A1)
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
            await self._window.drained()  # a batch that waits may hold the first value of an item
        opening, watch.opening = watch.opening, {}
        silent = [(tag, opening[tag]) for tag in watch.held.unheard if tag in opening]
        if not silent:
            return
        self._counters["silent_items"] += len(silent)
        columns = Columns(self._context.now_ns(), self._times)
        columns.extend(silent)
        await self._deliver(columns, watch, None)

    async def _confirm(self, watch: Watch) -> None:
        """
        Hand on that nothing changed in the tags of a subscription that was heard just now and holds no more.

        Such rows are no values of the server: neither what is complete nor what was lost goes by them.
        """
        held, now_s = watch.held, asyncio.get_running_loop().time()
        batch = self._heartbeat.confirm(held.subscription_id, self._numbers[held.subscription_id], held.refused, now_s)
        if batch is None:
            return
        await self._window.room()
        self._counters["confirmed"] += len(batch)
        settle = self._window.add(Columns(batch.received_ns, self._times), _nothing)
        await self.handover.put(Handed(batch, settle))

    async def _give_up(self) -> None:
        """Forget the subscriptions, after what came of them is in the journal."""
        await self._window.drained()
        self._ledger.forget()

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

    async def _heard(self, watch: Watch, waited_s: float, silence_s: float) -> None:
        """Count each subscription's silence; only time in which we waited counts, not time the journal took."""
        for other in self._watches.values():
            other.quiet_s += waited_s
            if other.quiet_s > 2 * silence_s and other is not watch:
                await self._give_up()
                raise NotConnected(f"subscription {other.held.subscription_id} is silent while others are not")
        watch.quiet_s = 0.0
        watch.alive = True

    async def _catch_up(self, watch: Watch) -> None:
        """Hand on what the server kept for us while we were away."""
        held = watch.held
        for number in watch.available:
            if ahead(number, following(held.last_sequence)) < 0:
                self._settled.append((held.subscription_id, number))
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
                    self._settled.append((held.subscription_id, sequence))
            return
        if distance:
            await self._close_hole(watch, distance)
        if message.parts:
            await self._hand_on(watch, message, behind=behind)
        else:  # a keep-alive; its number is that of the next message
            covered_ns = self._context.now_ns() - self._lateness_ns
            self._window.after(lambda: self._ledger.quiet(held, covered_ns))

    async def _close_hole(self, watch: Watch, distance: int) -> None:
        """
        Ask again for messages that did not come; what the server no longer has becomes a gap.

        The ledger passes a lost message only together with its gap, so that a connection or process that ends before
        finds the hole again.
        """
        held = watch.held
        lost = max(0, distance - _MOST_REPUBLISHED)
        asked_for: Acks = []
        for _ in range(distance - lost):
            sequence = following(watch.reached, lost + 1)
            message = await self._fetch(held, sequence)
            if message is None:
                lost += 1
                asked_for.append((held.subscription_id, sequence))
                continue
            self._counters["republished"] += 1
            await self._tell_lost(watch, lost)
            lost = 0
            await self._hand_on(watch, message, behind=True)
        await self._tell_lost(watch, lost)
        self._settled += asked_for  # one that cannot be read is still there

    async def _tell_lost(self, watch: Watch, lost: int) -> None:
        """Hand on the gap over the next *lost* messages; returns when it is in the journal."""
        if not lost:
            return
        await self._window.drained()
        now_ns = self._context.now_ns()
        tags = tuple(tag.number for tag in watch.tags) if len(self._watches) > 1 else ()
        since = min(watch.held.covered_ns or now_ns, now_ns)
        last = following(watch.reached, lost)
        detail = f"{lost} messages up to number {last}"
        gap = self.gap(GapCause.SEQUENCE_GAP, since, now_ns, tags, detail, events=watch.events)
        self.found(gap)
        await self.handover.told(gap)  # a gap is durable before the runner reads again
        self._counters["sequence_gaps"] += lost
        self._ledger.lost(watch.held, last)
        self._heartbeat.forget(tag.number for tag in watch.tags)
        watch.reached = last

    async def _fetch(self, held: Held, sequence: int) -> Message | None:
        return await subscription.republish(self._link, held, sequence, self._counters)

    async def _hand_on(self, watch: Watch, message: Message, *, behind: bool) -> None:
        """The values and events of one message as one batch."""
        columns, told = Columns(self._context.now_ns(), self._times), Told()
        for part in message.parts:
            if isinstance(part, Rows):
                columns.add(self._ours(part))
            elif isinstance(part, EventList):
                await self._notifiers.learn(self._link, part)
                self._notifiers.read(part, watch.held, told, columns.received_ns)
            elif isinstance(part, ua.StatusChangeNotification):
                if part.Status.is_good():  # told of a transfer, meant for the session that it was taken from
                    continue
                await self._give_up()
                raise NotConnected(f"the server ended the subscription: {part.Status.name}")
            else:
                self._counters["ignored_events"] += 1
        self._counters["general_decoder"] += message.general
        if len(columns):
            self._heard_values(watch, columns)
        if watch.events or told.foreign:
            await self._note_events(watch, told, columns.received_ns)
        await self._deliver(columns, watch, message.sequence, told, behind=behind)

    async def _note_events(self, watch: Watch, told: Told, received_ns: int) -> None:
        """Count what a message told; what the server's queue of events lost becomes a gap before it."""
        self._notifiers.count(told)
        if told.overflowed:
            since = min(watch.held.covered_ns or received_ns, received_ns)
            detail = f"the server's queue of events overflowed: {', '.join(sorted(set(told.overflowed)))}"
            await self.handover.put(self.gap(GapCause.QUEUE_OVERFLOW, since, received_ns, (), detail, events=True))

    def _ours(self, rows: Rows) -> Rows:
        """The rows of tags that we have."""
        known = self._known
        if len(rows) and int(rows.tag.max()) < len(known):
            mine = known[rows.tag]
        else:
            mine = (rows.tag < len(known)) & known[np.minimum(rows.tag, len(known) - 1)]
        return rows if mine.all() else rows.take(mine)

    async def _deliver(
        self,
        columns: Columns,
        watch: Watch | None,
        sequence: int | None,
        told: Told | None = None,
        *,
        behind: bool = False,
    ) -> None:
        """
        Hand a batch over; returns before it is settled. Raises NotConnected after one that was not journalled.

        *sequence* is the message that it came in; None for values that were read. *behind*: the server holds more, of
        any age and of any item, so that the batch says nothing about up to when data is complete.
        """
        await self._window.room()
        held = None if watch is None else watch.held
        hole = columns.hole(held.covered_ns if held is not None else 0, self._window)
        if hole is not None:
            self._counters["overflow"] += columns.overflowed
            detail = f"the server's queue overflowed for {len(hole.tags)} tags"
            gap = self.gap(GapCause.QUEUE_OVERFLOW, hole.from_ns, hole.to_ns, hole.tags, detail)
            self.found(gap)
            await self.handover.put(gap)
        generation, covered_ns = self._ledger.generation, 0 if behind else self._covered_ns(columns)

        def noted() -> None:
            columns.remember()
            if held is None or sequence is None:
                number = 0 if held is None else held.last_sequence
            else:
                number = sequence
                self._settled.append((held.subscription_id, sequence))
            if held is not None and held.unheard:
                held.hear(columns.tags)
            self._ledger.settled(generation, held, number, covered_ns)

        if watch is not None and sequence is not None:
            watch.reached = sequence
        rejects, happened = (tuple(told.rejects), tuple(told.events)) if told is not None else ((), ())
        if len(columns) or rejects or happened:
            settle = self._window.add(columns, noted)
            undecodable = columns.rejects(self._context.name, self._places)
            self._counters["undecodable_values"] += len(undecodable)
            batch = columns.batch(self._context.name, self._context.map_revision)
            self._heartbeat.note(columns.rows, asyncio.get_running_loop().time())
            await self.handover.put(Handed(batch, settle, (*undecodable, *rejects), happened))
        else:
            self._window.after(noted)

    def _covered_ns(self, columns: Columns) -> int:
        """
        Up to when data is complete once this batch is journalled, on our clock.

        The latest source time, where the device clock makes sense: not after reception, and not longer before it than
        a busy server may publish late. A gap that begins there may overlap complete data by so much, and misses none.
        """
        return min(max(columns.latest_ns, columns.received_ns - self._lateness_ns), columns.received_ns)


def _nothing() -> None:
    """What is noted of a batch that the server knows nothing of."""
