"""
Watching the nodes that tell events: one monitored item each, in a subscription of their own.

What the server refuses of a filter is left out, noted and asked for no more; the field is then null in every event.
Nothing is ever called on the server: without ConditionRefresh, which is a Call, a condition that was active before is
seen at its next change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from asyncua import ua

from adapters.base import AdapterContext
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.event_filter import (
    BASE_FIELDS,
    Clause,
    clauses,
    refused_clauses,
    refused_condition,
    types_there,
    where,
)
from adapters.opcua.event_reader import EventReader, Told
from adapters.opcua.event_wire import EventList
from adapters.opcua.link import Link
from adapters.opcua.nodes import parse_address
from adapters.opcua.progress import Held
from adapters.opcua.retries import RetryClock
from schemas import status
from schemas.errors import NotConnected

_CODES: Final = ua.StatusCodes
#: The filter was refused and not the item: a smaller one may do.
_FILTER: Final = frozenset(
    {
        _CODES.BadEventFilterInvalid,
        _CODES.BadContentFilterInvalid,
        _CODES.BadFilterNotAllowed,
        _CODES.BadFilterOperatorInvalid,
        _CODES.BadFilterOperatorUnsupported,
        _CODES.BadFilterOperandCountMismatch,
        _CODES.BadFilterOperandInvalid,
        _CODES.BadFilterElementInvalid,
        _CODES.BadFilterLiteralInvalid,
        _CODES.BadMonitoredItemFilterInvalid,
        _CODES.BadMonitoredItemFilterUnsupported,
        _CODES.BadTypeDefinitionInvalid,
        _CODES.BadBrowseNameInvalid,
    }
)
#: A request failed for a reason that is none of the item's.
_CONNECTION: Final = frozenset(
    {
        _CODES.BadSessionIdInvalid,
        _CODES.BadSessionClosed,
        _CODES.BadSessionNotActivated,
        _CODES.BadSubscriptionIdInvalid,
        _CODES.BadSecureChannelIdInvalid,
        _CODES.BadSecureChannelClosed,
        _CODES.BadConnectionClosed,
        _CODES.BadTimeout,
        _CODES.BadShutdown,
        _CODES.BadServerHalted,
    }
)
_EVENT_TYPE: Final = BASE_FIELDS.index("EventType")


class Notifiers:
    """
    The configured notifiers on one connection after another; the place in ``options.events`` is the ClientHandle.

    *moved* gives the namespace indices that mean another namespace than they did, in a namespace array.

    Counters: ``events`` that were read; ``event_overflows`` marks that a notifier's queue lost some; ``lesser_events``
    below the severity that is wanted, from a server that did not take the filter; ``refused_event_fields`` select
    clauses that a server refused; ``refused_notifiers`` refusals of a notifier; ``foreign`` events of none of ours;
    ``undecodable_events`` that went to quarantine.
    """

    def __init__(
        self,
        options: OpcUaOptions,
        context: AdapterContext,
        counters: Counter[str],
        facts: dict[str, str],
        moved: Callable[[Sequence[str]], Collection[int]] = lambda _: (),
    ) -> None:
        self._options = options
        self._context = context
        self._counters = counters
        self._facts = facts
        self._namespaces: list[str] = []
        self._moved_in = moved
        self._moved: Collection[int] = ()
        self._clauses: list[list[Clause]] = []
        self._reader = EventReader(context.name, ())
        self._clock = RetryClock(options.retry)

    @property
    def wanted(self) -> bool:
        """Whether any event is to be watched."""
        return bool(self._options.events)

    def asked(self) -> list[Any]:
        """What names the items and their filters in the fingerprint of the subscriptions."""
        return [one.model_dump(mode="json", exclude={"equipment"}) for one in self._options.events]

    def use(self, namespaces: Sequence[str]) -> None:
        """Begin a connection with this namespace array."""
        self._namespaces = list(namespaces)
        self._moved = self._moved_in(namespaces)
        self._clauses = [clauses(one, namespaces) for one in self._options.events]
        self._reader = EventReader(self._context.name, self._namespaces)

    async def make(self, link: Link, held: Held) -> None:
        """
        Ask for every notifier in a new subscription; ``held`` then says what was refused.

        Raises link errors, and NotConnected when the server does not answer for an item.
        """
        for handle in range(len(self._options.events)):
            await self._make(link, held, handle)
        self.start(held)

    def due(self, held: Held) -> list[int]:
        """The refused notifiers that are to be asked for again."""
        return list(self._clock.due(held.refused))

    async def retry(self, link: Link, held: Held) -> None:
        """Ask again for refused notifiers whose time has come."""
        due = self.due(held)
        for handle in due:
            await self._make(link, held, handle)
        self._clock.start(due, held.refused)
        self._note(held)

    def start(self, held: Held) -> None:
        """Begin to wait for each refused notifier, and say in the facts what is watched."""
        self._clock.start(range(len(self._options.events)), held.refused)
        self._note(held)

    def _note(self, held: Held) -> None:
        every = self._options.events
        self._facts["events"] = f"{len(every) - len(held.refused)} of {len(every)} notifiers watched"
        refused = [f"{every[handle].notifier}: {_title(code)}" for handle, code in held.refused.items()]
        self._facts["events refused"] = "; ".join(refused) or "none"
        self._facts["event filters"] = "; ".join(held.notes) or "as requested"

    async def learn(self, link: Link, part: EventList) -> None:
        """Read the names of event types that were not met before; without a name an event is as good."""
        nodes = self._reader.unnamed(part.events, _EVENT_TYPE)
        if not nodes:
            return
        self._reader.names.update(dict.fromkeys(nodes, ""))
        try:
            found = await link.read(nodes, len(nodes), ua.AttributeIds.BrowseName)
        except ua.UaStatusCodeError:
            return
        for node, value in zip(nodes, found, strict=True):
            name = None if value.Value is None else value.Value.Value
            if isinstance(name, ua.QualifiedName):
                self._reader.names[node] = name.Name or ""

    def read(self, part: EventList, held: Held, told: Told, received_ns: int) -> None:
        """Add to *told* what this list of events tells."""
        layouts: dict[int, list[str]] = {}
        for one in part.events:
            if one.handle >= len(self._clauses):
                told.foreign += 1
                continue
            if one.handle not in layouts:
                left_out = held.left_out.get(one.handle, ())
                layouts[one.handle] = [
                    clause.name for place, clause in enumerate(self._clauses[one.handle]) if place not in left_out
                ]
            self._reader.add(told, one, self._options.events[one.handle], layouts[one.handle], received_ns)

    def count(self, told: Told) -> None:
        """Count what a message told."""
        self._counters["events"] += len(told.events)
        self._counters["event_overflows"] += len(told.overflowed)
        self._counters["lesser_events"] += told.lesser
        self._counters["foreign"] += told.foreign
        self._counters["undecodable_events"] += len(told.rejects)

    async def _make(self, link: Link, held: Held, handle: int) -> None:
        """Ask for one notifier, with a smaller filter where the server refuses what was asked."""
        options, every = self._options.events[handle], self._clauses[handle]
        address = parse_address(options.notifier)
        if address.namespace in self._moved:
            self._refuse(held, handle, status.BAD_CONFIGURATION_ERROR)
            return
        node = address.resolve(self._namespaces)
        types = types_there(options, self._namespaces)
        if node is None or types == []:
            self._refuse(held, handle, status.BAD_NODE_ID_UNKNOWN)
            return
        notes = [f"{clause.name}: no such namespace" for clause in every if clause.operand is None]
        if types is not None and len(types) < len(options.types):
            notes.append(f"{len(options.types) - len(types)} types: no such namespace")
        left_out = {place for place, clause in enumerate(every) if clause.operand is None}
        condition = where(types, options.severity)
        while True:
            places = [place for place in range(len(every)) if place not in left_out]
            operands = [every[place].operand for place in places]
            event_filter = ua.EventFilter(operands, condition or ua.ContentFilter())
            result = await self._ask(link, held, handle, node, event_filter)
            code = int(result.StatusCode.value)
            fields = {places[at]: bad for at, bad in refused_clauses(result.FilterResult, len(places)).items()}
            notes += [f"{every[place].name}: {_title(bad)}" for place, bad in fields.items()]
            self._counters["refused_event_fields"] += len(fields)
            bad_condition = refused_condition(result.FilterResult)
            if result.StatusCode.is_good():
                if bad_condition:
                    notes.append(f"which events: {_title(bad_condition)}")
                break
            base = set(range(len(BASE_FIELDS)))
            if code not in _FILTER or set(places) == base:
                self._refuse(held, handle, code)
                return
            if fields.keys() - base:
                left_out |= fields.keys() - base
            elif condition is not None:
                condition = None
                applied = "severity is applied here" if types is None else "only severity is applied here, no type"
                notes.append(f"which events: {_title(bad_condition or code)}, {applied}")
            else:
                left_out = set(range(len(every))) - base
                notes.append(f"every field but the first {len(base)}: {_title(code)}")
        if result.RevisedQueueSize < 0.8 * options.queue:
            notes.append(f"queue: requested {options.queue}, granted {result.RevisedQueueSize}")
        held.refused.pop(handle, None)
        held.left_out[handle] = sorted(left_out)
        if notes:
            held.notes.append(f"{options.notifier}: {', '.join(notes)}")

    def _refuse(self, held: Held, handle: int, code: int) -> None:
        held.refused[handle] = code
        self._counters["refused_notifiers"] += 1

    async def _ask(
        self, link: Link, held: Held, handle: int, node: ua.NodeId, event_filter: ua.EventFilter
    ) -> ua.MonitoredItemCreateResult:
        params = ua.CreateMonitoredItemsParameters()
        params.SubscriptionId = held.subscription_id
        params.TimestampsToReturn = ua.TimestampsToReturn.Neither
        parameters = ua.MonitoringParameters(
            ClientHandle=handle,
            SamplingInterval=0.0,
            Filter=event_filter,
            QueueSize=self._options.events[handle].queue,
            DiscardOldest=self._options.subscription.discard == "oldest",
        )
        params.ItemsToCreate = [
            ua.MonitoredItemCreateRequest(
                ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.EventNotifier),
                MonitoringMode=ua.MonitoringMode.Reporting,
                RequestedParameters=parameters,
            )
        ]
        try:
            results = await link.session.create_monitored_items(params)
        except ua.UaStatusCodeError as refusal:
            if refusal.code in _CONNECTION:
                raise
            return ua.MonitoredItemCreateResult(StatusCode=ua.StatusCode(refusal.code))
        if len(results) != 1:
            raise NotConnected(f"the server answered for {len(results)} items instead of one")
        return results[0]


def _title(code: int) -> str:
    return str(ua.StatusCode(code).name)
