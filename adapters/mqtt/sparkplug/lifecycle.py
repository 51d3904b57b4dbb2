"""
What births, deaths and data do to an edge node: names for its metrics, rows for its tags, and what is valid no more.

Messages come here in their turn, from the host. Nothing is guessed. A value whose alias no birth explains is not
stored: the hole is a gap row, its messages are in quarantine, and a rebirth is asked for where the options allow it.
Where they do not, the next birth may be weeks away: then a birth is used on behind a message that was lost, or that
came while we were away, and may have been another one; its values are uncertain.
"""

from __future__ import annotations

from adapters.mqtt.message import Message
from adapters.mqtt.rows import Rows
from adapters.mqtt.sparkplug import births, deaths
from adapters.mqtt.sparkplug.births import Device
from adapters.mqtt.sparkplug.edge import EdgeNode
from adapters.mqtt.sparkplug.losses import Losses, Setting
from adapters.mqtt.sparkplug.metrics import MetricReader
from adapters.mqtt.sparkplug.naming import named
from adapters.mqtt.sparkplug.order import Item
from adapters.mqtt.sparkplug.topics import Topic


class Lifecycle:
    """
    Keeps the state of each node, reads its metrics, and tells *losses* what is missing.

    ``changed``: what is known of births is another than what was last saved; the host resets it. The counters are
    described at :class:`adapters.mqtt.sparkplug.host.Host`.
    """

    def __init__(self, setting: Setting, losses: Losses) -> None:
        self._losses = losses
        self.changed = False
        self._passive = setting.options.rebirth == "never"
        self._counters = setting.counters
        self._refuse = setting.refuse
        self._reader = MetricReader(self._counters)

    def node_born(self, node: EdgeNode, item: Item, rows: Rows, now_s: float) -> None:
        """An NBIRTH: it ends every birth before it."""
        self._counters["births"] += 1
        node.last_ns = item.message.arrival_ns
        unsure_ns = node.state.unsure_ns if item.message.qos else item.message.arrival_ns
        node.state = births.Node(True, deaths.bdseq(item), {"": Device.born(item.payload.metrics)}, unsure_ns)
        node.birth_came()
        self._losses.order_begun(node, item.message.arrival_ns)
        self._read(node, item, rows, now_s)
        self._after_birth(node, "", item.message.arrival_ns)

    def node_died(self, node: EdgeNode, item: Item, rows: Rows) -> None:
        """An NDEATH. The will's own timestamp is that of the connect, so the death is dated by its arrival."""
        self._counters["deaths"] += 1
        self._note_unsure(node, item)
        node.state.alive = False
        for device in node.state.devices.values():
            device.alive = False
        self._reader.dead(node.tags(), None, item.message, rows)
        self.changed = True
        self._losses.show(node)

    def confirm_death(self, node: EdgeNode) -> None:
        """A death was told twice, as will and as farewell: it is not disputed any more."""
        self.changed = self.changed or bool(node.state.disputed)
        node.state.disputed = []

    def revive(self, node: EdgeNode, now_s: float) -> None:
        """A dead node says nothing: the death was of an earlier connection with the same bdSeq."""
        node.revive()
        self.changed = True
        self._counters["deaths_taken_back"] += 1
        self._losses.need_rebirth(node, f"{node.edge}: it goes on behind a death that came before its birth", now_s)

    def process(self, node: EdgeNode, item: Item, rows: Rows, now_s: float) -> None:
        """A message that is no NBIRTH or NDEATH."""
        topic = item.topic
        node.last_ns = item.message.arrival_ns
        if topic.kind == "DBIRTH" and node.state.alive:
            self._counters["births"] += 1
            if topic.device not in node.targets:
                return
            self._note_unsure(node, item)
            node.state.devices[topic.device] = Device.born(item.payload.metrics)
            self._read(node, item, rows, now_s)
            self._after_birth(node, topic.device, item.message.arrival_ns)
        elif topic.kind == "DDEATH":
            self._device_death(node, item, rows)
        else:
            self._read(node, item, rows, now_s)

    def unreadable(self, node: EdgeNode, message: Message, topic: Topic, now_s: float) -> None:
        """What a birth that cannot be read replaces is not valid any more, and what it says is not known."""
        if topic.kind == "NBIRTH":
            node.state = births.Node(True, None, {}, node.state.unsure_ns)
        elif topic.kind == "DBIRTH":
            node.state.devices.pop(topic.device, None)
        if topic.kind == "NBIRTH" or (topic.kind == "DBIRTH" and topic.device in node.targets):
            if not message.qos:
                node.state.unsure_ns = message.arrival_ns
            self.forgotten()
            where = f"{node.edge}/{topic.device}" if topic.device else str(node.edge)
            self._losses.need_rebirth(node, f"{where}: its birth cannot be read", now_s)

    def distrust(self, node: EdgeNode, item: Item, detail: str, now_s: float) -> None:
        """
        Messages before this one are missing: a gap, and one of them may have been a birth with other aliases.

        Only a birth ends that. Where none may be asked for, the births are used on: else one lost message, or one that
        came while we restarted, would end the reading of the node until it happens to connect anew.
        """
        self._losses.gap(node.tags(), node.last_ns, item.message.arrival_ns, detail)
        if self._passive:
            self.doubt(node)
        elif node.state.devices:
            node.forget()
            self.forgotten()
        self._losses.need_rebirth(node, detail, now_s)

    def doubt(self, node: EdgeNode) -> None:
        """A birth may have passed unseen: its values are uncertain until the next one."""
        if node.doubt():
            self.changed = True
            self._counters["births_doubted"] += 1

    def forgotten(self) -> None:
        """Births of a node are not valid any more, or not known to be."""
        self.changed = True
        self._counters["births_forgotten"] += 1

    def _device_death(self, node: EdgeNode, item: Item, rows: Rows) -> None:
        if item.topic.device not in node.targets:
            return
        device = node.state.devices.setdefault(item.topic.device, Device())
        if not device.alive:
            self._counters["deaths_ignored"] += 1
            return
        self._counters["deaths"] += 1
        self._note_unsure(node, item)
        device.alive = False
        self._reader.dead(node.tags(item.topic.device), item.payload.timestamp, item.message, rows)
        self.changed = True
        self._losses.show(node)

    def _note_unsure(self, node: EdgeNode, item: Item) -> None:
        """Remember a birth or death that would not come again."""
        if not item.message.qos:
            node.state.unsure_ns = item.message.arrival_ns

    def _after_birth(self, node: EdgeNode, device: str, at_ns: int) -> None:
        self.changed = True
        self._losses.explained(node, device, at_ns)
        self._losses.show(node)

    def _read(self, node: EdgeNode, item: Item, rows: Rows, now_s: float) -> None:
        """Rows of a message's metrics; what cannot be named or read is refused as one."""
        topic = item.topic
        device = node.state.devices.get(topic.device)
        known = device if device is not None and device.alive and node.state.alive else None
        targets = node.targets.get(topic.device, {})
        by_birth = named(item.payload.metrics, known, targets)
        refused = by_birth.refused
        for name, datatype, metric, doubtful in by_birth.found:
            refused += self._reader.read(
                name, datatype, metric, item.payload.timestamp, item.message, targets, rows, doubtful=doubtful
            )
        if by_birth.unnamed and targets:  # of a device that nobody wants nothing is missing
            refused.insert(0, self._losses.unexplained(node, item, by_birth.unnamed, known is not None, now_s))
        if refused:
            more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
            self._refuse(item.message, "; ".join(refused[:3]) + more)
