"""
Subscriptions on a server: making them, taking them over, and giving them back.

Every interval and count is sent explicitly (A7), and our own list of items stands outside the library (A1). Source: OPC
UA Part 4, 5.14.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from asyncua import ua
from asyncua.ua.uaerrors import BadMessageNotAvailable, UaStructParsingError

from adapters.opcua.config import OpcUaOptions
from adapters.opcua.items import Maker
from adapters.opcua.link import Link
from adapters.opcua.notifiers import Notifiers
from adapters.opcua.progress import Held, ahead, following
from adapters.opcua.responses import Message
from adapters.opcua.wire import SHORTEST_RUN
from schemas.errors import NotConnected
from schemas.tagmap import Tag

_MOST_VALUES: Final = 10_000  # in one message, so that a full queue does not exceed the message size we take (A16)
_MOST_EVENTS: Final = 1000  # the same; an event is some thirty fields


@dataclass(slots=True)
class Watch:
    """
    One subscription as this process sees it.

    ``backlog`` are messages fetched again and not yet handed on, ``available`` the numbers the server still keeps,
    ``quiet_s`` how long we waited without hearing of it, ``alive`` whether it was heard on this connection; a new
    subscription counts as heard. ``reached`` is the last message that was handed on, settled or not. ``opening`` are
    values read after its items were made, for those tags of which no value comes by ``open_at`` (event loop time);
    ``item_ids`` the server's names of the items that this process made, ``vanished`` the refused tags whose item the
    server may still hold: their nodes went away. ``events``: it is the one of the notifiers, and has no tags.
    """

    held: Held
    tags: Sequence[Tag]
    backlog: list[Message] = field(default_factory=list)
    available: list[int] = field(default_factory=list)
    quiet_s: float = 0.0
    alive: bool = False
    reached: int = 0
    opening: dict[int, ua.DataValue] = field(default_factory=dict)
    open_at: float = 0.0
    item_ids: dict[int, int] = field(default_factory=dict)
    vanished: set[int] = field(default_factory=set)
    events: bool = False

    def __post_init__(self) -> None:
        self.reached = self.held.last_sequence

    @property
    def whole(self) -> bool:
        """Whether the server, as far as it told when it was taken over, still has the next message if any came."""
        expected = following(self.held.last_sequence)
        return bool(self.backlog) or all(ahead(number, expected) < 0 for number in self.available)


def groups(tags: Sequence[Tag], size: int) -> list[Sequence[Tag]]:
    """
    The tags of each subscription; one without tags when there are none.

    Tags of one type share subscriptions, so that their messages are long runs of one layout; types of few tags and tags
    whose type the map does not tell share the rest.
    """
    kinds = Counter(tag.type for tag in tags)
    sorted_out: dict[str | None, list[Tag]] = {}
    for tag in tags:
        sorted_out.setdefault(tag.type if kinds[tag.type] >= SHORTEST_RUN else None, []).append(tag)
    parts: list[Sequence[Tag]] = [
        kind[start : start + size] for kind in sorted_out.values() for start in range(0, len(kind), size)
    ]
    return parts or [()]


async def create(
    link: Link,
    options: OpcUaOptions,
    parts: Sequence[Sequence[Tag]],
    nodes: Mapping[int, ua.NodeId | None],
    maker: Maker,
    made_ids: list[int],
) -> list[Watch]:
    """
    Make a subscription for each part of the tags, with all its items.

    *made_ids* gets the id of each subscription as soon as it is there, so that none is forgotten by a failure later.
    Raises link errors; a refused item is an entry of ``refused``, not an error.
    """
    watches: list[Watch] = []
    for part in parts:
        held, maker.granted.publishing = await _subscribe(link, options, _MOST_VALUES, made_ids)
        watch = Watch(held, part, alive=True)
        watches.append(watch)
        await maker.add(watch, part, nodes)
    return watches


async def create_for_events(
    link: Link, options: OpcUaOptions, notifiers: Notifiers, maker: Maker, made_ids: list[int]
) -> Watch:
    """Make the subscription of the notifiers, with their items. Raises link errors."""
    held, maker.granted.publishing = await _subscribe(link, options, _MOST_EVENTS, made_ids)
    await notifiers.make(link, held)
    return Watch(held, (), alive=True, events=True)


async def _subscribe(
    link: Link, options: OpcUaOptions, most: int, made_ids: list[int]
) -> tuple[Held, tuple[float, float]]:
    """A new subscription of at most *most* notifications a message, and its publishing interval: asked for, granted."""
    params = ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=options.subscription.publishing * 1000,
        RequestedLifetimeCount=options.lifetime_count(),
        RequestedMaxKeepAliveCount=options.keep_alive_count(),
        MaxNotificationsPerPublish=most,
        PublishingEnabled=True,
        Priority=0,
    )
    made = await link.session.create_subscription(params, _no_callback)
    made_ids.append(made.SubscriptionId)
    keep_alive_s = made.RevisedPublishingInterval * made.RevisedMaxKeepAliveCount / 1000
    return Held(made.SubscriptionId, keep_alive_s), (
        params.RequestedPublishingInterval,
        made.RevisedPublishingInterval,
    )


def _no_callback(result: ua.PublishResult) -> None:
    """The library asks for a callback; its publish loop never runs."""


async def take_over(
    link: Link, held: Sequence[Held], parts: Sequence[Sequence[Tag]], counters: Counter[str], *, own: bool
) -> list[Watch] | str:
    """
    Go on with subscriptions of an earlier connection; all or none.

    *own*: the session is the earlier one, so nothing needs to be transferred (A2). Otherwise TransferSubscriptions
    without initial values. Returns why the server refused when it did; raises link errors.
    """
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


async def republish(link: Link, held: Held, sequence: int, counters: Counter[str]) -> Message | None:
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
    return message if message.parts else None


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
