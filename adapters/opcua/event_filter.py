"""
The filter of a watched notifier: which fields of an event are asked for, which events, and what the server took of it.

Each standard field is asked for with the type that declares it, as the standard has it; a server answers null for
events of other types. Source: OPC UA Part 4, 7.7.4.5 (SimpleAttributeOperand) and 7.22.3 (EventFilter), Part 5, 6.4.2,
Part 9, 5.5.2 (ConditionType, whose own NodeId is the ConditionId), 5.7.2, 5.8.2, 5.8.18 and 5.8.19.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from asyncua import ua

from adapters.opcua.event_options import EVERY_TYPE, EventOptions, parse_field
from adapters.opcua.nodes import parse_address

_EVERY: Final = parse_address(EVERY_TYPE)
_BASE: Final = ua.NodeId(ua.ObjectIds.BaseEventType)
_CONDITION: Final = ua.NodeId(ua.ObjectIds.ConditionType)
_ACKNOWLEDGEABLE: Final = ua.NodeId(ua.ObjectIds.AcknowledgeableConditionType)
_ALARM: Final = ua.NodeId(ua.ObjectIds.AlarmConditionType)
_LIMIT: Final = ua.NodeId(ua.ObjectIds.LimitAlarmType)
_EXCLUSIVE: Final = ua.NodeId(ua.ObjectIds.ExclusiveLimitAlarmType)

CONDITION_ID: Final = "ConditionId"
#: Name of each standard field, and the type that declares it.
STANDARD: Final[Mapping[str, ua.NodeId]] = {
    "EventId": _BASE,
    "EventType": _BASE,
    "SourceNode": _BASE,
    "SourceName": _BASE,
    "Time": _BASE,
    "ReceiveTime": _BASE,
    "Message": _BASE,
    "Severity": _BASE,
    CONDITION_ID: _CONDITION,
    "ConditionName": _CONDITION,
    "BranchId": _CONDITION,
    "Retain": _CONDITION,
    "EnabledState/Id": _CONDITION,
    "EnabledState/EffectiveDisplayName": _CONDITION,
    "Quality": _CONDITION,
    "LastSeverity": _CONDITION,
    "Comment": _CONDITION,
    "ClientUserId": _CONDITION,
    "AckedState/Id": _ACKNOWLEDGEABLE,
    "ConfirmedState/Id": _ACKNOWLEDGEABLE,
    "ActiveState": _ALARM,
    "ActiveState/Id": _ALARM,
    "ActiveState/EffectiveDisplayName": _ALARM,
    "SuppressedOrShelved": _ALARM,
    "HighHighLimit": _LIMIT,
    "HighLimit": _LIMIT,
    "LowLimit": _LIMIT,
    "LowLowLimit": _LIMIT,
    "LimitState/CurrentState": _EXCLUSIVE,
}
#: Those of the list that stand among an event's further fields.
FURTHER: Final = (
    "SuppressedOrShelved",
    *(name for name, declared_by in STANDARD.items() if declared_by in (_LIMIT, _EXCLUSIVE)),
)
#: The fields that every server has.
BASE_FIELDS: Final = tuple(name for name, declared_by in STANDARD.items() if declared_by == _BASE)


@dataclass(frozen=True, slots=True)
class Clause:
    """One select clause; ``operand`` None: its namespace is not on this server."""

    name: str
    operand: ua.SimpleAttributeOperand | None


def clauses(options: EventOptions, namespaces: Sequence[str]) -> list[Clause]:
    """The select clauses of a notifier: the standard fields, then the configured ones."""
    found = [Clause(name, _standard(name, declared_by)) for name, declared_by in STANDARD.items()]
    # a field belongs to the one type that is asked for; with several, a server finds it on any event that has it
    kind = parse_address(options.types[0]).resolve(namespaces) if len(options.types) == 1 else None
    return found + [Clause(name, _field(name, kind or _BASE, namespaces)) for name in options.fields]


def _standard(name: str, declared_by: ua.NodeId) -> ua.SimpleAttributeOperand:
    if name == CONDITION_ID:
        return ua.SimpleAttributeOperand(TypeDefinitionId=declared_by, AttributeId=ua.AttributeIds.NodeId)
    return _operand([ua.QualifiedName(step, 0) for step in name.split("/")], declared_by)


def _field(name: str, kind: ua.NodeId, namespaces: Sequence[str]) -> ua.SimpleAttributeOperand | None:
    path = []
    for namespace, step in parse_field(name).parts:
        if isinstance(namespace, str):
            if namespace not in namespaces:
                return None
            namespace = list(namespaces).index(namespace)
        path.append(ua.QualifiedName(step, namespace))
    return _operand(path, kind)


def _operand(path: list[ua.QualifiedName], kind: ua.NodeId) -> ua.SimpleAttributeOperand:
    return ua.SimpleAttributeOperand(TypeDefinitionId=kind, BrowsePath=path, AttributeId=ua.AttributeIds.Value)


def types_there(options: EventOptions, namespaces: Sequence[str]) -> list[ua.NodeId] | None:
    """The event types whose namespace the server has; None: every event is asked for."""
    addresses = [parse_address(text) for text in options.types]
    if _EVERY in addresses:
        return None
    return [node for node in (address.resolve(namespaces) for address in addresses) if node is not None]


def where(types: Sequence[ua.NodeId] | None, severity: int) -> ua.ContentFilter | None:
    """The events that are one of these types (None: of any), and as severe; None: all of them."""
    wanted: _Tree | None = None
    for node in types or ():
        test = _Tree(ua.FilterOperator.OfType, (ua.LiteralOperand(Value=ua.Variant(node, ua.VariantType.NodeId)),))
        wanted = test if wanted is None else _Tree(ua.FilterOperator.Or, (wanted, test))
    if severity > 1:
        least = ua.LiteralOperand(Value=ua.Variant(severity, ua.VariantType.UInt16))
        severe = _Tree(ua.FilterOperator.GreaterThanOrEqual, (_standard("Severity", _BASE), least))
        wanted = severe if wanted is None else _Tree(ua.FilterOperator.And, (wanted, severe))
    if wanted is None:
        return None
    elements: list[ua.ContentFilterElement] = []
    _flatten(wanted, elements)
    return ua.ContentFilter(Elements=elements)


@dataclass(frozen=True, slots=True)
class _Tree:
    operator: ua.FilterOperator
    operands: tuple[object, ...]


def _flatten(tree: _Tree, elements: list[ua.ContentFilterElement]) -> int:
    """Append the element, then those it refers to: an element may only refer to later ones (Part 4, 7.7.1)."""
    place = len(elements)
    element = ua.ContentFilterElement(FilterOperator=tree.operator)
    elements.append(element)
    element.FilterOperands = [
        ua.ElementOperand(Index=_flatten(operand, elements)) if isinstance(operand, _Tree) else operand
        for operand in tree.operands
    ]
    return place


def refused_clauses(result: object, count: int) -> dict[int, int]:
    """Status code of each select clause that the server refused, by its place among the *count* that were asked for."""
    codes = list(result.SelectClauseResults or ()) if isinstance(result, ua.EventFilterResult) else []
    return {place: code.value for place, code in enumerate(codes[:count]) if code.value >> 31}


def refused_condition(result: object) -> int:
    """Status code of the first element of the where clause that the server refused; 0: it refused none."""
    if not isinstance(result, ua.EventFilterResult) or result.WhereClauseResult is None:
        return 0
    for element in result.WhereClauseResult.ElementResults or ():
        for code in (element.StatusCode, *(element.OperandStatusCodes or ())):
            if code.value >> 31:
                return int(code.value)
    return 0
