"""
The items of a source on one connection after another: what the server still holds is taken over, else made anew.

Every tag is then in one of the subscriptions, watched or refused; what is refused is asked for again from time to time.
So is a tag whose node went away while it was watched: a server that adds the node again need not go on with its item.
Servers that send no status then are found out by a read of what has been quiet for long.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from asyncua import ua

from adapters.base import AdapterContext
from adapters.opcua import subscription
from adapters.opcua.columns import Columns
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.items import Maker, deadband
from adapters.opcua.limits import Limits
from adapters.opcua.link import Link
from adapters.opcua.nodes import Addresses, Nodes
from adapters.opcua.notifiers import Notifiers
from adapters.opcua.progress import Ledger
from adapters.opcua.retries import GONE, RetryClock
from adapters.opcua.subscription import Watch
from schemas import status
from schemas.errors import NotConnected
from schemas.tagmap import Tag

NAMESPACES: Final = ua.NodeId(ua.ObjectIds.Server_NamespaceArray)


def namespaces_of(array: ua.DataValue) -> list[str]:
    """The namespace URIs in the order of their indices. Raises NotConnected where the server shows none."""
    namespaces = None if array.Value is None else array.Value.Value
    if not isinstance(namespaces, list) or not namespaces:
        raise NotConnected("the server does not show its namespaces (i=2255)")
    return namespaces


@dataclass(frozen=True, slots=True)
class Server:
    """
    The server of one connection: its limits, and the nodes of our tags as it numbers them.

    ``start_ns`` is when it was started, 0 where it does not say. ``own``: the session is the last one.
    """

    link: Link
    limits: Limits
    nodes: Nodes
    start_ns: int
    own: bool


class Watching:
    """
    The subscriptions of one source. ``watches`` are those of the present connection; *met* is awaited with each
    namespace array that is read here.

    Counters: ``resumed`` and ``recreated`` connections, ``vanished_items`` whose node went away, ``quiet_items`` that
    were read since they had sent nothing for ``retry.invalid_node``. Facts: ``read``, ``items``, ``refused``,
    ``resume``, and what the server made of intervals, queues and deadbands.
    """

    def __init__(
        self,
        options: OpcUaOptions,
        context: AdapterContext,
        addresses: Addresses,
        ledger: Ledger,
        notifiers: Notifiers,
        counters: Counter[str],
        facts: dict[str, str],
        met: Callable[[Sequence[str]], Awaitable[None]],
        stood: Callable[[Iterable[tuple[int, ua.DataValue]]], None] = lambda _: None,
    ) -> None:
        self.watches: list[Watch] = []
        self._options = options
        self._context = context
        self._tags = {tag.number: tag for tag in context.tags}
        self._addresses = addresses
        self._ledger = ledger
        self._notifiers = notifiers
        self._counters = counters
        self._facts = facts
        self._met = met
        self._stood = stood
        self._clock = RetryClock(options.retry)
        self._server: Server | None = None
        self._seen = np.zeros(max(self._tags, default=0) + 1, np.bool_)  # sent something since the last look
        self._quiet: list[tuple[Watch, int]] = []
        self._look_at = 0.0

    async def start(self, server: Server) -> bool:
        """
        Take over the subscriptions of before (True), or make them anew; every item is then watched or refused.

        Raises link errors, and NotConnected where the server did not answer for every item.
        """
        server.link.step = "subscription"
        resumed = await self._resume(server)
        self.watches = resumed or await self._begin(server)
        found = sum(len(watch.tags) for watch in self.watches)
        if found != len(self._tags):
            raise NotConnected(f"{found} of {len(self._tags)} items are watched or refused")
        self._server = server
        self._seen[:] = False
        self._quiet, self._look_at = [], asyncio.get_running_loop().time() + self._options.retry.invalid_node
        self._facts["read"] = "subscribed"
        refused = self.refused
        in_doubt = {n for n, code in refused.items() if code == status.BAD_CONFIGURATION_ERROR}
        at_once = {n for n in in_doubt if server.nodes[n] is not None}  # a person has said that the namespace is right
        self._clock.start(refused, {n: code for n, code in refused.items() if n not in at_once})
        return resumed is not None

    def stop(self) -> None:
        """Nothing is watched on this connection."""
        self.watches, self._server = [], None

    @property
    def refused(self) -> dict[int, int]:
        """Status of each tag that the server does not watch, by number."""
        return {
            number: code for watch in self.watches if not watch.events for number, code in watch.held.refused.items()
        }

    def note(self, refused: Mapping[int, int]) -> None:
        """Say in the facts which tags are not watched."""
        named = [f"{self._tags[number].path}: {status.name(code)}" for number, code in list(refused.items())[:10]]
        more = f" and {len(refused) - 10} more" if len(refused) > 10 else ""
        self._facts["items"] = f"{len(self._tags) - len(refused)} of {len(self._tags)} watched"
        self._facts["refused"] = "; ".join(named) + more if refused else "none"

    def heard(self, watch: Watch, columns: Columns) -> None:
        """Note which tags of a message the server no longer knows, and which it sends again by itself."""
        columns.mark(self._seen)
        gone = columns.ending(GONE)
        if not gone and not watch.vanished:
            return
        back = (watch.vanished & columns.tags) - gone.keys()
        for number in back:
            watch.held.refused.pop(number, None)
        watch.vanished -= back
        self._lose(watch, gone)
        if back:
            self.note(self.refused)

    def _lose(self, watch: Watch, gone: Mapping[int, int]) -> set[int]:
        """The nodes of these tags went away (status by number). Returns those of which it was not known yet."""
        refused = watch.held.refused
        lost = gone.keys() - refused.keys()
        if lost:
            refused.update({number: gone[number] for number in lost})
            watch.vanished |= lost
            self._counters["vanished_items"] += len(lost)
            self._clock.start(lost, refused)
            self.note(self.refused)
        return lost

    async def look(self) -> None:
        """
        Read some of the items that have sent nothing for ``retry.invalid_node``: one request, where it is time.

        Only whether the server still knows the node is of interest; where it does not, the row is handed on as that of
        an item without a first value. Raises link errors.
        """
        loop, server = asyncio.get_running_loop(), self._server
        if server is None:
            return
        if not self._quiet:
            if loop.time() < self._look_at:
                return
            self._look_at = loop.time() + self._options.retry.invalid_node
            self._quiet = [
                (watch, tag.number)
                for watch in self.watches
                for tag in watch.tags
                if not self._seen[tag.number] and server.nodes[tag.number] is not None
            ]
            self._seen[:] = False
        part, self._quiet = self._quiet[: server.limits.read], self._quiet[server.limits.read :]
        part = [(watch, number) for watch, number in part if number not in watch.held.refused]
        values = await server.link.read([server.nodes[number] for _, number in part], server.limits.read)
        self._counters["quiet_items"] += len(part)
        for (watch, number), value in zip(part, values, strict=True):
            code = value.StatusCode.value & 0xFFFF0000
            if code in GONE and self._lose(watch, {number: code}):
                watch.held.unheard.append(number)
                watch.opening[number], watch.open_at = value, 0.0

    async def retry(self) -> None:
        """Ask again for the refused items whose time has come; the server may know them now. Raises link errors."""
        due = self._clock.due(self.refused)
        events = [watch for watch in self.watches if watch.events and self._notifiers.due(watch.held)]
        server = self._server
        if not (due or events) or server is None:
            return
        namespaces = namespaces_of(*await server.link.read([NAMESPACES], 1))
        await self._met(namespaces)
        nodes = self._addresses.resolve(namespaces, due)
        made = len(self._tags) - len(self.refused)
        maker = Maker(server.link, self._options, server.limits, made, self._addresses.missing)
        for watch in self.watches:
            wanted = [tag for tag in watch.tags if tag.number in due]
            await maker.add(watch, await self._returned(server, maker, watch, wanted, nodes), nodes)
            await self._read_opening(server, watch, nodes)
        for watch in events:
            await self._notifiers.retry(server.link, watch.held)
        self._clock.start(due, self.refused)
        self.note(self.refused)
        self._ledger.save()

    async def _returned(
        self, server: Server, maker: Maker, watch: Watch, tags: Sequence[Tag], nodes: Nodes
    ) -> list[Tag]:
        """
        Those of these refused tags whose items are to be made.

        Not those whose node went away and is not there yet: a server may make an item of it all the same. Of the others
        the old item is given back.
        """
        asked = {tag.number: node for tag in tags if tag.number in watch.vanished and (node := nodes[tag.number])}
        values = await server.link.read(list(asked.values()), server.limits.read)
        missing = {n for n, value in zip(asked, values, strict=True) if value.StatusCode.value in GONE}
        returned = asked.keys() - missing
        watch.vanished -= returned
        await maker.remove(watch, [item for n in returned if (item := watch.item_ids.pop(n, None)) is not None])
        return [tag for tag in tags if tag.number not in missing]

    async def _resume(self, server: Server) -> list[Watch] | None:
        """Take over the subscriptions of the last connection; None, with the reason in the facts, where that fails."""
        known = self._ledger.now
        if not known.held:
            return None
        if known.fingerprint != self._fingerprint(server.limits):
            self._facts["resume"] = "tags or subscription options changed"
            return None
        if known.server_start != server.start_ns:  # ids may mean other subscriptions now
            self._facts["resume"] = "the server was restarted"
            return None
        if not server.own and self._options.recover == "recreate":
            self._facts["resume"] = "not asked for (`recover: recreate`)"
            return None
        parts = self._parts(server.limits) + [()] * self._notifiers.wanted
        answer = await subscription.take_over(server.link, known.held, parts, self._counters, own=server.own)
        if isinstance(answer, str):
            self._facts["resume"] = f"refused: {answer}"
            return None
        if self._notifiers.wanted:
            answer[-1].events = True
        if gone := await self._gone(server, answer):
            self._facts["resume"] = f"{gone} nodes are gone"
            return None
        before = {watch.held.subscription_id: watch.item_ids for watch in self.watches}
        for watch in answer:
            watch.item_ids = before.get(watch.held.subscription_id, watch.item_ids)
            await self._read_opening(server, watch, server.nodes)
            if watch.events:
                self._notifiers.start(watch.held)
            else:
                watch.vanished = set(watch.held.refused)  # some may have an item, and which is not in the file
        self._facts["resume"] = "same session" if server.own else "transferred"
        self._counters["resumed"] += 1
        return answer

    async def _gone(self, server: Server, watches: Sequence[Watch]) -> int:
        """How many nodes that these subscriptions watch the server does not know any more."""
        refused = {number for watch in watches if not watch.events for number in watch.held.refused}
        numbers = [n for n, node in server.nodes.items() if n not in refused and node is not None]
        watched = [server.nodes[number] for number in numbers]
        values = await server.link.read(watched, server.limits.read)
        self._stood(zip(numbers, values, strict=True))
        return len(self._tags) - len(refused) - len(watched) + sum(v.StatusCode.value in GONE for v in values)

    async def _begin(self, server: Server) -> list[Watch]:
        """Replace the old subscriptions by new ones, read every item, and note the gap since the last value."""
        link, options = server.link, self._options
        stale = self._ledger.begin_anew(server.start_ns)
        await subscription.delete(link, stale, own=server.own)
        stale.clear()
        maker = Maker(link, options, server.limits, missing=self._addresses.missing)
        watches = await subscription.create(link, options, self._parts(server.limits), server.nodes, maker, stale)
        if self._notifiers.wanted:
            link.step = "events"
            watches.append(await subscription.create_for_events(link, options, self._notifiers, maker, stale))
        link.step = "items"
        # Only now: what changes between a read and the making of its item would be in neither.
        for watch in watches:
            await self._read_opening(server, watch, server.nodes)
        self._facts.update(maker.granted.facts())
        self._counters["recreated"] += 1
        reason = self._facts.pop("resume", "the server held nothing to take over")
        fingerprint, held = self._fingerprint(server.limits), [watch.held for watch in watches]
        self._ledger.renew(fingerprint, server.start_ns, held, self._context.now_ns(), reason)
        return watches

    async def _read_opening(self, server: Server, watch: Watch, nodes: Nodes) -> None:
        """Read the items of which no value has come yet; :class:`PublishLoop` decides whether it needs them."""
        unheard = [(number, node) for number in watch.held.unheard if (node := nodes.get(number)) is not None]
        values = await server.link.read([node for _, node in unheard], server.limits.read)
        watch.opening.update((number, value) for (number, _), value in zip(unheard, values, strict=True))
        sampling_s = max((self._options.sampling_s(self._tags[number].scan_ms) for number, _ in unheard), default=0.0)
        watch.open_at = asyncio.get_running_loop().time() + 2 * self._options.subscription.publishing + sampling_s

    def _parts(self, limits: Limits) -> list[Sequence[Tag]]:
        """The tags of each subscription."""
        most = limits.per_subscription
        size = self._options.subscription.nodes
        if not self._context.tags and self._notifiers.wanted:
            return []
        return subscription.groups(self._context.tags, min(size, most) if most else size)

    def _fingerprint(self, limits: Limits) -> str:
        """Names the items and parameters that a subscription was made with."""
        options = self._options
        asked = [
            options.endpoint,
            options.subscription.model_dump(mode="json"),
            options.planned_outage,
            limits.per_subscription,
            limits.filters,
            options.deadband,
            [
                (tag.number, tag.address, tag.scan_ms, tag.type, deadband(tag, options.deadband))
                for tag in self._context.tags
            ],
        ]
        if self._notifiers.wanted:
            asked.append(self._notifiers.asked())
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
