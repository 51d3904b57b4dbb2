"""What is known of one edge node while we are connected."""

from __future__ import annotations

from adapters.mqtt.sparkplug.births import Node, Position
from adapters.mqtt.sparkplug.metrics import Target
from adapters.mqtt.sparkplug.order import Item, Order
from adapters.mqtt.sparkplug.topics import Edge
from schemas.samples import Gap


class EdgeNode:
    """
    One edge node that tags name.

    Attributes:
        targets: device (empty: the node itself) to metric name to tags.
        state: its births.
        death: an NDEATH that waits for the NBIRTH it belongs to.
        unexplained: open gap of each device whose data no birth explains.
        unordered: open gap from when its numbers turned out to say nothing.
        last_ns: arrival of its last message, UTC ns; 0 for none.
        ask_again_s, ask_wait_s: loop time from which a rebirth may be asked for again, and the present wait.
    """

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.targets: dict[str, dict[str, list[Target]]] = {}
        self.unexplained: dict[str, Gap] = {}
        self.unordered: Gap | None = None
        self.ask_again_s = self.ask_wait_s = 0.0
        self.reset()

    def reset(self) -> None:
        """Begin a connection; open gaps stay open until a birth comes."""
        self.state = Node()
        self.order = Order()
        self.death: Item | None = None
        self.last_ns = 0

    def replaced(self, state: Node) -> bool:
        """
        Whether saved births are known not to be valid any more.

        This process has seen a birth or death of QoS 0 behind them, which was not settled and does not come again. Ask
        before :meth:`reset` forgets what was seen.
        """
        return self.state.unsure_ns not in (0, state.unsure_ns)

    def resume(self, state: Node, position: Position | None) -> None:
        """Go on with births and position of an earlier connection."""
        self.reset()
        self.state = state
        if position is not None:
            self.last_ns = position.last_ns
            if position.expected is not None:
                self.order.resume(position.expected)

    def begin_unknown(self) -> None:
        """Begin a connection without the births that are saved, also should it fail before that is saved."""
        seen_ns = self.state.unsure_ns
        self.reset()
        self.state.unsure_ns = seen_ns

    def forget(self) -> None:
        """Trust no birth any more: one may have passed unseen. Which death is the node's is not known then either."""
        self.state.devices.clear()
        self.state.bdseq = None

    def doubt(self) -> bool:
        """Go on with the births, though one may have passed unseen; return whether that is new."""
        sure = [device for device in self.state.devices.values() if not device.doubted]
        for device in sure:
            device.doubted = True
        self.state.bdseq = None
        return bool(sure)

    def revive(self) -> None:
        """Take back a disputed death. The births are those of the messages only if the numbers go on as expected."""
        self.state.alive = True
        for name, device in self.state.devices.items():
            device.alive = device.alive or name in self.state.disputed
        self.state.disputed = []
        self.order.unproven = True

    @property
    def position(self) -> Position:
        """What :meth:`resume` needs."""
        return Position(*self.edge, None if self.order.unchecked else self.order.expected, self.last_ns)

    def birth_came(self) -> None:
        """Ask again at once should it be needed again."""
        self.ask_again_s = self.ask_wait_s = 0.0

    def tags(self, device: str | None = None) -> tuple[int, ...]:
        """Numbers of the tags of one device, or of the node with all its devices."""
        places = self.targets.values() if device is None else [self.targets.get(device, {})]
        return tuple(sorted(target.tag for place in places for found in place.values() for target in found))

    @property
    def due_s(self) -> float | None:
        """Loop time at which something that waits has waited long enough."""
        waits = [
            due for due in (self.order.due_s, None if self.death is None else self.death.until_s) if due is not None
        ]
        return min(waits, default=None)

    def describe(self) -> str:
        """For people."""
        unordered = ", order is not checked: its numbers say nothing" if self.order.unchecked else ""
        if not self.state.devices:
            return f"no birth known{unordered}"
        devices = [name for name, device in self.state.devices.items() if name and device.alive]
        metrics = sum(len(device.metrics) for device in self.state.devices.values())
        doubted = any(device.doubted for device in self.state.devices.values())
        unsure = ", a birth may have been lost: values are uncertain" if doubted else ""
        bdseq = "" if self.state.bdseq is None else f", bdSeq {self.state.bdseq}"
        online = "online" if self.state.alive else "offline"
        return f"{online}{bdseq}, {metrics} metrics, {len(devices)} devices online{unsure}{unordered}"
