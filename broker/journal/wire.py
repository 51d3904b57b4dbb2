"""
Wire forms of the bodies of entries: what msgpack holds of each, columns as raw little-endian bytes.

They are arrays with a leading tag; fields are only ever added at the end, with a default.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.suppression import Action


class Batch(msgspec.Struct, tag="s", array_like=True):
    """:class:`schemas.samples.SampleBatch`."""

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


class Gap(msgspec.Struct, tag="g", array_like=True):
    """:class:`schemas.samples.Gap`."""

    source: str
    tags: tuple[int, ...]
    from_ns: int
    to_ns: int | None
    cause: str
    backfilled: bool
    map_revision: bytes
    detail: str
    events: bool = False


class Reject(msgspec.Struct, tag="r", array_like=True):
    """:class:`schemas.samples.Reject`."""

    source: str
    place: str
    reason: str
    raw: bytes
    received_ns: int


class Link(msgspec.Struct, tag="l", array_like=True):
    """:class:`schemas.entries.Link`."""

    source: str
    up: bool
    reason: str


class Map(msgspec.Struct, tag="m", array_like=True):
    """:class:`schemas.entries.MapInForce`."""

    revision: bytes
    body: bytes
    actor: str = ""


class Tick(msgspec.Struct, tag="t", array_like=True):
    """:class:`schemas.entries.Tick`."""


class Notice(msgspec.Struct, tag="n", array_like=True):
    """:class:`schemas.entries.Notice`."""

    action: str
    text: str


class Command(msgspec.Struct, tag="c", array_like=True):
    """:class:`schemas.suppression.Command`."""

    command_id: str
    action: Action
    actor: str
    target: str
    kind: str
    until_ns: int | None
    reason: str
    asked_ns: int


class Condition(msgspec.Struct, array_like=True):
    """:class:`schemas.alarms.Condition`."""

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


class Event(msgspec.Struct, tag="e", array_like=True):
    """:class:`schemas.alarms.Event`."""

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
    condition: Condition | None
    fields: dict[str, Any]


Form = Batch | Gap | Reject | Link | Map | Tick | Notice | Event | Command

#: Names of the kinds of entries, as people see them.
KINDS: Final[dict[type, str]] = {
    Batch: "samples",
    Gap: "gap",
    Reject: "reject",
    Link: "link",
    Map: "map",
    Tick: "tick",
    Notice: "notice",
    Command: "command",
    Event: "event",
}
