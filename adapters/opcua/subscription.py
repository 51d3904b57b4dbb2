"""
Subscriptions and monitored items on a server: making them, taking them over, and the order of their messages.

Every interval, queue and count is sent explicitly (A7, A22), every element of a create result is checked (A21), and our
own list of items stands outside the library (A1). Source: OPC UA Part 4, 5.12 and 5.13.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.ua.uaerrors import BadMessageNotAvailable, UaStructParsingError

from adapters.opcua.config import OpcUaOptions
from adapters.opcua.link import Link
from adapters.opcua.progress import Held, ahead, following
from schemas import status
from schemas.errors import NotConnected
from schemas.tagmap import Tag

_MOST_VALUES: Final = 10_000  # in one message, so that a full queue does not exceed the message size we take (A16)
_UNKNOWN_LIMIT: Final = 100  # for a server that does not tell its limit
_NO_LIMIT: Final = 1000  # for a server that says it has none


@dataclass(frozen=True, slots=True)
class Limits:
    """Elements the server takes in one request."""

    read: int = _UNKNOWN_LIMIT
    create: int = _UNKNOWN_LIMIT

    @classmethod
    def of(cls, read: ua.DataValue, create: ua.DataValue) -> Limits:
        """From the values of OperationLimits; missing ones are taken as 100, 0 as no limit."""
        return cls(_limit(read), _limit(create))


def _limit(data: ua.DataValue) -> int:
    value = None if data.Value is None else data.Value.Value
    if not isinstance(value, int):
        return _UNKNOWN_LIMIT
    return min(value, _NO_LIMIT) if value > 0 else _NO_LIMIT


@dataclass(slots=True)
class Watch:
    """
    One subscription as this process sees it.

    ``backlog`` are messages fetched again and not yet handed on, ``available`` the numbers the server still keeps,
    ``quiet_s`` how long we waited without hearing of it, ``alive`` whether it was heard on this connection; a new
    subscription counts as heard. ``opening`` are values read after its items were made, for those tags of which no
    value comes by ``open_at`` (event loop time).
    """

    held: Held
    tags: Sequence[Tag]
    backlog: list[Any] = field(default_factory=list)
    available: list[int] = field(default_factory=list)
    quiet_s: float = 0.0
    alive: bool = False
    opening: dict[int, ua.DataValue] = field(default_factory=dict)
    open_at: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether the server, as far as it told when it was taken over, still has the next message if any came."""
        expected = following(self.held.last_sequence)
        return bool(self.backlog) or all(ahead(number, expected) < 0 for number in self.available)


@dataclass(slots=True)
class Granted:
    """What the server made of the intervals and queues that were asked for."""

    publishing: tuple[float, float] = (0.0, 0.0)
    items: list[tuple[float, float, int, int]] = field(default_factory=list)

    def facts(self) -> dict[str, str]:
        """Requested against revised values in words; revisions by more than 20 % are named."""
        asked, got = self.publishing
        facts = {"publishing": _compared(asked, got)}
        changed = [i for i in self.items if abs(i[1] - i[0]) > 0.2 * i[0]]
        facts["sampling"] = (
            "as requested" if not changed else f"{len(changed)} items revised, e.g. {_compared(*changed[0][:2])}"
        )
        cut = [i for i in self.items if i[3] < 0.8 * i[2]]
        facts["queue"] = (
            "as requested" if not cut else f"{len(cut)} items cut, e.g. requested {cut[0][2]}, granted {cut[0][3]}"
        )
        return facts


def _compared(asked_ms: float, got_ms: float) -> str:
    return f"requested {asked_ms:g} ms, revised to {got_ms:g} ms"


def groups(tags: Sequence[Tag], size: int) -> list[Sequence[Tag]]:
    """The tags of each subscription; one without tags when there are none."""
    return [tags[start : start + size] for start in range(0, len(tags), size)] or [()]


async def create(
    link: Link,
    options: OpcUaOptions,
    tags: Sequence[Tag],
    nodes: Mapping[int, ua.NodeId | None],
    limits: Limits,
    made_ids: list[int],
) -> tuple[list[Watch], Granted]:
    """
    Make all subscriptions and items.

    *made_ids* gets the id of each subscription as soon as it is there, so that none is forgotten by a failure later.
    Raises link errors; a refused item is an entry of ``refused``, not an error.
    """
    granted = Granted()
    watches: list[Watch] = []
    for group in groups(tags, options.subscription.nodes):
        params = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=options.subscription.publishing * 1000,
            RequestedLifetimeCount=options.lifetime_count(),
            RequestedMaxKeepAliveCount=options.keep_alive_count(),
            MaxNotificationsPerPublish=_MOST_VALUES,
            PublishingEnabled=True,
            Priority=0,
        )
        made = await link.session.create_subscription(params, _no_callback)
        made_ids.append(made.SubscriptionId)
        granted.publishing = (params.RequestedPublishingInterval, made.RevisedPublishingInterval)
        keep_alive_s = made.RevisedPublishingInterval * made.RevisedMaxKeepAliveCount / 1000
        watch = Watch(Held(made.SubscriptionId, keep_alive_s), group, alive=True)
        watches.append(watch)
        await add_items(link, options, watch, group, nodes, limits, granted)
    return watches, granted


