"""How the messages of one subscription are read: document, time, quality, and the converter of each tag."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from adapters import timestamps, values
from adapters.mqtt.config import MqttOptions, Subscription
from adapters.mqtt.message import Message
from adapters.mqtt.paths import Getter, getter, is_member
from schemas.status import UNCERTAIN, Flag


class Target(NamedTuple):
    """A tag that takes a part of a message: ``get`` finds it in the document, ``convert`` makes it a value."""

    codec: Codec
    tag: int
    path: str | None
    get: Getter
    convert: values.Converter


class Codec:
    """How the messages of one subscription are read."""

    def __init__(self, subscription: Subscription, options: MqttOptions, counters: Counter[str]) -> None:
        self._counters = counters
        zone = None if options.timezone is None else timestamps.zone(options.timezone)
        self._json = subscription.decode == "json"
        self.depth = options.limits.json_depth
        self.time_path = subscription.time
        self.time_format = subscription.time_format
        self.quality_path = subscription.quality
        members = [path for path in (subscription.time, subscription.quality) if path is not None]
        #: Whether many messages may be read at once: JSON numbers in plain places mean what they mean one by one.
        self.bulk = all(map(is_member, members)) and (self._json or subscription.numbers == "point")
        self._time = None if subscription.time is None else getter(subscription.time)
        self.parse_time = timestamps.parser(subscription.time_format, zone)
        self._quality = None if subscription.quality is None else getter(subscription.quality)
        self.quality_format = subscription.quality_format

    def document(self, payload: bytes) -> Any:
        """Decoded JSON, or the payload itself where it is plain. Raises ValueError or RecursionError."""
        if not self._json:
            return payload
        if values.too_deep(payload, self.depth):
            raise ValueError(f"JSON nests deeper than {self.depth}")
        return msgspec.json.decode(payload)

    def time_ns(self, document: Any) -> int | None:
        """Time in the payload, or None where it has none. Raises ValueError for one that cannot be read."""
        found = None if self._time is None else self._time(document)
        if found is not None:
            return self.parse_time(found)
        if self._time is not None:
            self._counters["time_missing"] += 1
        return None

    def status(self, document: Any) -> int | None:
        """StatusCode in the payload, None where it has none; a mark we do not know is uncertain."""
        found = None if self._quality is None else self._quality(document)
        if found is None:
            return None
        code = values.quality(found, self.quality_format)
        if code is None:
            self._counters["quality_unknown"] += 1
            return UNCERTAIN
        return code


def converter(subscription: Subscription, type_: str | None) -> values.Converter:
    """Converter of what a path finds, for a tag of this declared type."""
    if subscription.decode == "json":
        return values.from_json(type_, subscription.numbers)
    convert = values.from_text(type_, subscription.numbers)
    if type_ is not None and type_.startswith("bytes"):
        return convert
    return lambda payload: convert(payload.decode() if isinstance(payload, bytes) else payload)


def flags_of(message: Message, *, timed: bool, marked: bool) -> int:
    """Flags of a message's rows: what it says itself, and what had to be supplied."""
    flags = Flag(0)
    if not timed:
        flags |= Flag.ARRIVAL_TIME
        if message.dup:
            flags |= Flag.DUP_POSSIBLE
    if not marked:
        flags |= Flag.ASSUMED_GOOD
    if message.retain:
        flags |= Flag.RETAINED
    return int(flags)
