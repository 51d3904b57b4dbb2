"""
Messages into columns.

One bad message is one refusal and costs nothing else. What the payload does not say (time, quality) is supplied and
flagged, never silently made up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, Literal, cast

from adapters.arrival import Arrival
from adapters.base import AdapterContext
from adapters.mqtt.bulk import Group, Limits, Plan
from adapters.mqtt.bulk import plan as make_plan
from adapters.mqtt.codec import Codec, Target, converter, flags_of
from adapters.mqtt.config import MqttOptions
from adapters.mqtt.message import RAW_LIMIT, Block, Message
from adapters.mqtt.paths import Nulls, getter, said
from adapters.mqtt.rows import Rows
from adapters.mqtt.sparkplug.host import Host
from adapters.mqtt.sparkplug.losses import Setting
from adapters.mqtt.sparkplug.topics import is_sparkplug
from adapters.mqtt.sparkplug.topics import parse as sparkplug_topic
from adapters.mqtt.topics import TopicMap, parse_address
from schemas.samples import Reject, SampleBatch
from schemas.status import BAD, GOOD, UNCERTAIN_LAST_USABLE, Quality, quality

#: Topics whose plan is remembered; beyond it the memory starts anew.
_REMEMBERED: Final = 50_000
_GROUP: Final = attrgetter("group")
#: How a topic is read; False: message by message.
_Planned = Plan | Literal[False]


class Decoder:
    """
    Turns the messages of one source into batches.

    Counts into *counters*: ``messages``, ``rejected``, ``unmapped`` (no tag wants the topic), ``path_missing`` (a
    tag's path is not in the payload), ``time_missing``, ``quality_unknown``, ``retained_ignored``,
    ``clock_steps`` (our own clock was set back), ``decoded_singly`` (messages that could not be read many at a time,
    which costs about ten times as much).
    """

    def __init__(
        self, options: MqttOptions, context: AdapterContext, counters: Counter[str], facts: dict[str, str] | None = None
    ) -> None:
        self._options = options
        self._context = context
        self._counters = counters
        self._arrival = Arrival(counters)
        self._rejects: list[Reject] = []
        self._targets: TopicMap[Target] = TopicMap()
        self._limits = Limits({tag.number: tag.type for tag in context.tags})
        self._groups: dict[tuple[int, tuple[str, ...]], Group] = {}
        self._plans: dict[bytes, _Planned] = {}
        codecs = {item.filter: Codec(item, options, counters) for item in options.subscriptions}
        for tag in context.tags:
            if options.speaks_sparkplug and is_sparkplug(tag.address):
                continue
            topic, path = parse_address(tag.address)
            subscription = options.subscription_of(topic)
            if subscription is None:
                continue  # the check of the map refuses such a tag before anything runs
            convert = converter(subscription, tag.type)
            self._targets.add(topic, Target(codecs[subscription.filter], tag.number, path, getter(path), convert))
        #: The Sparkplug part, where a subscription asks for it.
        self.host: Host | None = None
        if options.speaks_sparkplug:
            shown = {} if facts is None else facts
            self.host = Host(Setting(options.sparkplug, context, counters, shown, self._refuse))

    def decode(self, messages: Block, now_s: float = 0.0) -> tuple[SampleBatch, tuple[Reject, ...]]:
        """
        One batch of all messages in their order, and what was refused. Never raises for what a message holds.

        ``now_s`` is the loop's time: Sparkplug messages may wait, and come with a later batch.
        """
        rows = Rows()
        for place in self._in_bulk(messages, rows):
            rows.place = place
            message = messages.message(place)
            reason = self._refusal(message, rows, now_s)
            if reason is not None:
                self._refuse(message, reason)
        if self.host is not None:
            rows.place = len(messages)
            self.host.expire(rows, now_s)
        rejects, self._rejects = tuple(self._rejects), []
        self._counters.update(messages=len(messages), rejected=len(rejects))
        return rows.batch(self._context, self._arrival), rejects

    def _in_bulk(self, messages: Block, rows: Rows) -> list[int]:
        """Read what can be read many at a time, and return the places of the others."""
        if len(self._plans) > _REMEMBERED:
            self._plans.clear()
        found, singly = self._by_group(messages.topics)
        for group, (places, their_plans) in found.items():
            part, rest = group.take(messages, places, their_plans)
            if part is not None:
                rows.add_part(part)
            singly += rest
        singly.sort()
        return singly

    def _by_group(self, topics: Sequence[bytes]) -> tuple[dict[Group, tuple[list[int], list[Plan]]], list[int]]:
        """Places and plans of messages by group, and the places of those that go one by one."""
        plans = self._plans
        known = list(map(plans.get, topics))
        # the usual case without a loop of Python over the messages, which cost twice the rest
        if set(map(type, known)) == {Plan}:
            sure = cast("list[Plan]", known)
            if len(set(map(_GROUP, sure))) == 1:
                return {sure[0].group: (list(range(len(sure))), sure)}, []
        longest = self._options.limits.topic
        singly: list[int] = []
        found: dict[Group, tuple[list[int], list[Plan]]] = {}
        for place, (topic, plan) in enumerate(zip(topics, known, strict=True)):
            if plan is None and (plan := plans.get(topic)) is None:
                plan = self._plan(topic)
                if len(topic) <= longest:  # longer ones are refused, and would be remembered by their thousands
                    plans[topic] = plan
            if plan is False:
                singly.append(place)
                continue
            of_group = found.get(plan.group)
            if of_group is None:
                of_group = found[plan.group] = ([], [])
            of_group[0].append(place)
            of_group[1].append(plan)
        return found, singly

    def _plan(self, raw: bytes) -> _Planned:
        try:
            topic = raw.decode()
        except UnicodeDecodeError:
            return False
        limits = self._options.limits
        if len(raw) > limits.topic or topic.count("/") >= limits.levels:
            return False
        if self.host is not None and is_sparkplug(topic):
            return False
        targets = self._targets.match(topic)
        return (make_plan(self._groups, targets, self._limits) or False) if targets else False

    def _refuse(self, message: Message, reason: str) -> None:
        place = message.topic.decode(errors="backslashreplace")[:512]
        raw = message.payload[:RAW_LIMIT]
        self._rejects.append(Reject(self._context.name, place, reason, raw, message.arrival_ns))

    def _refusal(self, message: Message, rows: Rows, now_s: float) -> str | None:
        limits = self._options.limits
        try:
            topic = message.topic.decode()
        except UnicodeDecodeError:
            return "the topic is not UTF-8"
        if len(message.topic) > limits.topic or topic.count("/") >= limits.levels:
            return "the topic is longer than the limit"
        sparkplug = self.host is not None and is_sparkplug(topic)
        targets = () if sparkplug else self._targets.match(topic)
        if not targets and not sparkplug:
            self._counters["unmapped"] += 1
            return None
        if message.retain and self._options.retained == "ignore":
            self._counters["retained_ignored"] += 1
            return None
        if message.size > limits.payload:
            if sparkplug and self.host is not None and (parts := sparkplug_topic(topic)) is not None:
                self.host.unreadable(message, parts, now_s)
            return f"payload of {message.size} bytes is longer than the limit of {limits.payload}"
        try:
            if sparkplug and self.host is not None:
                self._counters["unmapped"] += not self.host.take(message, topic, rows, now_s)
                return None
            return self._samples(message, targets, rows)
        except Exception as error:  # noqa: BLE001 - what escaped here would be redelivered for ever
            return said(error)

    def _samples(self, message: Message, targets: tuple[Target, ...], rows: Rows) -> str | None:
        self._counters["decoded_singly"] += 1
        codec = targets[0].codec
        plan = self._plans.get(message.topic)
        document = plan.group.document(message.payload) if plan else codec.document(message.payload)
        time_ns, status = codec.time_ns(document, message.arrival_ns), codec.status(document)
        flags = flags_of(message, timed=time_ns is not None, marked=status is not None)
        status = status or GOOD
        if message.retain and status == GOOD:
            status = UNCERTAIN_LAST_USABLE
        reasons: list[str] = []
        found = 0
        nulls: Nulls | None = None
        for target in targets:
            try:
                value = target.get(document)
                mark = status
                if value is None and quality(status) is not Quality.BAD:
                    nulls = nulls or Nulls(message.payload, document)
                    if not nulls.met(target.path, target.get):
                        self._counters["path_missing"] += 1
                        continue
                    mark = BAD  # said to have no value: the last good one must not go on standing
                pair = (math.nan, None) if value is None else target.convert(value)
            except ValueError as error:
                reasons.append(f"{target.path or 'payload'}: {said(error)}")
                continue
            found += 1
            rows.add(target.tag, message.arrival_ns if time_ns is None else time_ns, pair, mark, flags)
        if reasons:
            return "; ".join(reasons[:3]) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")
        return None if found else "none of the tags' paths is in the payload"
