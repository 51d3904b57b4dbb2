"""Options of watching a server's events; the field descriptions are the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, field_validator

from adapters.base import Options
from adapters.opcua.nodes import parse_address

#: The Server object tells the events of everything below it (Part 5, 8.3.2).
SERVER: Final = "i=2253"
#: BaseEventType: every event.
EVERY_TYPE: Final = "i=2041"
_FIELD: Final = re.compile(r"^(?:nsu=(?P<uri>[^;]+);)?(?P<path>.+)$", re.DOTALL)
_PART: Final = re.compile(r"^(?:(?P<index>[0-9]{1,5}):)?(?P<name>.+)$", re.DOTALL)
_MOST_PARTS: Final = 8


@dataclass(frozen=True, slots=True)
class FieldPath:
    """Browse path of a field: (namespace URI or index, name) of each step."""

    parts: tuple[tuple[str | int, str], ...]


def parse_field(text: str) -> FieldPath:
    """
    Read a browse path such as ``ActiveState/TransitionTime`` or ``nsu=urn:maker:press;Batch/Number``.

    Raises ValueError with a text that says what is wrong.
    """
    match = _FIELD.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a field; write it like nsu=urn:maker:press;Batch/Number")
    uri = match.group("uri")
    parts: list[tuple[str | int, str]] = []
    for step in match.group("path").split("/"):
        found = _PART.match(step)
        if found is None:
            raise ValueError(f"{text!r} has an empty step; write it like Batch/Number")
        index = found.group("index")
        if index is not None and int(index) > 0xFFFF:
            raise ValueError(f"namespace index {index} is above 65535")
        parts.append((int(index) if index is not None else uri or 0, found.group("name")))
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"{text!r} has {len(parts)} steps, more than {_MOST_PARTS}")
    return FieldPath(tuple(parts))


class EventOptions(Options):
    """Events of one node of the server, alarms and conditions among them."""

    notifier: Annotated[
        str,
        Field(description="The node whose events are watched, like a tag's address; default the Server object: all."),
    ] = SERVER
    equipment: Annotated[
        str,
        Field(max_length=500, description="Path of the equipment that the events belong to, as in the tag map."),
    ] = ""
    severity: Annotated[int, Field(ge=1, le=1000, description="Least severity, 1 to 1000.")] = 1
    types: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=50, description="Event types, subtypes included, like a tag's address."),
    ] = (EVERY_TYPE,)
    fields: Annotated[
        tuple[str, ...],
        Field(
            max_length=100,
            description="Further fields by browse path from the type: `Batch/Number` with `nsu=<uri>;` before it, or "
            "with an index before a step (`2:Batch`); without either in namespace 0.",
        ),
    ] = ()
    queue: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="Events that the server keeps while nobody fetches them."),
    ] = 10_000

    @field_validator("notifier")
    @classmethod
    def _node(cls, text: str) -> str:
        parse_address(text)
        return text

    @field_validator("types")
    @classmethod
    def _nodes(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            parse_address(text)
        return texts

    @field_validator("fields")
    @classmethod
    def _paths(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            parse_field(text)
        twice = {text for text in texts if texts.count(text) > 1}
        if twice:
            raise ValueError(f"{min(twice)!r} is listed twice")
        return texts


def listed_once(events: tuple[EventOptions, ...]) -> tuple[EventOptions, ...]:
    """Raise ValueError where two entries watch one node."""
    notifiers = [one.notifier for one in events]
    twice = {notifier for notifier in notifiers if notifiers.count(notifier) > 1}
    if twice:
        raise ValueError(f"the notifier {min(twice)!r} is listed twice")
    return events
