"""
Responses of a server, from the bytes that the library's channel has put together, checked and decrypted.

A plain header, a DataChangeNotification and an EventNotificationList are read here; what is odd in a header, and every
other notification, goes through the library's decoder, which ``general`` tells. Source: OPC UA Part 4, 5.14.5 and 7.26;
Part 6, 5.2.2.15.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import extensionobject_from_binary, nodeid_from_binary, struct_from_binary
from asyncua.ua.uaerrors import UaStructParsingError

from adapters.opcua import event_wire, wire
from adapters.opcua.data_value import objects
from adapters.opcua.event_wire import EventList
from adapters.opcua.faults import DECODE_ERRORS
from adapters.opcua.rows import OneByOne, Rows

T = TypeVar("T")

_FAULT: Final = int(ua.ObjectIds.ServiceFault_Encoding_DefaultBinary)
_PUBLISH: Final = int(ua.ObjectIds.PublishResponse_Encoding_DefaultBinary)
_REPUBLISH: Final = int(ua.ObjectIds.RepublishResponse_Encoding_DefaultBinary)
_READ: Final = int(ua.ObjectIds.ReadResponse_Encoding_DefaultBinary)
_HISTORY_READ: Final = int(ua.ObjectIds.HistoryReadResponse_Encoding_DefaultBinary)
_DATA_CHANGE: Final = int(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary)
_EVENTS: Final = int(ua.ObjectIds.EventNotificationList_Encoding_DefaultBinary)
_HISTORY_DATA: Final = int(ua.ObjectIds.HistoryData_Encoding_DefaultBinary)
_HEAD: Final = struct.Struct("<BBHqIIBiBBB")
_OBJECT: Final = struct.Struct("<BBHBi")
_BYTES: Final = 1  # the body of an extension object is a ByteString


@dataclass(slots=True)
class Message:
    """
    One NotificationMessage.

    ``parts`` are :class:`Rows` of data changes, :class:`EventList` of events, or the library's objects of everything
    else; empty: a keep-alive.
    ``general`` tells whether the library's decoder was needed anywhere.
    """

    sequence: int
    parts: list[Rows | EventList | Any] = field(default_factory=list)
    general: bool = False


@dataclass(slots=True)
class Published:
    """One PublishResponse: ``refused`` acknowledgements of the request, ``more`` messages that wait at the server."""

    subscription_id: int
    message: Message
    more: bool
    refused: int


@dataclass(slots=True)
class History:
    """One node's part of a HistoryReadResponse: a ``continuation`` asks for what follows, None: that was all."""

    status: int
    rows: Rows
    continuation: bytes | None


def published(buffer: Buffer) -> Published:
    """
    A PublishResponse.

    Raises the status code of a fault or of the service, and UaStructParsingError for what cannot be read.
    """
    return _decoded("publish response", lambda: _published(bytes(buffer)))


def republished(buffer: Buffer) -> Message:
    """A RepublishResponse. Raises as :func:`published`."""
    return _decoded("republished message", lambda: _message(*_header(bytes(buffer), _REPUBLISH))[0])


def values(buffer: Buffer) -> list[ua.DataValue]:
    """The values of a ReadResponse, as objects whose times keep their 100 ns. Raises as :func:`published`."""
    return _decoded("read response", lambda: _values(bytes(buffer)))


def history(buffer: Buffer) -> list[History]:
    """The results of a HistoryReadResponse. Raises as :func:`published`."""
    return _decoded("history", lambda: _history(bytes(buffer)))


def _decoded(what: str, decode: Callable[[], T]) -> T:
    try:
        return decode()
    except (ua.UaStatusCodeError, UaStructParsingError):
        raise
    except DECODE_ERRORS as error:
        raise UaStructParsingError(f"{what}: {error}") from error


