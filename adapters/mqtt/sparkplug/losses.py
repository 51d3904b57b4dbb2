"""What is missing of the edge nodes: gaps, the texts and counters that tell of them, and requests for births."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from adapters.base import AdapterContext
from adapters.mqtt.message import Message
from adapters.mqtt.sparkplug import topics
from adapters.mqtt.sparkplug.edge import EdgeNode
from adapters.mqtt.sparkplug.options import SparkplugOptions
from adapters.mqtt.sparkplug.order import Item
from schemas.samples import Gap, GapCause

_LONGEST_WAIT_S: Final = 60.0
Refuse = Callable[[Message, str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """
    What a host works with.

    It counts into *counters*, shows the state of each node in *facts*, and calls *refuse* for each message that cannot
    be read.
    """

    options: SparkplugOptions
    context: AdapterContext
    counters: Counter[str]
    facts: dict[str, str]
    refuse: Refuse


class Losses:
    """
    New rows wait in ``gaps``, topics of rebirth requests in ``commands``.

    Counters: ``without_birth`` (data messages that no birth explains), ``order_given_up`` (times that a node's numbers
    turned out to say nothing: a gap until its next NBIRTH), ``rebirths_needed``, ``rebirths_requested``.
    """

    def __init__(self, setting: Setting) -> None:
        self._options = setting.options
        self._context = setting.context
        self._counters = setting.counters
        self._facts = setting.facts
        self.gaps: list[Gap] = []
        self.commands: list[str] = []

    def gap(self, tags: tuple[int, ...], from_ns: int, to_ns: int, detail: str) -> None:
        """A hole in the data of these tags, both ends known, UTC ns."""
        self.gaps.append(self._new(tags, from_ns, to_ns, detail))

    def unexplained(self, node: EdgeNode, item: Item, unnamed: list[str], born: bool, now_s: float) -> str:
        """Data that no birth explains: counted each time, a gap until the birth comes. Returns why it is refused."""
        self._counters["without_birth"] += 1
        topic = item.topic
        where = f"{topic.edge}/{topic.device}" if topic.device else str(topic.edge)
        reason = f"{where}: its birth has no {', '.join(unnamed[:3])}" if born else f"{where}: no birth known"
        if topic.device not in node.unexplained:
            gap = self._new(node.tags(topic.device), item.message.arrival_ns, None, reason)
            node.unexplained[topic.device] = gap
            self.gaps.append(gap)
        self.need_rebirth(node, reason, now_s)
        return reason

    def explained(self, node: EdgeNode, device: str, at_ns: int) -> None:
        """A birth came: the device's data has names again."""
        gap = node.unexplained.pop(device, None)
        if gap is not None:
            self.gaps.append(replace(gap, to_ns=at_ns))

    def order_given_up(self, node: EdgeNode, item: Item) -> None:
        """A loss cannot be seen any more, so all that comes until the numbers begin anew counts as incomplete."""
        self._counters["order_given_up"] += 1
        detail = f"{node.edge}: its numbers say nothing (last: {item.payload.seq}), so a loss cannot be seen"
        node.unordered = self._new(node.tags(), item.message.arrival_ns, None, detail)
        self.gaps.append(node.unordered)
        self.show(node)

    def order_begun(self, node: EdgeNode, at_ns: int) -> None:
        """An NBIRTH came: the numbers begin anew."""
        if node.unordered is not None:
            self.gaps.append(replace(node.unordered, to_ns=at_ns))
            node.unordered = None

    def need_rebirth(self, node: EdgeNode, reason: str, now_s: float) -> None:
        """Say that a birth is missing, and ask for it where that is allowed and its time has come."""
        self._counters["rebirths_needed"] += 1
        allowed = self._options.rebirth == "on_need"
        self.show(node, f"rebirth {'requested' if allowed else 'needed, and rebirth is never'}: {reason}")
        if allowed and now_s >= node.ask_again_s:
            every = self._options.rebirth_every
            node.ask_wait_s = min(max(every, node.ask_wait_s * 2), max(every, _LONGEST_WAIT_S))
            node.ask_again_s = now_s + node.ask_wait_s
            self._counters["rebirths_requested"] += 1
            self.commands.append(topics.rebirth(node.edge))

    def show(self, node: EdgeNode, more: str = "") -> None:
        """Show the state of a node to people."""
        self._facts[f"edge node {node.edge}"] = node.describe() + (f"; {more}" if more else "")

    def _new(self, tags: tuple[int, ...], from_ns: int, to_ns: int | None, detail: str) -> Gap:
        return self._context.gap(GapCause.SEQUENCE_GAP, tags, from_ns, to_ns, detail)
