"""
The OPC UA adapter: take over what the server still holds, or begin anew and say what is missing.

A message is acknowledged to the server only after its batch was settled, which is after the journal's commit. What the
server still holds after a lost connection or a restart of ours is fetched again; what it no longer holds becomes a gap.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from asyncua import ua

from adapters.base import AdapterContext, Continuity
from adapters.insecure import refuse_when_over
from adapters.opcua import limits
from adapters.opcua.columns import Columns, Times
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.cyclic import NO_SUBSCRIPTIONS, ReadLoop
from adapters.opcua.decode import time_ns
from adapters.opcua.device_check import DeviceCheck
from adapters.opcua.faults import LINK_ERRORS, describe
from adapters.opcua.handover import Handed, Handover
from adapters.opcua.heartbeat import Heartbeat
from adapters.opcua.history import Backfill
from adapters.opcua.holes import Holes
from adapters.opcua.limits import Limits
from adapters.opcua.link import Link
from adapters.opcua.namespaces import NamespaceMemory
from adapters.opcua.nodes import Addresses, Nodes, indices_of, parse_address
from adapters.opcua.notifiers import Notifiers
from adapters.opcua.pki import Pki
from adapters.opcua.polled import Polled
from adapters.opcua.progress import Ledger
from adapters.opcua.publishing import PublishLoop
from adapters.opcua.refusals import Refusals
from adapters.opcua.structures import Structures
from adapters.opcua.ticket import TicketFile, TicketKeeper, identity
from adapters.opcua.watching import NAMESPACES, Server, Watching, namespaces_of
from schemas import status
from schemas.errors import NotConnected, OtherDevice
from schemas.samples import Delivery, Gap, GapCause

#: All steps of connecting together.
CONNECT_TIMEOUT_S: Final = 30.0
#: Least time between two writes of the state file: a thousand messages a second must not be a thousand files.
STATE_EVERY_S: Final = 0.02

_START_TIME: Final = ua.NodeId(ua.ObjectIds.Server_ServerStatus_StartTime)


class OpcUaAdapter:
    """
    Values of one OPC UA server, as they change.

    Counters: ``publish_responses`` answers of the server, keep-alives among them; ``overflow`` values before which the
    server's queue lost some; ``refused_items`` refusals of an item; ``vanished_items`` watched items whose node went
    away; ``sequence_gaps`` messages that could not be fetched again; ``republished`` messages fetched again;
    ``repeated`` messages sent twice; ``undecodable`` messages that could not be read, ``undecodable_values`` values in
    messages that could; ``general_decoder`` messages that needed the library's decoder, many times the work;
    ``publish_refused`` publish requests that were too many for the server; ``unknown_acknowledgements`` of messages it
    did not hold any more; ``ignored_events`` and ``foreign`` messages that were not asked for; ``resumed`` and
    ``recreated`` connections; ``asked`` signs of life between two keep-alives that the server made rare;
    ``silent_items`` items that are watched and sent no first value, so that the one read at connect stands for it;
    ``confirmed`` rows of tags that had not changed;
    ``identity_mismatches`` connections to another device than the known one, ``firmware_changes`` of the known one;
    ``clock_steps`` times our own clock was set back; ``state_unsaved`` failures to write the file; those of
    :class:`ReadLoop` where the server cannot subscribe; ``history_…`` see :class:`adapters.opcua.history.Backfill`;
    of events see :class:`adapters.opcua.notifiers.Notifiers`.
    """

    def __init__(self, options: OpcUaOptions, context: AdapterContext) -> None:
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {}
        self.covered_ns: int | None = None
        self.continuity: Continuity = "unknown"
        self._options = options
        self._context = context
        self._tags = {tag.number: tag for tag in context.tags}
        named = [*(tag.address for tag in context.tags), *(one.notifier for one in options.events)]
        self._namespaces = NamespaceMemory(context.state_dir, options.endpoint, indices_of(named), self.counters)
        serial = None if options.serial_number is None else parse_address(options.serial_number)
        self._device = DeviceCheck(context.state_dir, context.name, options.endpoint, serial, self.counters, self.facts)
        self._addresses = Addresses(context.tags, self._namespaces.moved, self._namespaces.absent)
        self._ledger = Ledger(
            context.state_dir / "subscriptions.json", self.counters, self._note_covered, STATE_EVERY_S
        )
        self._times = Times(self.counters)
        self._heartbeat = Heartbeat(context, options.heartbeat, self._times.arrival)
        self._limits = Limits()
        file = TicketFile(context.state_dir / "session.json", identity(options, context.name))
        self._session = TicketKeeper(file, self.counters, lasting=options.recover == "transfer")
        self._link: Link | None = None
        self._nodes: Nodes = {}
        self._holes = Holes(context.state_dir / "history.json", context.map_revision, self.counters)
        self._loop_task: asyncio.Task[None] | None = None
        self._fill_task: asyncio.Task[None] | None = None
        self._handover: Handover[Handed | Gap] | None = None
        self._polled: Polled | None = None
        self._refusals = Refusals(context)
        self._why: dict[int, str] = {}
        self._structures = Structures()
        self._notifiers = Notifiers(options, context, self.counters, self.facts, self._namespaces.moved)
        self._watching = Watching(
            options,
            context,
            self._addresses,
            self._ledger,
            self._notifiers,
            self.counters,
            self.facts,
            self._meet,
            self._stand,
        )

    async def connect(self) -> None:
        """
        Open the session, take over what the server still holds or make it anew, and start to publish.

        Raises NotConnected with the step that failed and what to do.
        """
        await self._stop_loop()
        self._drop()
        refuse_when_over(self._options.insecure(), self._context.now_ns, "choose a `security`")
        await asyncio.to_thread(self._ledger.load)
        await asyncio.to_thread(self._namespaces.load)
        await self._session.load()
        if self._options.history.fill == "gaps" and not self._holes.all:
            await asyncio.to_thread(self._holes.load)
        context = self._context
        pki = Pki(context.state_dir / "pki", context.name)
        link = Link(self._options, self._options.uri(context.name), pki, context.base_dir, context.now_ns())
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                opening, resumed = await self._establish(link)
        except (NotConnected, *LINK_ERRORS) as error:
            await link.close()
            if link.ticket_shown and not isinstance(error, OtherDevice):  # it did not help, and would not the next time
                self._session.forget()
            text = str(error) if isinstance(error, NotConnected) else describe(error)
            # a certificate of ours that is new is why a server refuses, and is told once
            remarks = f" ({'; '.join(link.remarks)})" if link.remarks else ""
            kind = OtherDevice if isinstance(error, OtherDevice) else NotConnected
            raise kind(f"{self._options.endpoint}: {link.step}: {text}{remarks}") from error
        except BaseException:
            link.drop()
            raise
        self._link = link
        await self._session.keep(link.ticket)
        first: list[Gap | Columns] = []
        loop: PublishLoop | ReadLoop
        if not resumed:
            self._heartbeat.forget()
        if self._polled is None:
            loop = PublishLoop(
                link,
                self._watching.watches,
                self._options,
                context,
                self._ledger,
                self._times,
                self.counters,
                self._watching.heard,
                self._chores,
                self._notifiers,
                self._heartbeat,
            )
            owed = self._ledger.now.owed
            whole = resumed and owed is None and all(watch.whole for watch in self._watching.watches)
            self.continuity = "kept" if whole else "lost"
            if owed is not None:
                first += self._owed_gaps(owed)
        else:
            loop = ReadLoop(
                link,
                self._polled,
                self._options,
                context,
                self._times,
                self.counters,
                self._limits.read,
                self._chores_of_reading,
                self._heartbeat,
            )
            self.continuity = "unknown"
        if len(opening):
            first.append(opening)
        self._handover = loop.handover
        self._loop_task = asyncio.create_task(loop.run(first), name=f"OPC UA loop of {context.name}")
        self._loop_task.add_done_callback(functools.partial(_pass_on, loop.handover))
        if isinstance(loop, PublishLoop) and self._options.history.fill == "gaps":
            self._start_filling(link, loop)

    async def read(self) -> Delivery | Gap:
        """
        The next message of the server as one batch, or a gap.

        Raises NotConnected when the connection is gone, the server was silent, or a batch was not journalled.
        """
        if self._handover is None:
            raise NotConnected(f"{self._options.endpoint}: not connected")
        item = await self._handover.take()
        if isinstance(item, Gap):
            if item.cause is not GapCause.SERVER_REFUSED:
                self.continuity = "lost"
            return item
        if item.batch.exact:
            self._structures.name(item.batch.exact)
        return Delivery(item.batch, item.settle, item.rejects, item.events)

    async def close(self) -> None:
        """End the session; the server keeps the subscriptions for ``planned_outage``, for the next start."""
        await self._stop_loop()
        self._session.forget()
        link, self._link = self._link, None
        if link is not None:
            self._ledger.save()
            if await link.close():
                self._session.remove()

    def _owed_gaps(self, owed: tuple[int, int, str]) -> list[Gap]:
        """What the server no longer held: of values, and apart from it of events, which no history of values fills."""
        kinds = [False] * bool(self._tags) + [True] * self._notifiers.wanted
        return [self._context.gap(GapCause.SESSION_LOST, (), *owed, events=events) for events in kinds]

    def _start_filling(self, link: Link, loop: PublishLoop) -> None:
        """Fill gaps from the server's history beside the publish loop, which tells of new ones."""
        backfill = Backfill(
            link,
            self._nodes,
            self._options.history,
            self._context,
            self._holes,
            loop.handover,
            self.counters,
            self.facts,
        )
        loop.deliveries.found = backfill.found
        self._fill_task = asyncio.create_task(backfill.run(), name=f"OPC UA history of {self._context.name}")
        self._fill_task.add_done_callback(functools.partial(_pass_on_error, loop.handover))

    async def _chores(self) -> None:
        """What is done between two messages: ask for what was refused or is quiet, and tell what is refused now."""
        await self._watching.retry()
        await self._watching.look()
        await self._tell_refused()

    async def _chores_of_reading(self) -> None:
        """What is done between two reads: tell what is refused now."""
        self._watching.note(self._refused)
        await self._tell_refused()

    async def _tell_refused(self) -> None:
        if self._handover is not None:
            await self._refusals.tell(self._handover, self._refused, self._why)

    @property
    def _refused(self) -> dict[int, int]:
        """Status of each tag that the server does not give on this connection, by number."""
        return self._watching.refused if self._polled is None else self._polled.refused

    async def _meet(self, namespaces: Sequence[str]) -> None:
        """Note what stands at the indices now, and what that means for tags and events."""
        await asyncio.to_thread(self._namespaces.keep, namespaces)
        self.facts["namespaces"] = self._namespaces.fact(namespaces)
        moved = self._namespaces.doubt(namespaces)
        self._why = {status.BAD_CONFIGURATION_ERROR: moved} if moved else {}
        self._notifiers.use(namespaces)

    def _stand(self, values: Iterable[tuple[int, ua.DataValue]]) -> None:
        """
        What the items of subscriptions that were taken over have now; whatever of it is newer than their last value is
        still to come from their queues, and counts then.
        """
        if self._options.heartbeat is not None:
            columns = Columns(self._context.now_ns(), Times())
            columns.extend(values)
            self._heartbeat.learn(columns.rows, asyncio.get_running_loop().time())

    def _note_covered(self, covered_ns: int) -> None:
        self.covered_ns = covered_ns or None

    async def _stop_loop(self) -> None:
        """Stop publishing; what was handed on may still be settled."""
        tasks = [task for task in (self._fill_task, self._loop_task) if task is not None]
        self._fill_task = self._loop_task = self._handover = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ledger.hold()

    def _drop(self) -> None:
        """Cut the connection without ending the session, which the next connection takes up."""
        link, self._link = self._link, None
        if link is not None:
            link.drop()

    async def _establish(self, link: Link) -> tuple[Columns, bool]:
        """Session, namespaces, limits, subscriptions. Returns the first rows, and whether it goes on where it was."""
        own = await link.open(self._session.ticket)
        self.facts["certificate"] = "; ".join(link.remarks) or "no remarks"
        link.step = "namespaces"
        array, started = await link.read([NAMESPACES, _START_TIME], 2)
        namespaces = namespaces_of(array)
        if self._options.identity == "check":
            link.step = "identity"
            await self._device.verify(link, namespaces)
        await self._meet(namespaces)
        nodes = self._nodes = self._addresses.resolve(namespaces)
        server_start = 0 if started.Value is None else time_ns(started.Value.Value)
        link.step = "limits"
        self._limits = Limits.of(await link.read(limits.NODES, len(limits.NODES)), self._options.profile)
        self.facts["limits"] = self._limits.fact()
        await self._learn(link, nodes)
        resumed = False
        self._polled = None
        cyclic = self._options.read == "cyclic"
        if not cyclic:
            try:
                resumed = await self._watching.start(Server(link, self._limits, nodes, server_start, own))
            except ua.UaStatusCodeError as refusal:
                if self._options.read == "subscribe" or refusal.code not in NO_SUBSCRIPTIONS:
                    raise
                self.facts["read"] = f"cyclic, since the server cannot subscribe ({describe(refusal)})"
                cyclic = True
        if cyclic:
            self._polled = Polled(link, nodes, self._addresses, self._options.retry, self._meet)
            self._watching.stop()
            if self._notifiers.wanted:
                self.facts["events"] = "not watched: the source is read, not subscribed to"
        refused = self._refused
        columns = Columns(self._context.now_ns(), self._times)
        for number, code in refused.items():
            columns.refuse(number, code)
        self.counters["refused_items"] += len(refused)
        self._watching.note(refused)
        return columns, resumed

    async def _learn(self, link: Link, nodes: Nodes) -> None:
        """Read what the server tells of its structures; only tags without a type of their own can be one."""
        link.step = "data types"
        self._structures = Structures()
        untyped = [node for number, node in nodes.items() if node is not None and self._tags[number].type is None]
        try:
            await self._structures.learn(link, untyped, self._limits.read)
        except ua.UaStatusCodeError as refusal:
            self.facts["structures"] = f"not described: {describe(refusal)}"
        else:
            self.facts["structures"] = f"{len(self._structures)} described"


def _pass_on_error(handover: Handover[Handed | Gap], task: asyncio.Task[None]) -> None:
    """A task beside the publish loop that fails for a reason of its own ends the hand-over with it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        handover.fail(error)


def _pass_on(handover: Handover[Handed | Gap], task: asyncio.Task[None]) -> None:
    """A publish loop that ends for a reason of its own ends the hand-over with it."""
    if task.cancelled():
        handover.fail(NotConnected("closed"))
    elif (error := task.exception()) is not None:
        handover.fail(error)
