"""
What a subscription told, on its way to the journal: a message is a batch, and is acknowledged after it was settled.

Several batches may be unsettled at once, so that a slow disk does not stop the stream; they are noted in their order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from asyncua import ua

from adapters.base import AdapterContext
from adapters.opcua.columns import Columns, Times
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.event_reader import Told
from adapters.opcua.event_wire import EventList
from adapters.opcua.handover import Handed, Handover
from adapters.opcua.heartbeat import Heartbeat
from adapters.opcua.link import Link
from adapters.opcua.notifiers import Notifiers
from adapters.opcua.progress import Held, Ledger
from adapters.opcua.requests import Acks
from adapters.opcua.responses import Message
from adapters.opcua.rows import Rows
from adapters.opcua.subscription import Watch
from adapters.opcua.window import Window
from schemas.errors import NotConnected
from schemas.samples import Gap, GapCause, SampleBatch

#: Batches that may wait for the journal; a commit may take a second (delivery contract).
_MOST_UNSETTLED: Final = 32
_NS: Final = 1_000_000_000


class Deliveries:
    """
    Hands on the values, events and gaps of one connection, and notes in the *ledger* what was settled.

    *heard* is told of the values of each message, ``found`` of each gap before it is handed on. Every method that hands
    on raises NotConnected after a batch that was not journalled, or what else ended the ``handover``.
    """

    def __init__(
        self,
        link: Link,
        options: OpcUaOptions,
        context: AdapterContext,
        ledger: Ledger,
        times: Times,
        counters: Counter[str],
        heard: Callable[[Watch, Columns], None],
        notifiers: Notifiers,
        heartbeat: Heartbeat,
    ) -> None:
        self.handover: Handover[Handed | Gap] = Handover()
        self.found: Callable[[Gap], None] = lambda _: None
        self._link = link
        self._endpoint = options.endpoint
        self._context = context
        self._ledger = ledger
        self._times = times
        self._counters = counters
        self._heard = heard
        self._notifiers = notifiers
        self._heartbeat = heartbeat
        self._places = {tag.number: tag.address for tag in context.tags}
        self._known = np.zeros(max(self._places, default=0) + 1, np.bool_)
        self._known[list(self._places)] = True
        self._lateness_ns = int(2 * options.subscription.publishing * _NS) + _NS
        self._window: Window[Columns] = Window(_MOST_UNSETTLED, self._refused)
        self._acks: Acks = []

    def end(self, reason: str, *, at_once: bool = False) -> None:
        """End connection and hand-over, *at_once* also before what was not taken yet."""
        self._link.drop()
        self.handover.fail(NotConnected(f"{self._endpoint}: {reason}"), at_once=at_once)

    async def drained(self) -> None:
        """Wait until everything that was handed on is settled."""
        await self._window.drained()

    async def give_up(self) -> None:
        """Forget the subscriptions, after what came of them is in the journal."""
        await self._window.drained()
        self._ledger.forget()

    def acknowledge(self, held: Held, sequence: int) -> None:
        """A message of which nothing is to be handed on: it was before, or is lost and its gap was told."""
        self._acks.append((held.subscription_id, sequence))

    def due(self) -> Acks:
        """What may be acknowledged, once each: never more than the file knows of."""
        if not self._acks or not self._ledger.written():
            return []
        acks, self._acks = self._acks, []
        return acks

    async def tell(self, gap: Gap) -> None:
        """Hand on a gap."""
        self.found(gap)
        await self.handover.put(gap)

    async def told(self, gap: Gap) -> None:
        """Hand on a gap; returns when it is in the journal: it is durable before the runner reads again."""
        self.found(gap)
        await self.handover.told(gap)

    def quiet(self, watch: Watch) -> None:
        """The server said that there is nothing new: data is complete up to now once all before is settled."""
        held, covered_ns = watch.held, self._context.now_ns() - self._lateness_ns
        self._window.after(lambda: self._ledger.quiet(held, covered_ns))

    async def first_values(self, watch: Watch, rows: Sequence[tuple[int, ua.DataValue]]) -> None:
        """Hand on values that were read of items which have sent none: (tag number, value)."""
        columns = Columns(self._context.now_ns(), self._times)
        columns.extend(rows)
        await self.batch(columns, watch)

    async def message(self, watch: Watch, message: Message, *, behind: bool) -> None:
        """The values and events of one message as one batch; *behind*: more waits at the server."""
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
                await self.give_up()
                raise NotConnected(f"the server ended the subscription: {part.Status.name}")
            else:
                self._counters["ignored_events"] += 1
        self._counters["general_decoder"] += message.general
        if len(columns):
            self._heard(watch, columns)
        if watch.events or told.foreign:
            await self._note_events(watch, told, columns.received_ns)
        await self.batch(columns, watch, message.sequence, told, behind=behind)

    async def _note_events(self, watch: Watch, told: Told, received_ns: int) -> None:
        """Count what a message told; what the server's queue of events lost becomes a gap before it."""
        self._notifiers.count(told)
        if told.overflowed:
            since = min(watch.held.covered_ns or received_ns, received_ns)
            detail = f"the server's queue of events overflowed: {', '.join(sorted(set(told.overflowed)))}"
            gap = self._context.gap(GapCause.QUEUE_OVERFLOW, (), since, received_ns, detail, events=True)
            await self.tell(gap)

    def _ours(self, rows: Rows) -> Rows:
        """The rows of tags that we have."""
        known = self._known
        if len(rows) and int(rows.tag.max()) < len(known):
            mine = known[rows.tag]
        else:
            mine = (rows.tag < len(known)) & known[np.minimum(rows.tag, len(known) - 1)]
        return rows if mine.all() else rows.take(mine)

    async def batch(
        self,
        columns: Columns,
        watch: Watch | None = None,
        sequence: int | None = None,
        told: Told | None = None,
        *,
        behind: bool = False,
    ) -> None:
        """
        Hand a batch over; returns before it is settled.

        *sequence* is the message that it came in; None for values that were read. *behind*: the server holds more, of
        any age and of any item, so that the batch says nothing about up to when data is complete.
        """
        await self._window.room()
        held = None if watch is None else watch.held
        hole = columns.hole(held.covered_ns if held is not None else 0, self._window)
        if hole is not None:
            self._counters["overflow"] += columns.overflowed
            detail = f"the server's queue overflowed for {len(hole.tags)} tags"
            gap = self._context.gap(GapCause.QUEUE_OVERFLOW, hole.tags, hole.from_ns, hole.to_ns, detail)
            await self.tell(gap)
        generation, covered_ns = self._ledger.generation, 0 if behind else self._covered_ns(columns)

        def noted() -> None:
            columns.remember()
            if held is None or sequence is None:
                number = 0 if held is None else held.last_sequence
            else:
                number = sequence
                self._acks.append((held.subscription_id, sequence))
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

    async def confirmed(self, batch: SampleBatch) -> None:
        """
        Hand on rows of tags that had not changed.

        They are no values of the server: neither what is complete nor what was lost goes by them.
        """
        await self._window.room()
        self._counters["confirmed"] += len(batch)
        settle = self._window.add(Columns(batch.received_ns, self._times), _nothing)
        await self.handover.put(Handed(batch, settle))

    def _refused(self, error: Exception) -> None:
        """A batch was not journalled: what was not taken yet must not overtake it."""
        self.end(f"a batch was not journalled, and so not acknowledged: {error}", at_once=True)

    def _covered_ns(self, columns: Columns) -> int:
        """
        Up to when data is complete once this batch is journalled, on our clock.

        The latest source time, where the device clock makes sense: not after reception, and not longer before it than
        a busy server may publish late. A gap that begins there may overlap complete data by so much, and misses none.
        """
        return min(max(columns.latest_ns, columns.received_ns - self._lateness_ns), columns.received_ns)


def _nothing() -> None:
    """What is noted of a batch that the server knows nothing of."""
