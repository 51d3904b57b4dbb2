"""
Events of servers as the stream brings them: each once, however often a server tells it.

What is learned of an event after it was stored is a row of its own with the next revision: whoever has pulled the first
pulls that one, too.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from broker.store import tables
from broker.store.memory import Memory, Timeless
from broker.store.text import MAX_TEXT, canonical, clean, text_of_bytes
from schemas.alarms import Condition, Event
from schemas.status import Flag

#: What became of an event.
Outcome = Literal["stored", "corrected", "redelivered"]
_SAFE: Final = range(-(2**53), 2**53 + 1)
_INT64: Final = range(-(2**63), 2**63)
#: Events among which one without a time is looked for; a server repeats what was not acknowledged, some messages.
LATELY: Final = 10_000
_KEY: Final = ("source", "time_ns", "fingerprint", "revision")


class Unfit(ValueError):
    """An event has no form in SQL; the text says why."""


def put_event(connection: sa.Connection, memory: Memory, event: Event) -> Outcome:
    """
    Store an event that is not there yet, under the next ``seq``.

    One that is there without an equipment, because a notifier that has none told it first, comes again with this
    notifier's: under the next ``seq`` and revision, and once.

    Raises:
        Unfit: a text of it is too long, or a number too large.
    """
    row = {"seq": memory.last("event_seq") + 1, "revision": 0, **_row(event)}
    # a time of arrival is another one each time that the event comes
    timeless = bool(event.event_id) and bool(event.flags & Flag.ARRIVAL_TIME)
    if timeless:
        told = _timeless(connection, memory)
        name = (row["source"], row["fingerprint"])
        row["time_ns"] = told[name].time_ns if name in told else row["time_ns"]
    # what the unique key holds back; any other conflict is an error
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(tables.events)
    put = insert.on_conflict_do_nothing(index_elements=_KEY).returning(tables.events.c.seq)
    if connection.execute(put, row).scalar() is None:
        return _correct(connection, memory, row) if row["equipment"] else "redelivered"
    memory.set("event_seq", row["seq"])
    if timeless:
        told[name] = Timeless(row["seq"], row["time_ns"])
    return "stored"


def _correct(connection: sa.Connection, memory: Memory, row: dict[str, Any]) -> Outcome:
    """Give an event that is stored without an equipment the one of *row*; whichever notifier named one first counts."""
    table = tables.events
    same = sa.and_(*(table.c[name] == row[name] for name in _KEY if name != "revision"))
    stored = connection.execute(sa.select(table).where(same).order_by(table.c.revision.desc()).limit(1)).one()
    if stored.equipment:
        return "redelivered"
    changed = {"seq": row["seq"], "revision": stored.revision + 1}
    changed |= {name: row[name] for name in ("equipment", "notifier")}
    connection.execute(table.insert(), stored._asdict() | changed)
    memory.set("event_seq", row["seq"])
    return "corrected"


def _timeless(connection: sa.Connection, memory: Memory) -> dict[tuple[str, int], Timeless]:
    """By source and fingerprint: events that have an EventId and no time, of the last ``LATELY`` that were stored."""
    after = memory.last("event_seq") - LATELY
    if memory.timeless is None:
        event = tables.events.c
        query = sa.select(event.source, event.fingerprint, event.seq, event.time_ns, event.flags)
        query = query.where(event.seq > after, event.event_id != "", event.revision == 0).order_by(event.seq)
        memory.timeless = {
            (row.source, row.fingerprint): Timeless(row.seq, row.time_ns)
            for row in connection.execute(query)
            if row.flags & Flag.ARRIVAL_TIME
        }
    told = memory.timeless
    while told and next(iter(told.values())).seq <= after:
        del told[next(iter(told))]
    return told


def _row(event: Event) -> dict[str, Any]:
    state = event.condition
    row: dict[str, Any] = {
        "source": event.source,
        "time_ns": event.time_ns,
        "fingerprint": _fingerprint(event),
        "server_ts": event.server_ns,
        "received_ts": event.received_ns,
        "notifier": event.notifier,
        "equipment": event.equipment,
        "event_id": event.event_id.hex(),
        "event_type": event.event_type,
        "type_name": event.type_name,
        "source_node": event.source_node,
        "source_name": event.source_name,
        "severity": event.severity,
        "message": event.message,
        "flags": event.flags,
        **(_NO_CONDITION if state is None else _condition(state)),
        "fields": _fields(event),
    }
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = value = clean(value)
            if len(value) > MAX_TEXT:
                raise Unfit(f"{name} has {len(value)} characters, more than {MAX_TEXT}")
        elif isinstance(value, int) and value not in _INT64:
            raise Unfit(f"{name} is {value}, beyond 64 bits")
    return row


def _condition(state: Condition) -> dict[str, Any]:
    return {
        "condition_id": state.condition_id,
        "condition_name": state.name,
        "branch_id": state.branch_id,
        "retain": _bit(state.retain),
        "enabled": _bit(state.enabled),
        "acked": _bit(state.acked),
        "confirmed": _bit(state.confirmed),
        "active": _bit(state.active),
        "state": state.state,
        "last_severity": state.last_severity,
        "quality": state.quality,
        "comment": state.comment,
        "user_name": state.user,
    }


def _bit(value: bool | None) -> int | None:
    return None if value is None else int(value)


_NO_CONDITION: Final = dict.fromkeys(_condition(Condition("", "")))


def _fields(event: Event) -> str:
    try:
        return canonical({name: _plain(value) for name, value in event.fields.items()})
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unfit(f"fields have no form in SQL: {error}") from error


def _plain(value: Any) -> Any:
    """As JSON holds it for every reader: large integers and bytes are text, NaN and infinities null."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value in _SAFE else str(value)
    if isinstance(value, bytes):
        return text_of_bytes(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _fingerprint(event: Event) -> int:
    """
    64 bits of what tells two events of one source and time apart.

    The server's EventId and the state of the condition. A server that gives no EventId is told apart by what the event
    says; equipment, fields and time of reception differ by notifier and delivery, and are left out.
    """
    state = event.condition
    parts: list[object] = [event.event_id]
    if state is not None:
        parts += [state.condition_id, state.branch_id, state.retain, state.enabled, state.acked, state.confirmed]
        parts += [state.active]
    if not event.event_id:
        parts += [event.event_type, event.source_node, event.source_name, event.severity, event.message]
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
