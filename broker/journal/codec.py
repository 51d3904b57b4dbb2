"""
Bodies of entries as bytes: msgpack, columns as raw little-endian bytes.

Wire forms are arrays with a leading tag; fields are only ever added at the end, with a default.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.alarms import Condition, Event
from schemas.entries import Body, Link, MapInForce, Notice, Tick
from schemas.samples import Gap, GapCause, Origin, Reject, SampleBatch
from schemas.suppression import Action, Command

#: msgpack integers end at 64 bits, and text must be UTF-8: what lies beyond travels as an extension.
_BIG_INT: Final = 1
_SURROGATES: Final = 2
#: Levels of lists and dicts an exact value may have; what is read back must never meet the interpreter's own limit.
MAX_DEPTH: Final = 32


class _Batch(msgspec.Struct, tag="s", array_like=True):
    source: str
    origin: str
    map_revision: bytes
    received_ns: int
    tag: bytes
    source_ns: bytes
    server_ns: bytes | None
    value: bytes
    status: bytes
    flags: bytes
    exact: dict[int, Any]


class _Gap(msgspec.Struct, tag="g", array_like=True):
    source: str
    tags: tuple[int, ...]
    from_ns: int
    to_ns: int | None
    cause: str
    backfilled: bool
    map_revision: bytes
    detail: str
    events: bool = False


class _Reject(msgspec.Struct, tag="r", array_like=True):
    source: str
    place: str
    reason: str
    raw: bytes
    received_ns: int


class _Link(msgspec.Struct, tag="l", array_like=True):
    source: str
    up: bool
    reason: str


class _Map(msgspec.Struct, tag="m", array_like=True):
    revision: bytes
    body: bytes
    actor: str = ""


class _Tick(msgspec.Struct, tag="t", array_like=True):
    pass


class _Notice(msgspec.Struct, tag="n", array_like=True):
    action: str
    text: str


class _Command(msgspec.Struct, tag="c", array_like=True):
    command_id: str
    action: Action
    actor: str
    target: str
    kind: str
    until_ns: int | None
    reason: str
    asked_ns: int


class _Condition(msgspec.Struct, array_like=True):
    condition_id: str
    name: str
    branch_id: str
    retain: bool | None
    enabled: bool | None
    acked: bool | None
    confirmed: bool | None
    active: bool | None
    state: str
    last_severity: int | None
    quality: int | None
    comment: str
    user: str


class _Event(msgspec.Struct, tag="e", array_like=True):
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
    flags: int
    condition: _Condition | None
    fields: dict[str, Any]


_Wire = _Batch | _Gap | _Reject | _Link | _Map | _Tick | _Notice | _Event | _Command


def _unpack(code: int, data: memoryview) -> Any:
    if code == _BIG_INT:
        return int.from_bytes(data, "little", signed=True)
    if code == _SURROGATES:
        return bytes(data).decode("utf-8", "surrogatepass")
    return msgspec.msgpack.Ext(code, bytes(data))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire, ext_hook=_unpack)


def _packable(value: Any) -> Any:
    """The same value with what msgpack cannot hold replaced by extensions."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return msgspec.msgpack.Ext(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return msgspec.msgpack.Ext(_SURROGATES, value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return {_clean(key) if isinstance(key, str) else key: _packable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_packable(item) for item in value]
    return value


def _is_shallow(value: Any, levels: int = MAX_DEPTH) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in value)


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _raw(column: NDArray[Any], dtype: str) -> bytes:
    # A view, which msgspec copies once; `bytes` is what comes back.
    return cast("bytes", np.ascontiguousarray(column, dtype).data)


def _wire(body: Body, exact: dict[Any, Any]) -> _Wire:
    """The wire form; *exact* are the exact values of a batch, or the further fields of an event."""
    match body:
        case SampleBatch():
            return _Batch(
                body.source,
                body.origin.value,
                body.map_revision,
                body.received_ns,
                _raw(body.tag, "<i4"),
                _raw(body.source_ns, "<i8"),
                None if body.server_ns is None else _raw(body.server_ns, "<i8"),
                _raw(body.value, "<f8"),
                _raw(body.status, "<u4"),
                _raw(body.flags, "<u4"),
                exact,
            )
        case Gap():
            return _Gap(
                body.source,
                body.tags,
                body.from_ns,
                body.to_ns,
                body.cause.value,
                body.backfilled,
                body.map_revision,
                _clean(body.detail),
                body.events,
            )
        case Reject():
            return _Reject(body.source, _clean(body.place), _clean(body.reason), body.raw, body.received_ns)
        case Link():
            return _Link(body.source, body.up, _clean(body.reason))
        case MapInForce():
            return _Map(body.revision, body.body, _clean(body.actor))
        case Tick():
            return _Tick()
        case Notice():
            return _Notice(_clean(body.action), _clean(body.text))
        case Command():
            return _Command(
                body.command_id,
                body.action,
                _clean(body.actor),
                _clean(body.target),
                body.kind,
                body.until_ns,
                _clean(body.reason),
                body.asked_ns,
            )
        case Event():
            return _event(body, exact)