async def add_items(
    link: Link,
    options: OpcUaOptions,
    watch: Watch,
    tags: Sequence[Tag],
    nodes: Mapping[int, ua.NodeId | None],
    limits: Limits,
    granted: Granted,
) -> None:
    """
    Ask for these items in an existing subscription; ``watch.held.refused`` afterwards names those that failed.

    Raises NotConnected when the server does not answer for every item.
    """
    wanted: list[tuple[Tag, ua.NodeId]] = []
    for tag in tags:
        node = nodes[tag.number]
        if node is None:
            watch.held.refused[tag.number] = status.BAD_NODE_ID_UNKNOWN
        else:
            wanted.append((tag, node))
    for start in range(0, len(wanted), limits.create):
        part = wanted[start : start + limits.create]
        params = ua.CreateMonitoredItemsParameters()
        params.SubscriptionId = watch.held.subscription_id
        params.TimestampsToReturn = ua.TimestampsToReturn.Both
        params.ItemsToCreate = [_item(options, tag, node) for tag, node in part]
        results = await link.session.create_monitored_items(params)
        if len(results) != len(part):
            raise NotConnected(f"the server answered for {len(results)} of {len(part)} items")
        for (tag, _), item, result in zip(part, params.ItemsToCreate, results, strict=True):
            if not result.StatusCode.is_good():
                watch.held.refused[tag.number] = result.StatusCode.value
                continue
            watch.held.refused.pop(tag.number, None)
            watch.held.unheard.append(tag.number)
            asked = item.RequestedParameters
            granted.items.append(
                (asked.SamplingInterval, result.RevisedSamplingInterval, asked.QueueSize, result.RevisedQueueSize)
            )


def _item(options: OpcUaOptions, tag: Tag, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
    sampling_s = options.sampling_s(tag.scan_ms)
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(
            ClientHandle=tag.number,
            SamplingInterval=float(math.floor(sampling_s * 1e6) / 1e3),
            QueueSize=options.queue_size(sampling_s),
            DiscardOldest=True,
        ),
    )


def _no_callback(result: ua.PublishResult) -> None:
    """The library asks for a callback; its publish loop never runs."""


async def take_over(
    link: Link, held: Sequence[Held], tags: Sequence[Tag], size: int, counters: Counter[str], *, own: bool
) -> list[Watch] | str:
    """
    Go on with subscriptions of an earlier connection; all or none.

    *own*: the session is the earlier one, so nothing needs to be transferred (A2). Otherwise TransferSubscriptions
    without initial values. Returns why the server refused when it did; raises link errors.
    """
    parts = groups(tags, size)
    if len(parts) != len(held):
        return "the number of subscriptions changed"
    watches = [Watch(one, part) for one, part in zip(held, parts, strict=True)]
    try:
        if not own:
            results = await _transfer(link, [watch.held.subscription_id for watch in watches])
            _note_available(watches, results)
        for watch in watches:
            # It shows whether the subscription is there at all.
            message = await republish(link, watch.held, following(watch.held.last_sequence), counters)
            if message is not None:
                watch.backlog.append(message)
    except ua.UaStatusCodeError as refusal:
        return str(ua.StatusCode(refusal.code).name)
    return watches


async def _transfer(link: Link, subscription_ids: Sequence[int]) -> list[ua.TransferResult]:
    params = ua.TransferSubscriptionsParameters()
    params.SubscriptionIds = list(subscription_ids)
    params.SendInitialValues = False
    results: list[ua.TransferResult] = await link.session.transfer_subscriptions(params)
    return results


def _note_available(watches: Sequence[Watch], results: Sequence[ua.TransferResult]) -> None:
    if len(results) != len(watches):
        raise NotConnected(f"the server answered for {len(results)} of {len(watches)} transfers")
    for watch, result in zip(watches, results, strict=True):
        result.StatusCode.check()
        watch.available = [int(number) for number in result.AvailableSequenceNumbers or ()]


async def republish(link: Link, held: Held, sequence: int, counters: Counter[str]) -> Any | None:
    """
    One message again; None where the server no longer has it, or where it cannot be read (counted as undecodable).

    Raises link errors; any other status code means that the server refuses.
    """
    try:
        message = await link.republish(held.subscription_id, sequence)
    except BadMessageNotAvailable:
        return None
    except UaStructParsingError:
        counters["undecodable"] += 1
        return None
    return message if message.NotificationData else None


async def delete(link: Link, subscription_ids: Sequence[int], *, own: bool) -> None:
    """
    Give subscriptions back that nobody wants; a server that does not know them any more is content.

    *own*: they belong to this session. Otherwise they are transferred to it first: only a session's own can be deleted.
    """
    if not subscription_ids:
        return
    try:
        if not own:
            await _transfer(link, subscription_ids)
    except ua.UaStatusCodeError:
        pass  # where Transfer is not supported, what is left ends with its lifetime
    try:
        await link.session.delete_subscriptions(list(subscription_ids))
    except ua.UaStatusCodeError:
        return
