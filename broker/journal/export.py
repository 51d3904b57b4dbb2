"""
Entries of a journal as rows of JSON: what the devices said, before anything was made of it.

Times are RFC 3339 with nine digits. A number that JSON has no form for becomes null (NaN) or text (infinities,
integers beyond 2**53); bytes become base64.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from broker.journal.disk import Disk
from broker.journal.survey import Damage, Item, Survey
from schemas.alarms import Event
from schemas.documents import rfc3339
from schemas.entries import Body, Link, MapInForce, Notice, Tick
from schemas.samples import Gap, Reject, SampleBatch
from schemas.status import Flag, name
from schemas.suppression import Command
from schemas.tagmap import TagMap

#: Columns of a CSV file; a JSON line has those of them that its kind has.
COLUMNS: Final = (
    "kind",
    "epoch",
    "seq",
    "row",
    "time",
    "source",
    "origin",
    "tag",
    "path",
    "source_time",
    "server_time",
    "received_time",
    "value",
    "exact",
    "status",
    "status_code",
    "flags",
    "map_revision",
    "detail",
)
_SAFE: Final = range(-(2**53), 2**53 + 1)


@dataclass(slots=True)
class Exported:
    """How much was written, and what could not be: ``unreadable`` are texts with segment and offset."""

    rows: int = 0
    entries: int = 0
    unreadable: tuple[str, ...] = ()


class Export:
    """
    Rows of a span; iterate :meth:`rows`, then look at ``done``.

    Args:
        from_ns: entries that were journalled at this time (UTC ns) or later; None: from the beginning.
        to_ns: ... and before this time; None: up to the end.
        source: of this source only; entries that concern every source (maps, holes) are left out then.
        kinds: names of :func:`broker.journal.codec.outline` to be given.
    """

    def __init__(
        self,
        directory: Path,
        *,
        from_ns: int | None = None,
        to_ns: int | None = None,
        source: str | None = None,
        kinds: frozenset[str] = frozenset({"samples", "gap", "reject", "link", "notice", "event"}),
        disk: Disk | None = None,
    ) -> None:
        self._survey = Survey(directory, disk=disk)
        self._span = (from_ns, to_ns)
        self._source = source
        self._kinds = kinds
        self._paths: dict[bytes, dict[int, str]] = {}
        self.done = Exported()

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dictionary a sample, and one for each other entry. Raises OSError."""
        from_ns, to_ns = self._span
        for segment in self._survey.segments:
            if segment.header is not None and not segment.may_hold(from_ns, to_ns):
                continue
            for item in self._survey.items(segment):
                if isinstance(item, Damage):
                    text = f"{item.segment}, byte {item.offset}: {item.size} bytes: {item.reason}"
                    self.done.unreadable = (*self.done.unreadable, text)
                    continue
                yield from self._entry(item)

    def _entry(self, item: Item) -> Iterator[dict[str, Any]]:
        try:
            body = item.decode()
        except ValueError as error:
            text = f"{item.segment}, byte {item.offset}: entry {item.position.seq}: {error}"
            self.done.unreadable = (*self.done.unreadable, text)
            return
        if isinstance(body, MapInForce):
            # also of entries before the span: what comes later is named by it
            self._paths[body.revision] = _paths(body)
        from_ns, to_ns = self._span
        if (from_ns is not None and item.wall_ns < from_ns) or (to_ns is not None and item.wall_ns >= to_ns):
            return
        if self._source is not None and getattr(body, "source", None) != self._source:
            return
        kind = kind_of(body)
        if kind not in self._kinds:
            return
        head = {"kind": kind, "epoch": item.position.epoch, "seq": item.position.seq, "time": rfc3339(item.wall_ns)}
        self.done.entries += 1
        if isinstance(body, SampleBatch):
            self.done.rows += len(body)
            yield from self._samples(head, body)
        else:
            yield {**head, **_other(body)}

    def _samples(self, head: dict[str, Any], batch: SampleBatch) -> Iterator[dict[str, Any]]:
        paths = self._paths.get(batch.map_revision, {})
        fixed = {
            "source": batch.source,
            "origin": batch.origin.value,
            "received_time": rfc3339(batch.received_ns),
            "map_revision": batch.map_revision.hex(),
        }
        for row in range(len(batch)):
            tag, status = int(batch.tag[row]), int(batch.status[row])
            server_ns = 0 if batch.server_ns is None else int(batch.server_ns[row])
            yield {
                **head,
                "kind": "sample",
                "row": row,
                **fixed,
                "tag": tag,
                "path": paths.get(tag),
                "source_time": _time(int(batch.source_ns[row])),
                "server_time": _time(server_ns) if server_ns else None,
                "value": number(float(batch.value[row])),
                "exact": plain(batch.exact[row]) if row in batch.exact else None,
                "status": name(status),
                "status_code": status,
                "flags": [flag.name.lower() for flag in Flag(int(batch.flags[row])) if flag.name],
            }


