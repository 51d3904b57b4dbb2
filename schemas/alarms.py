"""
Events, alarms and conditions as a server tells them: records of their own beside the samples.

An event is something that happened; an alarm is an event that tells a change of a condition, which has a name and a
state that lasts. Source: OPC UA Part 5, 6.4 (BaseEventType) and Part 9, 5.5 to 5.8 (ConditionType and its subtypes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Value of a further field: JSON-like, with integers of any size and bytes; None where there is none.
Field = str | int | float | bytes | list[Any] | dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Condition:
    """
    State of a condition after the change that its event tells; None where the server did not say.

    Attributes:
        condition_id: node of the condition as address text, the same for all its events.
        name: ConditionName, by which the condition is known on its source.
        branch_id: node of the branch, empty for the current state; a branch is an earlier state that still wants an
            acknowledgement.
        retain: whether the condition is of interest to a client that shows the state of the plant.
        enabled, acked, confirmed, active: the two-state variables of the same name.
        state: EffectiveDisplayName, the state in the server's words.
        last_severity: 1 to 1000, the severity before this change.
        quality: OPC UA StatusCode of what the condition rests on.
        comment, user: the last comment, and who gave it.
    """

    condition_id: str
    name: str
    branch_id: str = ""
    retain: bool | None = None
    enabled: bool | None = None
    acked: bool | None = None
    confirmed: bool | None = None
    active: bool | None = None
    state: str = ""
    last_severity: int | None = None
    quality: int | None = None
    comment: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """
    One event of one source. Times are UTC ns.

    Attributes:
        source: name of the adapter instance.
        notifier: address of the node whose events are watched, as the configuration has it.
        equipment: path that the configuration gives to this notifier; empty for none.
        event_id: the server's name of the event, unique on it; empty where it gave none.
        event_type: node of the type as address text (``i=2915``, ``nsu=…;s=…``).
        type_name: its name for people, empty where the server does not tell.
        source_node, source_name: what it happened to, in the server's words.
        time_ns: when it happened, by the device's or the server's clock; time of arrival, and ``Flag.ARRIVAL_TIME``
            set, where the event carries none.
        server_ns: when the server heard of it; None where it does not say.
        received_ns: our clock at reception.
        severity: 1 (least) to 1000 (most urgent); 0 where there is none.
        message: text for people, in the server's language.
        flags: bits of :class:`schemas.status.Flag`.
        condition: the state that changed; None for an event that is no alarm.
        fields: further fields by their name in the configuration, limits of limit alarms among them.
    """

    source: str
    notifier: str
    equipment: str
    event_id: bytes
    event_type: str
    type_name: str
    source_node: str
    source_name: str
    time_ns: int
    server_ns: int | None
    received_ns: int
    severity: int
    message: str
    flags: int = 0
    condition: Condition | None = None
    fields: dict[str, Field] = field(default_factory=dict)