def _header(body: bytes, type_id: int) -> tuple[bytes, int, bool]:
    """Read type and ResponseHeader. Returns the body, the offset behind them, and whether the library was needed."""
    encoding, namespace, found, _, _, result, diagnostics, strings, *additional = _HEAD.unpack_from(body)
    if (encoding, namespace, found) == (1, 0, type_id) and not diagnostics and strings <= 0 and additional == [0, 0, 0]:
        ua.StatusCode(result).check()
        return body, _HEAD.size, False
    buffer = Buffer(body)
    node = nodeid_from_binary(buffer)
    if node.NamespaceIndex or node.Identifier not in (type_id, _FAULT):
        raise UaStructParsingError(f"want a response of type i={type_id}, got {node.to_string()}")
    struct_from_binary(ua.ResponseHeader, buffer).ServiceResult.check()
    if node.Identifier == _FAULT:
        raise UaStructParsingError("a ServiceFault without a status code")
    return body, buffer.cur_pos, True


def _published(body: bytes) -> Published:
    _, offset, general = _header(body, _PUBLISH)
    subscription_id, available = struct.unpack_from("<Ii", body, offset)
    offset += 8 + 4 * max(available, 0)
    [more] = struct.unpack_from("<?", body, offset)
    message, offset = _message(body, offset + 1, general)
    [count] = struct.unpack_from("<i", body, offset)
    results = struct.unpack_from(f"<{max(count, 0)}I", body, offset + 4)
    return Published(subscription_id, message, more, sum(code >> 30 != 0 for code in results))


def _message(body: bytes, offset: int, general: bool) -> tuple[Message, int]:
    """A NotificationMessage and the offset behind it."""
    sequence, _, count = struct.unpack_from("<Iqi", body, offset)
    offset += 16
    message = Message(sequence, general=general)
    for _ in range(count):
        part, offset = _notification(body, offset)
        message.parts.append(part)
        message.general |= not isinstance(part, Rows | EventList) or (isinstance(part, Rows) and part.general > 0)
    return message, offset


def _notification(body: bytes, offset: int) -> tuple[Rows | EventList | Any, int]:
    encoding, namespace, type_id, kind, length = _OBJECT.unpack_from(body, offset)
    if (encoding, namespace, kind) == (1, 0, _BYTES) and type_id in (_DATA_CHANGE, _EVENTS) and length >= 4:
        start = offset + _OBJECT.size
        part = body[start : start + length]
        if len(part) != length:
            raise UaStructParsingError("the message ends within a notification")
        if type_id == _EVENTS:
            return event_wire.event_list(part), start + length
        [count] = struct.unpack_from("<i", part)
        return wire.values(part, 4, count, handles=True)[0], start + length
    buffer = Buffer(body, offset)
    part = extensionobject_from_binary(buffer)
    if isinstance(part, ua.DataChangeNotification):  # in an encoding that only the library knows
        rows = OneByOne()
        for item in part.MonitoredItems or ():
            rows.add(item.ClientHandle, item.Value)
        return rows.rows(), buffer.cur_pos
    if isinstance(part, ua.EventNotificationList):
        return event_wire.of_objects(part), buffer.cur_pos
    return part, buffer.cur_pos


def _values(body: bytes) -> list[ua.DataValue]:
    _, offset, _ = _header(body, _READ)
    [count] = struct.unpack_from("<i", body, offset)
    return objects(body, offset + 4, count)[0]


def _history(body: bytes) -> list[History]:
    _, offset, _ = _header(body, _HISTORY_READ)
    [count] = struct.unpack_from("<i", body, offset)
    offset += 4
    results: list[History] = []
    for _ in range(count):
        status, length = struct.unpack_from("<Ii", body, offset)
        offset += 8
        continuation = body[offset : offset + length] if length > 0 else None
        offset += max(length, 0)
        rows, offset = _history_data(body, offset)
        results.append(History(status, rows, continuation))
    return results


def _history_data(body: bytes, offset: int) -> tuple[Rows, int]:
    buffer = Buffer(body, offset)
    type_id = nodeid_from_binary(buffer)
    [kind] = buffer.read(1)
    if not kind:
        return OneByOne().rows(), buffer.cur_pos
    [length] = struct.unpack("<i", buffer.read(4))
    start = buffer.cur_pos
    part = body[start : start + max(length, 0)]
    if type_id.NamespaceIndex or type_id.Identifier != _HISTORY_DATA or len(part) != max(length, 0):
        raise UaStructParsingError(f"want HistoryData, got {type_id.to_string()} of {length} bytes")
    [count] = struct.unpack_from("<i", part) if part else (0,)
    return wire.values(part, 4, count, handles=False)[0], start + len(part)