def kind_of(body: Body) -> str:
    """Name of a body's kind."""
    match body:
        case SampleBatch():
            return "samples"
        case Gap():
            return "gap"
        case Reject():
            return "reject"
        case Link():
            return "link"
        case MapInForce():
            return "map"
        case Tick():
            return "tick"
        case Notice():
            return "notice"
        case Command():
            return "command"
        case Event():
            return "event"


def number(value: float) -> float | str | None:
    """A float as JSON has it: NaN is null, an infinity is text."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def plain(value: Any) -> Any:
    """An exact value as JSON keeps it."""
    match value:
        case bool():
            return value
        case int():
            return value if value in _SAFE else str(value)
        case float():
            return number(value)
        case bytes():
            return {"base64": base64.b64encode(value).decode()}
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return None if value is None else str(value)


def _other(body: Body) -> dict[str, Any]:
    match body:
        case Gap():
            detail = {
                "tags": list(body.tags),
                "from": _time(body.from_ns),
                "to": None if body.to_ns is None else _time(body.to_ns),
                "cause": body.cause.value,
                "backfilled": body.backfilled,
                "events": body.events,
                "detail": body.detail,
            }
            return {"source": body.source, "map_revision": body.map_revision.hex() or None, "detail": detail}
        case Reject():
            detail = {"place": body.place, "reason": body.reason, "raw": plain(body.raw)}
            return {"source": body.source, "received_time": rfc3339(body.received_ns), "detail": detail}
        case Link():
            return {"source": body.source, "detail": {"up": body.up, "reason": body.reason}}
        case Notice():
            return {"detail": {"action": body.action, "text": body.text}}
        case Command():
            detail = {
                "command_id": body.command_id,
                "action": body.action,
                "actor": body.actor,
                "target": body.target,
                "kind": body.kind,
                "until": None if body.until_ns is None else _time(body.until_ns),
                "reason": body.reason,
            }
            return {"detail": detail}
        case Event():
            return _event(body)
        case MapInForce():
            tags = len(_paths(body))
            return {"map_revision": body.revision.hex(), "detail": {"tags": tags, "actor": body.actor}}
    return {}


def _event(event: Event) -> dict[str, Any]:
    detail = {
        "notifier": event.notifier,
        "equipment": event.equipment,
        "event_id": event.event_id.hex(),
        "event_type": event.event_type,
        "type_name": event.type_name,
        "source_node": event.source_node,
        "source_name": event.source_name,
        "severity": event.severity,
        "message": event.message,
        "condition": None if event.condition is None else plain(asdict(event.condition)),
        "fields": plain(event.fields),
    }
    return {
        "source": event.source,
        "source_time": _time(event.time_ns),
        "server_time": None if event.server_ns is None else _time(event.server_ns),
        "received_time": rfc3339(event.received_ns),
        "flags": [flag.name.lower() for flag in Flag(event.flags) if flag.name],
        "detail": detail,
    }


def _paths(body: MapInForce) -> dict[int, str]:
    try:
        return {tag.number: tag.path for tag in TagMap.from_body(body.body).tags}
    except ValueError:
        return {}


def _time(ns: int) -> str | None:
    """RFC 3339, or the bare number where a device's time has no date (before the year 1, after 9999)."""
    try:
        return rfc3339(ns)
    except (ValueError, OverflowError, OSError):
        return str(ns)
