"""
A Sparkplug host application: follows births and deaths of the edge nodes that tags name, and reads their data.

Here messages get their turn: what comes early waits for what should have come before it, and a death for the birth that
it belongs to. What they then do is in :mod:`adapters.mqtt.sparkplug.lifecycle`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from adapters import values
from adapters.mqtt.message import Message
from adapters.mqtt.rows import Rows
from adapters.mqtt.sparkplug import births, commands, deaths, payload, topics
from adapters.mqtt.sparkplug.edge import EdgeNode
from adapters.mqtt.sparkplug.lifecycle import Lifecycle
from adapters.mqtt.sparkplug.losses import Losses, Setting
from adapters.mqtt.sparkplug.metrics import Target
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
        self._life = Lifecycle(setting, self.losses)
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
        self._life.changed = bool(known) and not kept
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
                self._life.forgotten()
            else:
                node.resume(state, place)
                if not (kept and provable):
                    self._life.doubt(node)
            self.losses.show(node)
            if kept and (replaced or not provable):
                detail = f"{edge}: a birth or death was not stored, or passed while we were away"
                if place is not None and place.last_ns:
                    self.losses.gap(node.tags(), place.last_ns, self._context.now_ns(), detail)
                self.losses.need_rebirth(node, detail, now_s)
        if not kept:
            for node in self._nodes.values():
                self.losses.need_rebirth(node, "the session is new", now_s)

    @property
    def changed(self) -> bool:
        """Whether what is known of births is another than at the last :meth:`dump`."""
        return self._life.changed

    def dump(self) -> bytes:
        """The births as they are, for :meth:`restore`."""
        self._life.changed = False
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
            self._life.revive(node, now_s)
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
                self._life.distrust(node, item, f"{node.edge}: a message without seq proves no birth", now_s)
            self._life.process(node, item, rows, now_s)
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
        else:
            node.order.unreadable()
        self._life.unreadable(node, message, topic, now_s)

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
                        self._life.node_died(node, death, rows)
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
            self._life.distrust(node, item, detail, now_s)
        elif step.missing < 0:
            self._counters["out_of_sequence"] += 1
            if node.order.unchecked and node.unordered is None:
                self.losses.order_given_up(node, item)
        self._life.process(node, item, rows, now_s)

    def _node_birth(self, node: EdgeNode, item: Item, rows: Rows, now_s: float) -> None:
        born_ms = item.payload.timestamp or 0
        behind = [one for one in node.order.waiting if (one.payload.timestamp or 0) >= born_ms]
        node.order.waiting = [one for one in node.order.waiting if one not in behind]
        while node.order.waiting:
            step = node.order.force()
            self._late(node, step, rows, now_s)
        node.order.waiting = behind
        node.order.restart(item.payload.seq)
        death = node.death
        if death is not None and deaths.bdseq(death) == deaths.bdseq(item) and not deaths.may_end(death, item):
            node.death = None
            self._finish(death)
            self._counters["deaths_ignored"] += 1
        self._life.node_born(node, item, rows, now_s)

    def _node_death(self, node: EdgeNode, item: Item, rows: Rows, now_s: float) -> None:
        bdseq = deaths.bdseq(item)
        if node.state.alive and (bdseq == node.state.bdseq or bdseq is None or node.state.bdseq is None):
            while node.order.waiting:
                step = node.order.force()
                self._late(node, step, rows, now_s)
            self._life.node_died(node, item, rows)
            return
        if node.state.devices and not node.state.alive and bdseq == node.state.bdseq:  # will and farewell of one node
            self._life.confirm_death(node)
            self._counters["deaths_ignored"] += 1
            return
        if node.death is not None:  # one waits already: it belonged to a connection before that
            self._finish(node.death)
            self._counters["deaths_ignored"] += 1
        item.until_s = now_s + self._options.reorder
        node.death = item
        self.held.append(item)
