"""
Events and alarms of the simulated OPC UA server.

asyncua raises events and lets a client watch them; put right here is what it leaves out of Part 4: OfType holds for
subtypes, a full queue tells that it lost events (EventQueueOverflowEventType, 7.22.3 and 5.13.1.5), and a select clause
may be refused, as servers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import Server, ua
from asyncua.common.event_objects import EventQueueOverflowEvent
from asyncua.server.event_generator import EventGenerator
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.monitored_item_service import MonitoredItemService, WhereClauseEvaluator

from simulators import SignalValue

_CODES: Final = ua.StatusCodes


@dataclass(frozen=True, slots=True)
class AlarmSpec:
    """
    An ExclusiveLevelAlarm named *name* that is active while *signal* is above *high*; it clears one *deadband* below.

    It wants an acknowledgement when it becomes active, and gets it from nobody.
    """

    name: str
    signal: str
    high: float
    severity: int = 700
    deadband: float = 0.0
    message: str = ""


@dataclass(slots=True)
class Manners:
    """
    How the server takes a filter; may be changed while it runs.

    ``refused`` are fields (``ConfirmedState/Id``) whose select clause it refuses: it leaves them null, or where
    ``strict`` it refuses the whole filter. Without ``conditions`` it takes no where clause.
    """

    refused: set[str] = field(default_factory=set)
    strict: bool = False
    conditions: bool = True


class Alarms:
    """The alarms of one running server, and events on demand."""

    def __init__(self, server: Server, specs: Mapping[ua.NodeId, AlarmSpec]) -> None:
        self._server = server
        self._specs = dict(specs)
        self._active: dict[ua.NodeId, bool] = {}
        self._generators: dict[tuple[int | ua.NodeId, ua.NodeId], EventGenerator] = {}

    async def happen(
        self, message: str, severity: int, kind: int | ua.NodeId, notifier: ua.NodeId, at: datetime, **fields: Any
    ) -> bytes:
        """Raise one event and return its EventId; *fields* are set by their names, with ``__`` for ``/``."""
        key = kind, notifier
        if key not in self._generators:
            self._generators[key] = await self._server.get_event_generator(kind, notifier)
        generator = self._generators[key]
        generator.event.Severity = severity
        for name, value in fields.items():
            setattr(generator.event, name.replace("__", "/"), value)
        await generator.trigger(at, message)
        event_id: bytes = generator.event.EventId.Value
        return event_id

    async def look(self, values: Mapping[str, SignalValue], at: datetime) -> None:
        """Compare the values of a tick with the limits; each change of a condition is an event."""
        for condition, spec in self._specs.items():
            value = values.get(spec.signal)
            if isinstance(value, str) or value is None:
                continue
            before = self._active.get(condition, False)
            active = value > (spec.high - spec.deadband if before else spec.high)
            if active != before:
                self._active[condition] = active
                await self._change(condition, spec, at, active=active)

    async def _change(self, condition: ua.NodeId, spec: AlarmSpec, at: datetime, *, active: bool) -> None:
        state = ua.LocalizedText("Active | Unacknowledged" if active else "Inactive | Unacknowledged")
        await self.happen(
            f"{spec.message or spec.name} {'above' if active else 'below'} {spec.high:g}",
            spec.severity,
            ua.ObjectIds.ExclusiveLevelAlarmType,
            ua.NodeId(ua.ObjectIds.Server),
            at,
            NodeId=condition,
            SourceName=spec.signal,
            SourceNode=ua.NodeId(spec.signal, condition.NamespaceIndex),
            ConditionName=spec.name,
            Retain=True,
            EnabledState__Id=True,
            EnabledState__EffectiveDisplayName=state,
            AckedState__Id=False,
            ActiveState=ua.LocalizedText("Active" if active else "Inactive"),
            ActiveState__Id=active,
            Quality=ua.StatusCode(_CODES.Good),
            LastSeverity=spec.severity,
            HighLimit=spec.high,
        )


class SubscriptionWithEvents(InternalSubscription):  # type: ignore[misc]
    """A subscription whose queues of events tell when they lose some."""

    async def enqueue_event(self, mid: int, eventdata: ua.EventFieldList, maxsize: int) -> None:
        """Queue an event; where there is no room, the oldest goes and a mark stands in its place."""
        queue = self._triggered_events.get(mid)
        if queue is None or not maxsize or len(queue) < maxsize:
            await super().enqueue_event(mid, eventdata, maxsize)
            return
        mark = self.monitored_item_srv.overflow(mid)
        if queue[0].EventFields != mark.EventFields:
            queue[0] = mark
        del queue[1:2]
        queue.append(eventdata)


class ItemsWithEvents(MonitoredItemService):  # type: ignore[misc]
    """Monitored items whose filters of events are judged clause by clause."""

    manners: Manners

    def _create_events_monitored_item(self, params: ua.MonitoredItemCreateRequest) -> ua.MonitoredItemCreateResult:
        select = params.RequestedParameters.Filter.SelectClauses
        codes = [
            ua.StatusCode(_CODES.BadNodeIdUnknown if _name(clause) in self.manners.refused else _CODES.Good)
            for clause in select
        ]
        elements = params.RequestedParameters.Filter.WhereClause.Elements
        refused = not self.manners.conditions and elements
        code = ua.StatusCode(_CODES.BadFilterOperatorUnsupported if refused else _CODES.Good)
        judged = ua.EventFilterResult(
            SelectClauseResults=codes if not all(one.is_good() for one in codes) else [],
            WhereClauseResult=ua.ContentFilterResult(
                ElementResults=[ua.ContentFilterElementResult(StatusCode=code) for _ in elements]
            ),
        )
        if refused or (self.manners.strict and judged.SelectClauseResults):
            bad = ua.StatusCode(_CODES.BadEventFilterInvalid)
            return ua.MonitoredItemCreateResult(StatusCode=bad, FilterResult=judged)
        if not self.aspace.get(params.ItemToMonitor.NodeId):
            return ua.MonitoredItemCreateResult(StatusCode=ua.StatusCode(_CODES.BadNodeIdUnknown))
        result: ua.MonitoredItemCreateResult = super()._create_events_monitored_item(params)
        if result.StatusCode.is_good():
            result.FilterResult = judged
            where = params.RequestedParameters.Filter.WhereClause
            self._monitored_items[result.MonitoredItemId].where_clause_evaluator = _Where(
                self.logger, self.aspace, where
            )
        return result

    async def _trigger_event(self, event: Any, mid: int) -> None:
        await super()._trigger_event(event, mid)
        item, queues = self._monitored_items.get(mid), self.isub._triggered_events
        if item is not None and queues.get(mid):
            newest = queues[mid][-1]
            newest.EventFields = [
                ua.Variant(None) if _name(clause) in self.manners.refused else value
                for clause, value in zip(item.filter.SelectClauses, newest.EventFields, strict=True)
            ]

    def overflow(self, mid: int) -> ua.EventFieldList:
        """The mark of a queue that lost events."""
        item = self._monitored_items[mid]
        event = EventQueueOverflowEvent()
        event.EventId = b"overflow"
        event.Time = event.ReceiveTime = datetime(2026, 1, 1, tzinfo=UTC)
        return ua.EventFieldList(item.client_handle, event.to_event_fields(item.filter.SelectClauses))


class _Where(WhereClauseEvaluator):  # type: ignore[misc]
    def _eval_el(self, index: int, event: Any) -> Any:
        element = self.elements[index]
        if element.FilterOperator != ua.FilterOperator.OfType:
            return super()._eval_el(index, event)
        wanted, kind = self._eval_op(element.FilterOperands[0], event), event.EventType
        while kind is not None and kind != wanted:
            node = self._aspace.get(kind)
            parents = [
                ref.NodeId
                for ref in (node.references if node is not None else ())
                if not ref.IsForward and ref.ReferenceTypeId == ua.NodeId(ua.ObjectIds.HasSubtype)
            ]
            kind = parents[0] if parents else None
        return kind is not None


def _name(clause: ua.SimpleAttributeOperand) -> str:
    return "/".join(step.Name for step in clause.BrowsePath or ())