def _event(event: Event, fields: dict[str, Any]) -> _Event:
    state = event.condition
    return _Event(
        event.source,
        _clean(event.notifier),
        _clean(event.equipment),
        event.event_id,
        _clean(event.event_type),
        _clean(event.type_name),
        _clean(event.source_node),
        _clean(event.source_name),
        event.time_ns,
        event.server_ns,
        event.received_ns,
        event.severity,
        _clean(event.message),
        event.flags,
        None
        if state is None
        else _Condition(
            _clean(state.condition_id),
            _clean(state.name),
            _clean(state.branch_id),
            state.retain,
            state.enabled,
            state.acked,
            state.confirmed,
            state.active,
            _clean(state.state),
            state.last_severity,
            state.quality,
            _clean(state.comment),
            _clean(state.user),
        ),
        fields,
    )


def _read_event(wire: _Event) -> Event:
    state = wire.condition
    # the members of the wire form are those of the types, in their order
    values = {name: getattr(wire, name) for name in _Event.__struct_fields__}
    if state is not None:
        values["condition"] = Condition(*(getattr(state, name) for name in _Condition.__struct_fields__))
    return Event(**values)


def encode(body: Body) -> bytes:
    """
    Bytes of one body.

    Raises:
        ValueError: columns that differ in length or type, or an exact value (a field of an event) that is neither
            text, number, bytes, list nor dict, or is nested deeper than ``MAX_DEPTH``.
    """
    exact: dict[Any, Any] = {}
    if isinstance(body, SampleBatch):
        body.check()
        exact = body.exact
        for row, value in exact.items():
            if not _is_shallow(value):
                raise ValueError(f"exact value of row {row} is nested deeper than {MAX_DEPTH} levels")
    elif isinstance(body, Event):
        exact = body.fields
        for name, item in exact.items():
            if not _is_shallow(item):
                raise ValueError(f"field {name} is nested deeper than {MAX_DEPTH} levels")
    try:
        return _encoder.encode(_wire(body, exact))
    except (OverflowError, UnicodeEncodeError, TypeError, RecursionError):
        pass
    try:
        return _encoder.encode(_wire(body, _packable(exact)))
    except (OverflowError, UnicodeEncodeError, TypeError, RecursionError) as error:
        raise ValueError(f"{type(body).__name__} cannot be journalled: {error}") from error


def refused_rows(batch: SampleBatch) -> dict[int, str]:
    """Rows whose exact value :func:`encode` refuses, each with the reason."""
    found: dict[int, str] = {}
    for row, value in batch.exact.items():
        if not _is_shallow(value):
            found[row] = f"the value is nested deeper than {MAX_DEPTH} levels"
            continue
        try:
            _encoder.encode(_packable(value))
        except (OverflowError, UnicodeEncodeError, TypeError) as error:
            found[row] = f"the value cannot be journalled: {error}"
    return found


def decode(data: bytes | memoryview) -> Body:
    """
    Inverse of :func:`encode`; columns are read-only views.

    Raises:
        ValueError: bytes that no version up to this one has written (msgspec's errors are ValueErrors).
    """
    try:
        wire: _Wire = _decoder.decode(data)
    except RecursionError as error:
        raise ValueError(f"nested too deeply to be read: {error}") from error
    match wire:
        case _Batch():
            return SampleBatch(
                wire.source,
                Origin(wire.origin),
                wire.map_revision,
                wire.received_ns,
                _column(wire.tag, "<i4", np.int32),
                _column(wire.source_ns, "<i8", np.int64),
                None if wire.server_ns is None else _column(wire.server_ns, "<i8", np.int64),
                _column(wire.value, "<f8", np.float64),
                _column(wire.status, "<u4", np.uint32),
                _column(wire.flags, "<u4", np.uint32),
                wire.exact,
            )
        case _Gap():
            return Gap(
                wire.source,
                wire.tags,
                wire.from_ns,
                wire.to_ns,
                GapCause(wire.cause),
                wire.backfilled,
                wire.map_revision,
                wire.detail,
                wire.events,
            )
        case _Reject():
            return Reject(wire.source, wire.place, wire.reason, wire.raw, wire.received_ns)
        case _Link():
            return Link(wire.source, wire.up, wire.reason)
        case _Map():
            return MapInForce(wire.revision, wire.body, wire.actor)
        case _Tick():
            return Tick()
        case _Notice():
            return Notice(wire.action, wire.text)
        case _Command():
            return Command(
                wire.command_id,
                wire.action,
                wire.actor,
                wire.target,
                wire.kind,
                wire.until_ns,
                wire.reason,
                wire.asked_ns,
            )
        case _Event():
            return _read_event(wire)


class Outline(NamedTuple):
    """What an entry is, without its columns; ``rows`` is 0 for everything but samples."""

    kind: str
    source: str
    rows: int


def outline(data: bytes | memoryview) -> Outline:
    """
    Kind, source and number of rows of one body, at a fraction of what :func:`decode` costs.

    Raises:
        ValueError: as :func:`decode`.
    """
    try:
        wire: _Wire = _decoder.decode(data)
    except RecursionError as error:
        raise ValueError(f"nested too deeply to be read: {error}") from error
    rows = len(wire.tag) // 4 if isinstance(wire, _Batch) else 0
    return Outline(_KINDS[type(wire)], getattr(wire, "source", ""), rows)


#: Names of the kinds of entries, as people see them.
_KINDS: Final[dict[type, str]] = {
    _Batch: "samples",
    _Gap: "gap",
    _Reject: "reject",
    _Link: "link",
    _Map: "map",
    _Tick: "tick",
    _Notice: "notice",
    _Command: "command",
    _Event: "event",
}


def _column(raw: bytes, stored: str, dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(raw, stored).astype(dtype, copy=False)
