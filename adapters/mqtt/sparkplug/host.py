"""
A Sparkplug host application: follows births and deaths of the edge nodes that tags name, and reads their data.

Nothing is guessed. A value whose alias no birth explains is not stored: the hole is a gap row, its messages are in
quarantine, and a rebirth is asked for where the options allow it. Where they do not, the next birth may be weeks away:
then a birth is used on behind a message that was lost, or that came while we were away, and may have been another one;
its values are uncertain.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from adapters import values
from adapters.mqtt.message import Message
from adapters.mqtt.rows import Rows
from adapters.mqtt.sparkplug import births, commands, deaths, payload, topics
from adapters.mqtt.sparkplug.births import Device
from adapters.mqtt.sparkplug.edge import EdgeNode
from adapters.mqtt.sparkplug.losses import Losses, Setting
from adapters.mqtt.sparkplug.metrics import MetricReader, Target
from adapters.mqtt.sparkplug.naming import named
from adapters.mqtt.sparkplug.order import Item, Step
from adapters.mqtt.sparkplug.topics import Edge, Topic

#: Edge nodes whose state is shown.
_SHOWN: Final = 200


class Host:
    """
    All edge nodes of one source.

    ``take`` and ``expire`` add rows; what is missing waits in ``losses``, and messages that had waited and are done now
    in ``finished``. ``held`` are those that began to wait.

    Counters: ``births``, ``deaths``, ``deaths_ignored`` (of an earlier connection of the node), ``deaths_taken_back``
    (so it was, as the node's next message showed), ``reordered``, ``sequence_gaps``, ``out_of_sequence`` (came after
    the wait for it was over), ``births_forgotten`` (per node: one may have passed unseen), ``births_doubted`` (the
    same, but they are used on, for uncertain values), ``repeated`` (came again, and was settled over an earlier
    connection), ``commands_ignored`` (of other hosts), ``groups_ignored``; and those of :class:`Losses`.
    """

    def __init__(self, setting: Setting) -> None:
        self._options = setting.options
        self._passive = setting.options.rebirth == "never"
        self._context = setting.context
        self._counters = setting.counters
        self._refuse = setting.refuse
        self._reader = MetricReader(self._counters)
        self._nodes: dict[Edge, EdgeNode] = {}
        for tag in self._context.tags:
            if topics.is_sparkplug(tag.address):
                metric = topics.parse_address(tag.address)
                node = self._nodes.setdefault(metric.edge, EdgeNode(metric.edge))
                target = Target(tag.number, values.from_json(tag.type))
                node.targets.setdefault(metric.device, {}).setdefault(metric.name, []).append(target)
        self.losses = Losses(setting if len(self._nodes) <= _SHOWN else replace(setting, facts={}))
        self.held: list[Item] = []
        self.finished: list[Item] = []
        self.changed = False
        self._moved: set[EdgeNode] = set()
        self._places: dict[Edge, births.Position] = {}
        #: Our own STATE topic, and the latest time (epoch ms) at which someone said there that we are offline.
        self.state_topic: str | None = None
        self.offline_ms: int | None = None

    def restore(self, saved: bytes | None, positions: bytes | None = None, *, kept: bool, now_s: float) -> None:
        """
        Begin a connection with births and positions as they were when everything before was settled.

        ``kept``: the broker held our session. Otherwise, or without a number to compare the node's first one with, a
        death, and a birth with other aliases, may have passed unseen: births are forgotten and asked for, or doubted
        where that is not allowed. Else they are used until a node's first number is not the expected one.

        Raises ValueError for damaged bytes, behind which nothing is known.
        """
        known = births.load(saved) if saved is not None else {}
        places = births.load_positions(positions) if positions is not None else {}
        for node in self._nodes.values():
            # What waited with QoS 1 comes again; the broker has nothing of the rest.
            self._counters["dropped"] += sum(1 for item in node.order.waiting if not item.message.qos)
        self.held, self.finished, self.losses.commands = [], [], []
        self.changed = bool(known) and not kept
        self._moved = set(self._nodes.values())
        for edge, node in self._nodes.items():
            state, place = known.get(edge) if kept or self._passive else None, places.get(edge)
            if state is None:
                node.reset()
                self.losses.show(node)
                continue
            provable, replaced = place is not None and place.expected is not None, node.replaced(state)
            if replaced or not (provable or self._passive):
                node.begin_unknown()
                self.changed = True
                self._counters["births_forgotten"] += 1
            else:
                node.resume(state, place)
                if not (kept and provable):
                    self._doubt(node)
            self.losses.show(node)
            if kept and (replaced or not provable):
                detail = f"{edge}: a birth or death was not stored, or passed while we were away"
                if place is not None and place.last_ns:
                    self.losses.gap(node.tags(), place.last_ns, self._context.now_ns(), detail)
                self.losses.need_rebirth(node, detail, now_s)
        if not kept:
            for node in self._nodes.values():
                self.losses.need_rebirth(node, "the session is new", now_s)

    def dump(self) -> bytes:
        """The births as they are, for :meth:`restore`."""
        self.changed = False
        return births.dump({edge: node.state for edge, node in self._nodes.items() if node.state.devices})

    @property
    def moved(self) -> bool:
        """Whether any position is another than at the last :meth:`positions`."""
        return bool(self._moved)

    def positions(self) -> bytes:
        """The positions as they are, for :meth:`restore`. It is called for each batch, so only moved ones are made."""
        for node in self._moved:
            if node.state.devices:
                self._places[node.edge] = node.position
            else:
                self._places.pop(node.edge, None)
        self._moved.clear()
        return births.dump_positions(self._places.values())

    @property
    def due_s(self) -> float | None:
        """Loop time at which something that waits has waited long enough."""
        return min((due for node in self._nodes.values() if (due := node.due_s) is not None), default=None)

    def take(self, message: Message, topic_text: str, rows: Rows, now_s: float) -> bool:
        """Take one message; return False where it concerns no tag."""
        topic = topics.parse(topic_text)
        if topic is None and topic_text == self.state_topic:
            at_ms = commands.offline_since(message.payload)
            if at_ms is not None:
                self.offline_ms = max(at_ms, self.offline_ms or 0)
            return True
        if topic is None:
            self._counters["commands_ignored"] += 1
            return False
        if self._options.groups is not None and topic.edge.group not in self._options.groups:
            self._counters["groups_ignored"] += 1
            return False
        node = self._nodes.get(topic.edge)
        if node is None:
            return False
        try:
            item = Item(topic, message, payload.decode(message.payload))
        except ValueError as error:
            self._refuse(message, f"not a Sparkplug payload: {error}")
            self.unreadable(message, topic, now_s)
            return True
        self._moved.add(node)
        if node.state.disputed and topic.kind not in ("NBIRTH", "NDEATH"):
            self._revive(node, now_s)
        if topic.kind == "NBIRTH":
            self._node_birth(node, item, rows, now_s)
        elif topic.kind == "NDEATH":
            self._node_death(node, item, rows, now_s)
        elif node.order.repeats(item):
            self._counters["repeated"] += 1
        elif self._must_wait(node, item):
            self._hold(node, item, now_s)
        else:
            if item.payload.seq is None and node.order.unproven and node.state.alive:
                node.order.restart(None)
                self._distrust(node, item, f"{node.edge}: a message without seq proves no birth", now_s)
            self._process(node, item, rows, now_s)
        self._drain(node, rows, now_s)
        return True

    def unreadable(self, message: Message, topic: Topic, now_s: float) -> None:
        """A message was refused whole: what such a birth replaces is not valid any more, what it says is not known."""
        node = self._nodes.get(topic.edge)
        if node is None or topic.kind == "NDEATH":  # a death has no number
            return
        self._moved.add(node)
        if topic.kind == "NBIRTH":
            node.order.restart(None)
            node.state = births.Node(True, None, {}, node.state.unsure_ns)
        else:
            node.order.unreadable()
        if topic.kind == "DBIRTH":
            node.state.devices.pop(topic.device, None)
        if topic.kind == "NBIRTH" or (topic.kind == "DBIRTH" and topic.device in node.targets):
            if not message.qos:
                node.state.unsure_ns = message.arrival_ns
            self.changed = True
            self._counters["births_forgotten"] += 1
            where = f"{node.edge}/{topic.device}" if topic.device else str(node.edge)
            self.losses.need_rebirth(node, f"{where}: its birth cannot be read", now_s)

    def expire(self, rows: Rows, now_s: float) -> None:
        """Take what has waited long enough."""
        for node in self._nodes.values():
            if node.due_s is not None and node.due_s <= now_s:
                self._moved.add(node)
                self._drain(node, rows, now_s)
                death = node.death
                if death is not None and death.until_s <= now_s:
                    node.death = None
                    self._finish(death)
                    if node.state.alive and node.state.bdseq == deaths.bdseq(death):
                        alive = [name for name, device in node.state.devices.items() if device.alive]
                        self._die(node, death, rows)
                        node.state.disputed = alive
                    else:
                        self._counters["deaths_ignored"] += 1

    def _must_wait(self, node: EdgeNode, item: Item) -> bool:
        """Whether something that should have come before this message may still come."""
        if item.payload.seq is None:
            return False
        if node.state.alive:
            return not node.order.offer(item)
        # Where the birth has been missing for long, each value would wait in vain, and hold up acknowledgements.
        return item.topic.kind == "DBIRTH" or not node.unexplained or bool(node.order.waiting)

    def _hold(self, node: EdgeNode, item: Item, now_s: float) -> None:
        self._counters["reordered"] += 1
        node.order.wait(item, now_s + self._options.reorder)
        self.held.append(item)

    def _finish(self, item: Item) -> None:
        self.finished.append(item)

    def _drain(self, node: EdgeNode, rows: Rows, now_s: float) -> None:
        while (step := node.order.next(now_s)) is not None:
            self._late(node, step, rows, now_s)

    def _late(self, node: EdgeNode, step: Step, rows: Rows, now_s: float) -> None:
        """Process an item that has waited."""
        item = step.item
        self._finish(item)
        if step.missing > 0 and node.state.alive:
            self._counters["sequence_gaps"] += 1
            detail = f"{node.edge}: {step.missing} messages before seq {item.payload.seq} did not come"
            self._distrust(node, item, detail, now_s)
        elif step.missing < 0:
            self._counters["out_of_sequence"] += 1
            if node.order.unchecked and node.unordered is None:
                self.losses.order_given_up(node, item)
        self._process(node, item, rows, now_s)

    def _distrust(self, node: EdgeNode, item: Item, detail: str, now_s: float) -> None:
        """
        Messages before this one are missing: a gap, and one of them may have been a birth with other aliases.

        Only a birth ends that. Where none may be asked for, the births are used on: else one lost message, or one that
        came while we restarted, would end the reading of the node until it happens to connect anew.
        """
        self.losses.gap(node.tags(), node.last_ns, item.message.arrival_ns, detail)
        if self._passive:
            self._doubt(node)
        elif node.state.devices:
            node.forget()
            self.changed = True
            self._counters["births_forgotten"] += 1
        self.losses.need_rebirth(node, detail, now_s)

    def _doubt(self, node: EdgeNode) -> None:
        if node.doubt():
            self.changed = True
            self._counters["births_doubted"] += 1

    def _node_birth(self, node: EdgeNode, item: Item, rows: Rows, now_s: float) -> None:
        born_ms = item.payload.timestamp or 0
        behind = [one for one in node.order.waiting if (one.payload.timestamp or 0) >= born_ms]
        node.order.waiting = [one for one in node.order.waiting if one not in behind]
        while node.order.waiting:
            step = node.order.force()
            self._late(node, step, rows, now_s)
        node.order.waiting = behind
        node.order.restart(item.payload.seq)
        self._counters["births"] += 1
        death, bdseq = node.death, deaths.bdseq(item)
        if death is not None and deaths.bdseq(death) == bdseq and not deaths.may_end(death, item):
            node.death = None
            self._finish(death)
            self._counters["deaths_ignored"] += 1
        node.last_ns = item.message.arrival_ns
        unsure_ns = node.state.unsure_ns if item.message.qos else item.message.arrival_ns
        node.state = births.Node(True, bdseq, {"": Device.born(item.payload.metrics)}, unsure_ns)
        node.birth_came()
        self.losses.order_begun(node, item.message.arrival_ns)
        self._read(node, item, rows, now_s)
        self._after_birth(node, "", item.message.arrival_ns)

    def _node_death(self, node: EdgeNode, item: Item, rows: Rows, now_s: float) -> None:
        bdseq = deaths.bdseq(item)
        if node.state.alive and (bdseq == node.state.bdseq or bdseq is None or node.state.bdseq is None):
            while node.order.waiting:
                step = node.order.force()
                self._late(node, step, rows, now_s)
            self._die(node, item, rows)
            return
        if node.state.devices and not node.state.alive and bdseq == node.state.bdseq:  # will and farewell of one node
            self.changed = self.changed or bool(node.state.disputed)
            node.state.disputed = []
            self._counters["deaths_ignored"] += 1
            return
        if node.death is not None:  # one waits already: it belonged to a connection before that
            self._finish(node.death)
            self._counters["deaths_ignored"] += 1
        item.until_s = now_s + self._options.reorder
        node.death = item
        self.held.append(item)

    def _die(self, node: EdgeNode, item: Item, rows: Rows) -> None:
        """The will's own timestamp is that of the connect, so the death is dated by its arrival."""
        self._counters["deaths"] += 1
        self._note_unsure(node, item)
        node.state.alive = False
        for device in node.state.devices.values():
            device.alive = False
        self._reader.dead(node.tags(), None, item.message, rows)
        self.changed = True
        self.losses.show(node)

    def _revive(self, node: EdgeNode, now_s: float) -> None:
        """A dead node says nothing: the death was of an earlier connection with the same bdSeq."""
        node.revive()
        self.changed = True
        self._counters["deaths_taken_back"] += 1
        self.losses.need_rebirth(node, f"{node.edge}: it goes on behind a death that came before its birth", now_s)

    def _process(self, node: EdgeNode, item: Item, rows: Rows, now_s: float) -> None:
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
        self.losses.show(node)

    def _note_unsure(self, node: EdgeNode, item: Item) -> None:
        """Remember a birth or death that would not come again."""
        if not item.message.qos:
            node.state.unsure_ns = item.message.arrival_ns

    def _after_birth(self, node: EdgeNode, device: str, at_ns: int) -> None:
        self.changed = True
        self.losses.explained(node, device, at_ns)
        self.losses.show(node)

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
            refused.insert(0, self.losses.unexplained(node, item, by_birth.unnamed, known is not None, now_s))
        if refused:
            more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
            self._refuse(item.message, "; ".join(refused[:3]) + more)
