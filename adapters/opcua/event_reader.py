"""From the fields of a notification to an event, a refusal, or the mark of an overflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from asyncua import ua

from adapters.opcua.decode import plain, time_ns
from adapters.opcua.event_filter import CONDITION_ID, FURTHER, STANDARD
from adapters.opcua.event_options import EventOptions
from adapters.opcua.event_wire import Notified
from adapters.opcua.nodes import address_text
from schemas.alarms import Condition, Event, Field
from schemas.samples import Reject
from schemas.status import Flag

_OVERFLOW: Final = ua.NodeId(ua.ObjectIds.EventQueueOverflowEventType)
_RAW_BYTES: Final = 4096
_MOST_NAMES: Final = 1000


@dataclass(slots=True)
class Told:
    """
    What one message told.

    ``overflowed`` are the notifiers whose queue lost events; ``lesser`` counts events below the severity that is
    wanted, ``foreign`` those that no notifier of ours stands for.
    """

    events: list[Event] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    overflowed: list[str] = field(default_factory=list)
    lesser: int = 0
    foreign: int = 0


class EventReader:
    """
    Makes events on one connection, whose namespace array turns indexes into URIs.

    ``names`` are the names of event types for people, by node; those of the standard are known.
    """

    def __init__(self, source: str, namespaces: Sequence[str]) -> None:
        self.names: dict[ua.NodeId, str] = {}
        self._source = source
        self._namespaces = namespaces

    def unnamed(self, found: Sequence[Notified], place: int) -> list[ua.NodeId]:
        """Event types, in field *place*, of which the name is not known; few at a time."""
        values = (one.fields[place].Value for one in found if place < len(one.fields))
        nodes = {value for value in values if isinstance(value, ua.NodeId)}  # an array of them is unhashable
        fresh = [node for node in nodes if node not in self.names and not _standard(node) and not node.is_null()]
        return fresh if len(self.names) + len(fresh) <= _MOST_NAMES else []

    def add(self, told: Told, one: Notified, options: EventOptions, asked: Sequence[str], received_ns: int) -> None:
        """Judge one event of a notifier; *asked* names its fields in their order."""
        if len(one.fields) != len(asked):
            reason = f"the event has {len(one.fields)} fields, {len(asked)} were asked for"
            told.rejects.append(self._reject(one, options, reason, received_ns))
            return
        values: dict[str, Any] = {}
        for name, variant in zip(asked, one.fields, strict=True):
            value = _value(name, variant)
            if value is not None:  # a standard field that is also configured may be null by the other path
                values[name] = value
        if values.get("EventType") == _OVERFLOW:
            told.overflowed.append(options.notifier)
            return
        if one.poison is not None:
            reason = f"the field {asked[one.poison.place]} cannot be decoded: {one.poison.reason}"
            told.rejects.append(self._reject(one, options, reason, received_ns))
            return
        severity = _integer(values.get("Severity")) or 0
        if severity < options.severity and severity:
            told.lesser += 1
            return
        event = self._event(values, options, severity, received_ns)
        told.events.append(_by_its_place(event, len(told.events)))

    def _reject(self, one: Notified, options: EventOptions, reason: str, received_ns: int) -> Reject:
        return Reject(self._source, f"events of {options.notifier}", reason, one.raw[:_RAW_BYTES], received_ns)

    def _event(self, values: dict[str, Any], options: EventOptions, severity: int, received_ns: int) -> Event:
        kind = values.get("EventType")
        at_ns = _time_ns(values.get("Time"))
        event_id = values.get("EventId")
        return Event(
            self._source,
            options.notifier,
            options.equipment,
            event_id if isinstance(event_id, bytes) else self._text(event_id).encode(),
            self._text(kind),
            self._name(kind),
            self._text(values.get("SourceNode")),
            self._text(values.get("SourceName")),
            at_ns or received_ns,
            _time_ns(values.get("ReceiveTime")) or None,
            received_ns,
            severity,
            self._text(values.get("Message")),
            0 if at_ns else int(Flag.ARRIVAL_TIME),
            self._condition(values),
            self._further(values, options),
        )

    def _condition(self, values: dict[str, Any]) -> Condition | None:
        condition_id, name = self._text(values.get(CONDITION_ID)), self._text(values.get("ConditionName"))
        if not condition_id and not name:
            return None
        quality = values.get("Quality")
        return Condition(
            condition_id,
            name,
            self._text(values.get("BranchId")),
            _switch(values.get("Retain")),
            _switch(values.get("EnabledState/Id")),
            _switch(values.get("AckedState/Id")),
            _switch(values.get("ConfirmedState/Id")),
            _switch(values.get("ActiveState/Id")),
            next(filter(None, (self._text(values.get(name)) for name in _STATES)), ""),
            _integer(values.get("LastSeverity")),
            quality.value if isinstance(quality, ua.StatusCode) else None,
            self._text(values.get("Comment")),
            self._text(values.get("ClientUserId")),
        )

    def _further(self, values: dict[str, Any], options: EventOptions) -> dict[str, Field]:
        found = {name: self._plain(values[name]) for name in FURTHER if values.get(name) is not None}
        found.update({name: self._plain(values.get(name)) for name in options.fields})
        return found

    def _plain(self, value: Any) -> Field:
        if isinstance(value, ua.NodeId):
            return address_text(value, self._namespaces)
        if isinstance(value, ua.StatusCode):
            return int(value.value)
        found: Field = plain(value)
        return found

    def _name(self, kind: Any) -> str:
        if not isinstance(kind, ua.NodeId):
            return ""
        return str(ua.ObjectIdNames.get(kind.Identifier, "")) if _standard(kind) else self.names.get(kind, "")

    def _text(self, value: Any) -> str:
        if isinstance(value, ua.NodeId):
            return address_text(value, self._namespaces)
        if isinstance(value, ua.QualifiedName):
            return value.Name or ""
        found = plain(value)
        return found if isinstance(found, str) else "" if found is None else str(found)


_STATES: Final = ("EnabledState/EffectiveDisplayName", "ActiveState/EffectiveDisplayName", "ActiveState")


def _value(name: str, variant: ua.Variant) -> Any:
    """The value of a field; a status code in the place of another value says that there is none."""
    value = variant.Value
    return None if isinstance(value, ua.StatusCode) and name != "Quality" and name in STANDARD else value


def _by_its_place(event: Event, place: int) -> Event:
    """An event with neither time nor name gets a time of its own among those of its message; it may be a repeat."""
    if event.event_id or not event.flags & Flag.ARRIVAL_TIME:
        return event
    return replace(event, time_ns=event.time_ns + place, flags=event.flags | Flag.DUP_POSSIBLE)


def _standard(node: ua.NodeId) -> bool:
    return node.NamespaceIndex == 0 and isinstance(node.Identifier, int)


def _time_ns(value: Any) -> int:
    """UTC ns; 0 where there is no time, which a value of another type is not."""
    return time_ns(value) if isinstance(value, datetime) else 0


def _switch(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None
