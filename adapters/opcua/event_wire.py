"""
Event notifications from their bytes.

Ours and not the library's, so that times keep their 100 ns (A19) and one reader serves data and events. Source: OPC UA
Part 4, 7.25.3 (EventNotificationList), Part 6, 5.2.2.16 (Variant).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from asyncua import ua
from asyncua.ua.uaerrors import UaStructParsingError

from adapters.opcua.wire import variant


class Notified(NamedTuple):
    """One event: ``handle`` of the monitored item, ``fields`` in the order of its select clauses, and its bytes."""

    handle: int
    fields: list[ua.Variant]
    raw: bytes


@dataclass(slots=True)
class EventList:
    """The events of one notification, in order."""

    events: list[Notified]


def event_list(body: bytes) -> EventList:
    """Decode the body of an EventNotificationList. Raises :data:`adapters.opcua.faults.DECODE_ERRORS`."""
    [count] = struct.unpack_from("<i", body)
    offset = 4
    found: list[Notified] = []
    for _ in range(count):
        start = offset
        handle, length = struct.unpack_from("<Ii", body, offset)
        offset += 8
        fields: list[ua.Variant] = []
        for _ in range(length):
            if offset >= len(body):
                raise UaStructParsingError("the message ends within an event")
            value, offset = variant(body, offset)
            fields.append(value)
        found.append(Notified(handle, fields, body[start:offset]))
    return EventList(found)


def of_objects(notification: ua.EventNotificationList) -> EventList:
    """The same of what the library decoded, from an encoding that only it knows."""
    return EventList(
        [Notified(one.ClientHandle, list(one.EventFields or ()), b"") for one in notification.Events or ()]
    )
