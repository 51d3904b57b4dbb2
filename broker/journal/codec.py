"""Bodies of entries to bytes and back: msgpack of their wire forms (:mod:`broker.journal.wire`)."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from broker.journal import wire
from broker.journal.exact import MAX_DEPTH, clean, is_shallow, packable, unpack
from schemas.alarms import Condition, Event
from schemas.entries import Body, Link, MapInForce, Notice, Tick
from schemas.samples import Gap, GapCause, Origin, Reject, SampleBatch
from schemas.suppression import Command

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(wire.Form, ext_hook=unpack)


def _raw(column: NDArray[Any], dtype: str) -> bytes:
    # A view, which msgspec copies once; `bytes` is what comes back.
    return cast("bytes", np.ascontiguousarray(column, dtype).data)


def _form(body: Body, exact: dict[Any, Any]) -> wire.Form:
    """The wire form; *exact* are the exact values of a batch, or the further fields of an event."""
    match body:
        case SampleBatch():
            return wire.Batch(
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
            return wire.Gap(
                body.source,
                body.tags,
                body.from_ns,
                body.to_ns,
                body.cause.value,
                body.backfilled,
                body.map_revision,
                clean(body.detail),
                body.events,
            )
        case Reject():
            return wire.Reject(body.source, clean(body.place), clean(body.reason), body.raw, body.received_ns)
        case Link():
            return wire.Link(body.source, body.up, clean(body.reason))
        case MapInForce():
            return wire.Map(body.revision, body.body, clean(body.actor))
        case Tick():
            return wire.Tick()
        case Notice():
            return wire.Notice(clean(body.action), clean(body.text))
        case Command():
            return wire.Command(
                body.command_id,
                body.action,
                clean(body.actor),
                clean(body.target),
                body.kind,
                body.until_ns,
                clean(body.reason),
                body.asked_ns,
            )
        case Event():
            return _event(body, exact)


def _event(event: Event, fields: dict[str, Any]) -> wire.Event:
    state = event.condition
    return wire.Event(
        event.source,
        clean(event.notifier),
        clean(event.equipment),
        event.event_id,
        clean(event.event_type),
        clean(event.type_name),
        clean(event.source_node),
        clean(event.source_name),
        event.time_ns,
        event.server_ns,
        event.received_ns,
        event.severity,
        clean(event.message),
        event.flags,
        None
        if state is None
        else wire.Condition(
            clean(state.condition_id),
            clean(state.name),
            clean(state.branch_id),
            state.retain,
            state.enabled,
            state.acked,
            state.confirmed,
            state.active,
            clean(state.state),
            state.last_severity,
            state.quality,
            clean(state.comment),
            clean(state.user),
        ),
        fields,
    )


def _read_event(form: wire.Event) -> Event:
    state = form.condition
    # the members of the wire form are those of the types, in their order
    values = {name: getattr(form, name) for name in wire.Event.__struct_fields__}
    if state is not None:
        values["condition"] = Condition(*(getattr(state, name) for name in wire.Condition.__struct_fields__))
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
            if not is_shallow(value):
                raise ValueError(f"exact value of row {row} is nested deeper than {MAX_DEPTH} levels")
    elif isinstance(body, Event):
        exact = body.fields
        for name, item in exact.items():
            if not is_shallow(item):
                raise ValueError(f"field {name} is nested deeper than {MAX_DEPTH} levels")
    try:
        return _encoder.encode(_form(body, exact))
    except (OverflowError, UnicodeEncodeError, TypeError, RecursionError):
        pass
    try:
        return _encoder.encode(_form(body, packable(exact)))
    except (OverflowError, UnicodeEncodeError, TypeError, RecursionError) as error:
        raise ValueError(f"{type(body).__name__} cannot be journalled: {error}") from error


def refused_rows(batch: SampleBatch) -> dict[int, str]:
    """Rows whose exact value :func:`encode` refuses, each with the reason."""
    found: dict[int, str] = {}
    for row, value in batch.exact.items():
        if not is_shallow(value):
            found[row] = f"the value is nested deeper than {MAX_DEPTH} levels"
            continue
        try:
            _encoder.encode(packable(value))
        except (OverflowError, UnicodeEncodeError, TypeError) as error:
            found[row] = f"the value cannot be journalled: {error}"
    return found


def decode(data: bytes | memoryview) -> Body:
    """
    Inverse of :func:`encode`; columns are read-only views.

    Raises:
        ValueError: bytes that no version up to this one has written (msgspec's errors are ValueErrors).
    """
    form = _read(data)
    match form:
        case wire.Batch():
            return SampleBatch(
                form.source,
                Origin(form.origin),
                form.map_revision,
                form.received_ns,
                _column(form.tag, "<i4", np.int32),
                _column(form.source_ns, "<i8", np.int64),
                None if form.server_ns is None else _column(form.server_ns, "<i8", np.int64),
                _column(form.value, "<f8", np.float64),
                _column(form.status, "<u4", np.uint32),
                _column(form.flags, "<u4", np.uint32),
                form.exact,
            )
        case wire.Gap():
            return Gap(
                form.source,
                form.tags,
                form.from_ns,
                form.to_ns,
                GapCause(form.cause),
                form.backfilled,
                form.map_revision,
                form.detail,
                form.events,
            )
        case wire.Reject():
            return Reject(form.source, form.place, form.reason, form.raw, form.received_ns)
        case wire.Link():
            return Link(form.source, form.up, form.reason)
        case wire.Map():
            return MapInForce(form.revision, form.body, form.actor)
        case wire.Tick():
            return Tick()
        case wire.Notice():
            return Notice(form.action, form.text)
        case wire.Command():
            return Command(
                form.command_id,
                form.action,
                form.actor,
                form.target,
                form.kind,
                form.until_ns,
                form.reason,
                form.asked_ns,
            )
        case wire.Event():
            return _read_event(form)


def _read(data: bytes | memoryview) -> wire.Form:
    try:
        form: wire.Form = _decoder.decode(data)
    except RecursionError as error:
        raise ValueError(f"nested too deeply to be read: {error}") from error
    return form


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
    form = _read(data)
    rows = len(form.tag) // 4 if isinstance(form, wire.Batch) else 0
    return Outline(wire.KINDS[type(form)], getattr(form, "source", ""), rows)


def _column(raw: bytes, stored: str, dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(raw, stored).astype(dtype, copy=False)
