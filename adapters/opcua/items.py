"""
Making monitored items on a server, and what it made of the intervals, queues and deadbands that were asked for.

Every interval and queue is sent explicitly (A22), every element of a create result is checked (A21); an item that the
server refuses is an entry of ``refused`` with its status, and stops no other. Source: OPC UA Part 4, 5.13 and 7.22.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from asyncua import ua

from adapters.opcua.config import OpcUaOptions
from adapters.opcua.limits import Limits
from adapters.opcua.link import Link
from schemas import status
from schemas.errors import NotConnected
from schemas.tagmap import Tag

if TYPE_CHECKING:
    from adapters.opcua.subscription import Watch

#: A whole request was too much: its halves may not be.
_TOO_MUCH: Final = frozenset(
    {
        ua.StatusCodes.BadTooManyOperations,
        ua.StatusCodes.BadTooManyMonitoredItems,
        ua.StatusCodes.BadRequestTooLarge,
        ua.StatusCodes.BadResponseTooLarge,
        ua.StatusCodes.BadEncodingLimitsExceeded,
    }
)
#: The deadband was refused and not the item: it is made without one, and ours holds back.
_NO_FILTER: Final = frozenset(
    {
        ua.StatusCodes.BadFilterNotAllowed,
        ua.StatusCodes.BadMonitoredItemFilterInvalid,
        ua.StatusCodes.BadMonitoredItemFilterUnsupported,
        ua.StatusCodes.BadDeadbandFilterInvalid,
    }
)


@dataclass(slots=True)
class Granted:
    """What the server made of the intervals, queues and deadbands that were asked for."""

    publishing: tuple[float, float] = (0.0, 0.0)
    items: list[tuple[float, float, int, int]] = field(default_factory=list)
    filtered: int = 0
    unfiltered: int = 0

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
        if self.filtered or self.unfiltered:
            ours = f", {self.unfiltered} that it refused are held back here" if self.unfiltered else ""
            facts["deadband"] = f"the server holds back {self.filtered} items{ours}"
        return facts


def _compared(asked_ms: float, got_ms: float) -> str:
    return f"requested {asked_ms:g} ms, revised to {got_ms:g} ms"


Wanted = list[tuple[Tag, ua.NodeId]]


class Maker:
    """
    Makes the items of one connection: ``made`` counts them, ``granted`` is what the server made of the wishes.

    ``missing`` is the status of a tag, by number, that has no node.
    """

    def __init__(
        self,
        link: Link,
        options: OpcUaOptions,
        limits: Limits,
        made: int = 0,
        missing: Callable[[int], int] = lambda _: status.BAD_NODE_ID_UNKNOWN,
    ) -> None:
        self.granted = Granted()
        self.made = made
        self._link = link
        self._options = options
        self._limits = limits
        self._missing = missing

    async def add(self, watch: Watch, tags: Sequence[Tag], nodes: Mapping[int, ua.NodeId | None]) -> None:
        """
        Ask for these items in an existing subscription; ``watch.held.refused`` afterwards names those that failed.

        Raises link errors, and NotConnected when the server does not answer for every item.
        """
        wanted: Wanted = []
        for tag in tags:
            node = nodes[tag.number]
            if node is None:
                watch.held.refused[tag.number] = self._missing(tag.number)
            elif self._limits.items and self.made + len(wanted) >= self._limits.items:
                watch.held.refused[tag.number] = int(ua.StatusCodes.BadTooManyMonitoredItems)
            else:
                wanted.append((tag, node))
        for start in range(0, len(wanted), self._limits.create):
            await self._ask(watch, wanted[start : start + self._limits.create], filtered=self._limits.filters)

    async def remove(self, watch: Watch, item_ids: Sequence[int]) -> None:
        """Give items back whose nodes went away. One that the server does not know any more is gone as well."""
        for start in range(0, len(item_ids), self._limits.create):
            params = ua.DeleteMonitoredItemsParameters()
            params.SubscriptionId = watch.held.subscription_id
            params.MonitoredItemIds = list(item_ids[start : start + self._limits.create])
            try:
                await self._link.session.delete_monitored_items(params)
            except ua.UaStatusCodeError:
                return  # what is left sends values of the same source times, which the store's key removes

    async def _ask(self, watch: Watch, part: Wanted, *, filtered: bool) -> None:
        params = ua.CreateMonitoredItemsParameters()
        params.SubscriptionId = watch.held.subscription_id
        params.TimestampsToReturn = ua.TimestampsToReturn.Both
        params.ItemsToCreate = [self._item(tag, node, filtered=filtered) for tag, node in part]
        try:
            results = await self._link.session.create_monitored_items(params)
        except ua.UaStatusCodeError as refusal:
            if refusal.code not in _TOO_MUCH:
                raise
            await self._halve(watch, part, refusal.code, filtered=filtered)
            return
        if len(results) != len(part):
            raise NotConnected(f"the server answered for {len(results)} of {len(part)} items")
        again: Wanted = []
        for one, item, result in zip(part, params.ItemsToCreate, results, strict=True):
            if item.RequestedParameters.Filter is not None and result.StatusCode.value in _NO_FILTER:
                again.append(one)
            else:
                self._note(watch, one[0].number, item.RequestedParameters, result)
        if again:
            self.granted.unfiltered += len(again)
            await self._ask(watch, again, filtered=False)

    async def _halve(self, watch: Watch, part: Wanted, code: int, *, filtered: bool) -> None:
        half = len(part) // 2
        if not half:
            watch.held.refused[part[0][0].number] = code
            return
        await self._ask(watch, part[:half], filtered=filtered)
        await self._ask(watch, part[half:], filtered=filtered)

    def _note(self, watch: Watch, number: int, asked: Any, result: ua.MonitoredItemCreateResult) -> None:
        if not result.StatusCode.is_good():
            watch.held.refused[number] = result.StatusCode.value
            return
        self.made += 1
        self.granted.filtered += asked.Filter is not None
        watch.held.refused.pop(number, None)
        watch.held.unheard.append(number)
        watch.item_ids[number] = result.MonitoredItemId
        self.granted.items.append(
            (asked.SamplingInterval, result.RevisedSamplingInterval, asked.QueueSize, result.RevisedQueueSize)
        )

    def _item(self, tag: Tag, node: ua.NodeId, *, filtered: bool) -> ua.MonitoredItemCreateRequest:
        sampling_s = self._options.sampling_s(tag.scan_ms)
        band = deadband(tag, self._options.deadband) if filtered else 0.0
        return ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(
                ClientHandle=tag.number,
                SamplingInterval=float(math.floor(sampling_s * 1e6) / 1e3),
                Filter=_filter(band) if band else None,
                QueueSize=self._options.queue_size(sampling_s),
                DiscardOldest=self._options.subscription.discard == "oldest",
            ),
        )


def deadband(tag: Tag, choice: str) -> float:
    """
    The deadband to ask the server for, in the unit in which the server has the value; 0 for none.

    Percentages were resolved when the map was loaded. ``auto`` leaves tags that a detector looks at to us, since a
    server that holds values back makes every signal look still.
    """
    linear = tag.scale_mode in ("none", "linear") and tag.factor != 0
    if choice == "client" or not tag.deadband or not linear or (choice == "auto" and tag.detect != "none"):
        return 0.0
    return tag.deadband / abs(tag.factor)


def _filter(band: float) -> ua.DataChangeFilter:
    return ua.DataChangeFilter(
        Trigger=ua.DataChangeTrigger.StatusValue, DeadbandType=int(ua.DeadbandType.Absolute), DeadbandValue=band
    )
