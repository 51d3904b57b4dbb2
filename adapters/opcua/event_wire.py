"""
Event notifications from their bytes.

Ours and not the library's, so that times keep their 100 ns (A19) and one reader serves data and events. Source: OPC UA
Part 4, 7.25.3 (EventNotificationList), Part 6, 5.2.2.16 (Variant). Where a field ends is measured before it is decoded,
so that one that cannot be decoded costs its own event alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from asyncua import ua
from asyncua.ua.uaerrors import UaStructParsingError

from adapters.opcua import extent
from adapters.opcua.data_value import decoded
from adapters.opcua.faults import DECODE_ERRORS, describe


class Poison(NamedTuple):
    """The first field of an event that cannot be decoded: its ``place`` among the fields, and why."""

    place: int
    reason: str


class Notified(NamedTuple):
    """
    One event: ``handle`` of the monitored item, ``fields`` in the order of its select clauses, and its bytes.

    A field that cannot be decoded is null, and ``poison`` names the first of them.
    """

    handle: int
    fields: list[ua.Variant]
    raw: bytes
    poison: Poison | None = None


@dataclass(slots=True)
class EventList:
    """The events of one notification, in order."""

    events: list[Notified]


def event_list(body: bytes) -> EventList:
    """
    Decode the body of an EventNotificationList.

    Raises :data:`adapters.opcua.faults.DECODE_ERRORS` where the bytes end too soon, or a field that nobody can measure.
    """
    [count] = struct.unpack_from("<i", body)
    offset = 4
    found: list[Notified] = []
    for _ in range(count):
        start = offset
        handle, length = struct.unpack_from("<Ii", body, offset)
        offset += 8
        fields: list[ua.Variant] = []
        poison: Poison | None = None
        for place in range(length):
            if offset >= len(body):
                raise UaStructParsingError("the message ends within an event")
            end, sound = extent.variant(body, offset)
            try:
                fields.append(decoded(body, offset, end, sound=sound))
            except DECODE_ERRORS as error:
                fields.append(ua.Variant(None))
                poison = poison or Poison(place, describe(error))
            offset = end
        found.append(Notified(handle, fields, body[start:offset], poison))
    return EventList(found)


def of_objects(notification: ua.EventNotificationList) -> EventList:
    """The same of what the library decoded, from an encoding that only it knows."""
    return EventList(
        [Notified(one.ClientHandle, list(one.EventFields or ()), b"") for one in notification.Events or ()]
    )
