"""
Messages into columns.

One bad message is one refusal and costs nothing else. What the payload does not say (time, quality) is supplied and
flagged, never silently made up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import jmespath
import msgspec
import numpy as np

from adapters import timestamps, values
from adapters.base import AdapterContext
from adapters.mqtt.config import MqttOptions, Subscription
from adapters.mqtt.topics import TopicMap, parse_address
from schemas.samples import Exact, Origin, Reject, SampleBatch
from schemas.status import GOOD, UNCERTAIN, UNCERTAIN_LAST_USABLE, Flag, Quality, quality

#: Bytes of a refused payload that are kept.
RAW_LIMIT: Final = 4096

_SIMPLE: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*$")
#: Characters of one reason; a library may repeat the whole payload in its error.
_REASON: Final = 200


class Message(NamedTuple):
    """A message as it came; ``payload`` is cut to :data:`RAW_LIMIT` where ``size`` is beyond the limit."""

    topic: bytes
    payload: bytes
    size: int
    qos: int
    retain: bool
    dup: bool
    mid: int
    arrival_ns: int


Getter = Callable[[Any], Any]


def getter(path: str | None) -> Getter:
    """
    Evaluate a JMESPath on decoded JSON; None where it finds nothing, ValueError where it cannot be evaluated.

    Plain member chains (``a.b.c``) take a path of their own that costs a tenth of the library's.
    """
    if path is None:
        return lambda document: document
    if _SIMPLE.match(path) is None:
        return _search(path)
    names = path.split(".")
    if len(names) == 1:
        only = names[0]
        return lambda document: document.get(only) if type(document) is dict else None

    def walk(document: Any) -> Any:
        for name in names:
            document = document.get(name) if type(document) is dict else None
        return document

    return walk


def _search(path: str) -> Getter:
    compiled = jmespath.compile(path)

    def search(document: Any) -> Any:
        try:
            return compiled.search(document)
        except Exception as error:
            # The library lets TypeError, OverflowError and AttributeError of its functions pass.
            raise ValueError(f"{path}: {_said(error)}") from error

    return search


def _said(error: Exception) -> str:
    """Text of an error, cut; jmespath puts the value into its text, and not every value has one."""
    try:
        text = str(error)
    except ValueError:
        text = ""
    return (text or type(error).__name__)[:_REASON]


class _Target(NamedTuple):
    codec: _Codec
    tag: int
    path: str | None
    get: Getter
    convert: values.Converter


class _Codec:
    """How the messages of one subscription are read."""

    def __init__(self, subscription: Subscription, options: MqttOptions, counters: Counter[str]) -> None:
        self._counters = counters
        zone = None if options.timezone is None else timestamps.zone(options.timezone)
        self._json = subscription.decode == "json"
        self._depth = options.limits.json_depth
        self._time = None if subscription.time is None else getter(subscription.time)
        self._parse_time = timestamps.parser(subscription.time_format, zone)
        self._quality = None if subscription.quality is None else getter(subscription.quality)
        self._quality_format = subscription.quality_format

    def document(self, payload: bytes) -> Any:
        """Decoded JSON, or the payload itself where it is plain. Raises ValueError or RecursionError."""
        if not self._json:
            return payload
        if values.too_deep(payload, self._depth):
            raise ValueError(f"JSON nests deeper than {self._depth}")
        return msgspec.json.decode(payload)

    def time_ns(self, document: Any) -> int | None:
        """Time in the payload, or None where it has none. Raises ValueError for one that cannot be read."""
        found = None if self._time is None else self._time(document)
        if found is not None:
            return self._parse_time(found)
        if self._time is not None:
            self._counters["time_missing"] += 1
        return None

    def status(self, document: Any) -> int | None:
        """StatusCode in the payload, None where it has none; a mark we do not know is uncertain."""
        found = None if self._quality is None else self._quality(document)
        if found is None:
            return None
        code = values.quality(found, self._quality_format)
        if code is None:
            self._counters["quality_unknown"] += 1
            return UNCERTAIN
        return code


class _Rows:
    """Columns of a batch in the making."""

    def __init__(self) -> None:
        self.tag: list[int] = []
        self.source_ns: list[int] = []
        self.value: list[float] = []
        self.status: list[int] = []
        self.flags: list[int] = []
        self.exact: dict[int, Exact] = {}

    def add(self, tag: int, source_ns: int, value: values.Value, status: int, flags: int) -> None:
        bad = quality(status) is Quality.BAD
        if value[1] is not None and not bad:
            self.exact[len(self.tag)] = value[1]
        self.tag.append(tag)
        self.source_ns.append(source_ns)
        self.value.append(float("nan") if bad else value[0])
        self.status.append(status)
        self.flags.append(flags)


class Decoder:
    """
    Turns the messages of one source into batches.

    Counts into *counters*: ``messages``, ``rejected``, ``unmapped`` (no tag wants the topic), ``path_missing`` (a
    tag's path is not in the payload), ``time_missing``, ``quality_unknown``, ``retained_ignored``.
    """

    def __init__(self, options: MqttOptions, context: AdapterContext, counters: Counter[str]) -> None:
        self._options = options
        self._context = context
        self._counters = counters
        self._last_arrival_ns = 0
        self._targets: TopicMap[_Target] = TopicMap()
        codecs = {item.filter: _Codec(item, options, counters) for item in options.subscriptions}
        for tag in context.tags:
            topic, path = parse_address(tag.address)
            subscription = options.subscription_of(topic)
            if subscription is None:
                continue  # the check of the map refuses such a tag before anything runs
            convert = _converter(subscription, tag.type)
            self._targets.add(topic, _Target(codecs[subscription.filter], tag.number, path, getter(path), convert))

    def decode(self, messages: Sequence[Message]) -> tuple[SampleBatch, tuple[Reject, ...]]:
        """One batch of all messages in their order, and what was refused. Never raises for what a message holds."""
        rows = _Rows()
        rejects = []
        for message in messages:
            reason = self._refusal(message, rows)
            if reason is not None:
                place = message.topic.decode(errors="backslashreplace")[:512]
                raw = message.payload[:RAW_LIMIT]
                rejects.append(Reject(self._context.name, place, reason, raw, message.arrival_ns))
        self._counters.update(messages=len(messages), rejected=len(rejects))
        flags = np.asarray(rows.flags, np.uint32)
        retained = len(flags) > 0 and bool((flags & np.uint32(Flag.RETAINED)).all())
        batch = SampleBatch.build(
            self._context.name,
            self._context.map_revision,
            self._context.now_ns(),
            tag=rows.tag,
            source_ns=rows.source_ns,
            value=rows.value,
            status=rows.status,
            flags=flags,
            exact=rows.exact,
            origin=Origin.RETAINED if retained else Origin.LIVE,
        )
        return batch, tuple(rejects)

    def _refusal(self, message: Message, rows: _Rows) -> str | None:
        limits = self._options.limits
        try:
            topic = message.topic.decode()
        except UnicodeDecodeError:
            return "the topic is not UTF-8"
        if len(message.topic) > limits.topic or topic.count("/") >= limits.levels:
            return "the topic is longer than the limit"
        targets = self._targets.match(topic)
        if not targets:
            self._counters["unmapped"] += 1
            return None
        if message.retain and self._options.retained == "ignore":
            self._counters["retained_ignored"] += 1
            return None
        if message.size > limits.payload:
            return f"payload of {message.size} bytes is longer than the limit of {limits.payload}"
        try:
            return self._samples(message, targets, rows)
        except Exception as error:  # noqa: BLE001 - what escaped here would be redelivered for ever
            return _said(error)

    def _samples(self, message: Message, targets: tuple[_Target, ...], rows: _Rows) -> str | None:
        codec = targets[0].codec
        document = codec.document(message.payload)
        time_ns, status = codec.time_ns(document), codec.status(document)
        flags = _flags(message, timed=time_ns is not None, marked=status is not None)
        status = status or GOOD
        if message.retain and status == GOOD:
            status = UNCERTAIN_LAST_USABLE
        reasons: list[str] = []
        found = 0
        for target in targets:
            try:
                value = target.get(document)
                if value is None and quality(status) is not Quality.BAD:
                    self._counters["path_missing"] += 1
                    continue
                pair = (float("nan"), None) if value is None else target.convert(value)
            except ValueError as error:
                reasons.append(f"{target.path or 'payload'}: {_said(error)}")
                continue
            found += 1
            rows.add(target.tag, self._arrival(message) if time_ns is None else time_ns, pair, status, flags)
        if reasons:
            return "; ".join(reasons[:3]) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")
        return None if found else "none of the tags' paths is in the payload"

    def _arrival(self, message: Message) -> int:
        self._last_arrival_ns = max(self._last_arrival_ns + 1, message.arrival_ns)
        return self._last_arrival_ns


def _converter(subscription: Subscription, type_: str | None) -> values.Converter:
    if subscription.decode == "json":
        return values.from_json(type_, subscription.numbers)
    convert = values.from_text(type_, subscription.numbers)
    if type_ is not None and type_.startswith("bytes"):
        return convert
    return lambda payload: convert(payload.decode() if isinstance(payload, bytes) else payload)


def _flags(message: Message, *, timed: bool, marked: bool) -> int:
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
