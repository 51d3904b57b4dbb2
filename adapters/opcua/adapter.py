"""
The OPC UA adapter: take over what the server still holds, or begin anew and say what is missing.

A message is acknowledged to the server only after its batch was settled, which is after the journal's commit. What the
server still holds after a lost connection or a restart of ours is fetched again; what it no longer holds becomes a gap.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from asyncua import ua

from adapters.base import AdapterContext, Continuity
from adapters.opcua import limits, subscription
from adapters.opcua.columns import Columns, Times
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.cyclic import NO_SUBSCRIPTIONS, ReadLoop
from adapters.opcua.decode import time_ns
from adapters.opcua.faults import LINK_ERRORS, describe
from adapters.opcua.handover import Handover
from adapters.opcua.history import Backfill
from adapters.opcua.holes import Holes
from adapters.opcua.items import Maker, deadband
from adapters.opcua.limits import Limits
from adapters.opcua.link import Link, Ticket
from adapters.opcua.nodes import NodeAddress, parse_address
from adapters.opcua.notifiers import Notifiers
from adapters.opcua.pki import Pki
from adapters.opcua.progress import Ledger
from adapters.opcua.publishing import Handed, PublishLoop
from adapters.opcua.structures import Structures
from adapters.opcua.subscription import Watch
from schemas import status
from schemas.errors import NotConnected
from schemas.samples import Delivery, Gap, GapCause
from schemas.tagmap import Tag

#: All steps of connecting together.
CONNECT_TIMEOUT_S: Final = 30.0
#: Least time between two writes of the state file: a thousand messages a second must not be a thousand files.
STATE_EVERY_S: Final = 0.02

_NAMESPACES: Final = ua.NodeId(ua.ObjectIds.Server_NamespaceArray)
_START_TIME: Final = ua.NodeId(ua.ObjectIds.Server_ServerStatus_StartTime)
_GONE: Final = (status.BAD_NODE_ID_UNKNOWN, status.BAD_NODE_ID_INVALID)

#: Node id of each tag on this connection; None where the server has no such namespace.
Nodes = dict[int, ua.NodeId | None]


class OpcUaAdapter:
    """
    Values of one OPC UA server, as they change.

    Counters: ``publish_responses`` answers of the server, keep-alives among them; ``overflow`` values before which the
    server's queue lost some; ``refused_items`` refusals of an item; ``sequence_gaps`` messages that could not be
    fetched again; ``republished`` messages fetched again; ``repeated`` messages sent twice; ``undecodable`` messages
    that could not be read, ``undecodable_values`` values in messages that could; ``general_decoder`` messages that
    needed the library's decoder, many times the work;
    ``publish_refused`` publish requests that were too many for the server; ``unknown_acknowledgements`` of messages it
    did not hold any more; ``ignored_events`` and ``foreign`` messages that were not asked for; ``resumed`` and
    ``recreated`` connections; ``asked`` signs of life between two keep-alives that the server made rare;
    ``silent_items`` items that are watched and sent no first value, so that the one read at connect stands for it;
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
        self._addresses: dict[int, NodeAddress] = {tag.number: parse_address(tag.address) for tag in context.tags}
        self._ledger = Ledger(
            context.state_dir / "subscriptions.json", self.counters, self._note_covered, STATE_EVERY_S
        )
        self._times = Times(self.counters)
        self._limits = Limits()
        self._ticket: Ticket | None = None
        self._link: Link | None = None
        self._watches: list[Watch] = []
        self._nodes: Nodes = {}
        self._holes = Holes(context.state_dir / "history.json", context.map_revision, self.counters)
        self._loop_task: asyncio.Task[None] | None = None
        self._fill_task: asyncio.Task[None] | None = None
        self._handover: Handover[Handed | Gap] | None = None
        self._retry_at: dict[int, float] = {}
        self._polled: Nodes | None = None
        self._structures = Structures()
        self._notifiers = Notifiers(options, context, self.counters, self.facts)

    async def connect(self) -> None:
        """
        Open the session, take over what the server still holds or make it anew, and start to publish.

        Raises NotConnected with the step that failed and what to do.
        """
        await self._stop_loop()
        self._drop()
        await asyncio.to_thread(self._ledger.load)
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
            text = str(error) if isinstance(error, NotConnected) else describe(error)
            raise NotConnected(f"{self._options.endpoint}: {link.step}: {text}") from error
        except BaseException:
            link.drop()
            raise
        self._ticket, self._link = link.ticket, link
        first: list[Gap | Columns] = []
        loop: PublishLoop | ReadLoop
        if self._polled is None:
            loop = PublishLoop(
                link,
                self._watches,
                self._options,
                context,
                self._ledger,
                self._times,
                self.counters,
                self._retry_refused,
                self._notifiers,
            )
            owed = self._ledger.now.owed
            whole = resumed and owed is None and all(watch.whole for watch in self._watches)
            self.continuity = "kept" if whole else "lost"
            if owed is not None:
                first += self._owed_gaps(loop, owed)
        else:
            loop = ReadLoop(link, self._polled, self._options, context, self._times, self.counters, self._limits.read)
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
            self.continuity = "lost"
            return item
        if item.batch.exact:
            self._structures.name(item.batch.exact)
        return Delivery(item.batch, item.settle, item.rejects, item.events)

    async def close(self) -> None:
        """End the session; the server keeps the subscriptions for ``planned_outage``, for the next start."""
        await self._stop_loop()
        link, self._link, self._ticket = self._link, None, None
        if link is not None:
            self._ledger.save()
            await link.close()

    def _owed_gaps(self, loop: PublishLoop, owed: tuple[int, int, str]) -> list[Gap]:
        """What the server no longer held: of values, and apart from it of events, which no history of values fills."""
        kinds = [False] * bool(self._tags) + [True] * self._notifiers.wanted
        return [loop.gap(GapCause.SESSION_LOST, owed[0], owed[1], (), owed[2], events=events) for events in kinds]

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
        loop.found = backfill.found
        self._fill_task = asyncio.create_task(backfill.run(), name=f"OPC UA history of {self._context.name}")
        self._fill_task.add_done_callback(functools.partial(_pass_on_error, loop.handover))

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
        ticket, self._ticket = self._ticket, None
        own = await link.open(ticket)
        self.facts["certificate"] = "; ".join(link.remarks) or "no remarks"
        link.step = "namespaces"
        array, started = await link.read([_NAMESPACES, _START_TIME], 2)
        nodes = self._nodes = self._resolve(array, self._tags)
        server_start = 0 if started.Value is None else time_ns(started.Value.Value)
        link.step = "limits"
        self._limits = Limits.of(await link.read(limits.NODES, len(limits.NODES)), self._options.profile)
        self.facts["limits"] = self._limits.fact()
        await self._learn(link, nodes)
        resumed = False
        self._polled = nodes if self._options.read == "cyclic" else None
        if self._polled is None:
            try:
                resumed = await self._subscribe(link, server_start, nodes, own=own)
            except ua.UaStatusCodeError as refusal:
                if self._options.read == "subscribe" or refusal.code not in NO_SUBSCRIPTIONS:
                    raise
                self.facts["read"] = f"cyclic, since the server cannot subscribe ({describe(refusal)})"
                self._polled = nodes
        refused = self._refused()
        if self._polled is not None:
            self._watches = []
            if self._notifiers.wanted:
                self.facts["events"] = "not watched: the source is read, not subscribed to"
            refused = {number: status.BAD_NODE_ID_UNKNOWN for number, node in nodes.items() if node is None}
        columns = Columns(self._context.now_ns(), self._times)
        for number, code in refused.items():
            columns.refuse(number, code)
        self.counters["refused_items"] += len(refused)
        self._note_items(refused)
        self._plan_retries(refused)
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

    async def _subscribe(self, link: Link, server_start: int, nodes: Nodes, *, own: bool) -> bool:
        """Take over the subscriptions of before (True), or make them anew; every item is then watched or refused."""
        link.step = "subscription"
        resumed = await self._resume(link, server_start, nodes, own=own)
        self._watches = resumed or await self._begin(link, server_start, nodes, own=own)
        found = sum(len(watch.tags) for watch in self._watches)
        if found != len(self._tags):
            raise NotConnected(f"{found} of {len(self._tags)} items are watched or refused")
        self.facts["read"] = "subscribed"
        return resumed is not None

    def _resolve(self, array: ua.DataValue, numbers: dict[int, Tag] | dict[int, int]) -> Nodes:
        """Node ids of these tags by the server's namespace array. Raises NotConnected without one."""
        namespaces = None if array.Value is None else array.Value.Value
        if not isinstance(namespaces, list) or not namespaces:
            raise NotConnected("the server does not show its namespaces (i=2255)")
        self._notifiers.use(namespaces)
        return {number: self._addresses[number].resolve(namespaces) for number in numbers}

    async def _resume(self, link: Link, server_start: int, nodes: Nodes, *, own: bool) -> list[Watch] | None:
        """Take over the subscriptions of the last connection; None, with the reason in the facts, where that fails."""
        known = self._ledger.now
        if not known.held:
            return None
        if known.fingerprint != self._fingerprint():
            self.facts["resume"] = "tags or subscription options changed"
            return None
        if known.server_start != server_start:  # ids may mean other subscriptions now
            self.facts["resume"] = "the server was restarted"
            return None
        if not own and self._options.recover == "recreate":
            self.facts["resume"] = "not asked for (`recover: recreate`)"
            return None
        parts = self._parts() + [()] * self._notifiers.wanted
        answer = await subscription.take_over(link, known.held, parts, self.counters, own=own)
        if isinstance(answer, str):
            self.facts["resume"] = f"refused: {answer}"
            return None
        if self._notifiers.wanted:
            answer[-1].events = True
        refused = {number for watch in answer if not watch.events for number in watch.held.refused}
        watched = [node for number, node in nodes.items() if number not in refused and node is not None]
        values = await link.read(watched, self._limits.read)
        gone = len(self._tags) - len(refused) - len(watched) + sum(v.StatusCode.value in _GONE for v in values)
        if gone:
            self.facts["resume"] = f"{gone} nodes are gone"
            return None
        for watch in answer:
            await self._read_opening(link, watch, nodes)
            if watch.events:
                self._notifiers.plan(watch.held)
        self.facts["resume"] = "same session" if own else "transferred"
        self.counters["resumed"] += 1
        return answer

    async def _begin(self, link: Link, server_start: int, nodes: Nodes, *, own: bool) -> list[Watch]:
        """Replace the old subscriptions by new ones, read every item, and note the gap since the last value."""
        stale = self._ledger.begin_anew(server_start)
        await subscription.delete(link, stale, own=own)
        stale.clear()
        maker = Maker(link, self._options, self._limits)
        watches = await subscription.create(link, self._options, self._parts(), nodes, maker, stale)
        if self._notifiers.wanted:
            link.step = "events"
            watches.append(await subscription.create_for_events(link, self._options, self._notifiers, maker, stale))
        link.step = "items"
        # Only now: what changes between a read and the making of its item would be in neither.
        for watch in watches:
            await self._read_opening(link, watch, nodes)
        self.facts.update(maker.granted.facts())
        self.counters["recreated"] += 1
        reason = self.facts.pop("resume", "the server held nothing to take over")
        self._ledger.renew(
            self._fingerprint(), server_start, [watch.held for watch in watches], self._context.now_ns(), reason
        )
        return watches

    async def _read_opening(self, link: Link, watch: Watch, nodes: Nodes) -> None:
        """Read the items of which no value has come yet; :meth:`PublishLoop` decides whether it needs them."""
        unheard = [(number, node) for number in watch.held.unheard if (node := nodes.get(number)) is not None]
        values = await link.read([node for _, node in unheard], self._limits.read)
        watch.opening.update((number, value) for (number, _), value in zip(unheard, values, strict=True))
        sampling_s = max((self._options.sampling_s(self._tags[number].scan_ms) for number, _ in unheard), default=0.0)
        watch.open_at = asyncio.get_running_loop().time() + 2 * self._options.subscription.publishing + sampling_s

    def _parts(self) -> list[Sequence[Tag]]:
        """The tags of each subscription."""
        most = self._limits.per_subscription
        size = self._options.subscription.nodes
        if not self._context.tags and self._notifiers.wanted:
            return []
        return subscription.groups(self._context.tags, min(size, most) if most else size)

    def _fingerprint(self) -> str:
        """Names the items and parameters that a subscription was made with."""
        options = self._options
        asked = [
            options.endpoint,
            options.subscription.model_dump(mode="json"),
            options.planned_outage,
            self._limits.per_subscription,
            self._limits.filters,
            options.deadband,
            [
                (tag.number, tag.address, tag.scan_ms, tag.type, deadband(tag, options.deadband))
                for tag in self._context.tags
            ],
        ]
        if self._notifiers.wanted:
            asked.append(self._notifiers.asked())
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]

    async def _retry_refused(self) -> None:
        """Ask again for the refused items whose time has come; the server may know them now."""
        now = asyncio.get_running_loop().time()
        due = {number: code for number, code in self._refused().items() if self._retry_at.get(number, 0.0) <= now}
        events = [watch for watch in self._watches if watch.events and self._notifiers.due(watch.held)]
        if not (due or events) or self._link is None:
            return
        [array] = await self._link.read([_NAMESPACES], 1)
        nodes = self._resolve(array, due)
        maker = Maker(self._link, self._options, self._limits, len(self._tags) - len(self._refused()))
        for watch in self._watches:
            await maker.add(watch, [tag for tag in watch.tags if tag.number in due], nodes)
            await self._read_opening(self._link, watch, nodes)
        for watch in events:
            await self._notifiers.retry(self._link, watch.held)
        self._plan_retries(due)
        self._note_items(self._refused())
        self._ledger.save()

    def _plan_retries(self, numbers: Iterable[int]) -> None:
        """Start the clock of each of these tags that is refused."""
        now, retry, refused = asyncio.get_running_loop().time(), self._options.retry, self._refused()
        for number in numbers:
            self._retry_at.pop(number, None)
            if number in refused:
                wait_s = retry.invalid_node if refused[number] in _GONE else retry.bad_node
                self._retry_at[number] = now + wait_s

    def _refused(self) -> dict[int, int]:
        """Status of each tag the server does not watch."""
        return {
            number: code for watch in self._watches if not watch.events for number, code in watch.held.refused.items()
        }

    def _note_items(self, refused: dict[int, int]) -> None:
        named = [f"{self._tags[number].path}: {status.name(code)}" for number, code in list(refused.items())[:10]]
        more = f" and {len(refused) - 10} more" if len(refused) > 10 else ""
        self.facts["items"] = f"{len(self._tags) - len(refused)} of {len(self._tags)} watched"
        self.facts["refused"] = "; ".join(named) + more if refused else "none"


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
