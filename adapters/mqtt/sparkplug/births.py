"""
What births have said: the name and datatype behind each alias, per device, and kept over restarts.

Data messages carry an alias only, so without its birth a value has no name. A birth is used as long as nothing can
have replaced it unseen, and beyond that only where no rebirth may be asked for, for values that are uncertain. Births
are published with QoS 0 (Eclipse Sparkplug 3.0.0, 6.4.2), of which no broker keeps anything for us, so a kept session
proves nothing: the position does, which is the number that the node's next message must have.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from adapters.mqtt.sparkplug.payload import Metric
from adapters.mqtt.sparkplug.topics import Edge

_VERSION: Final = 1


class Device(msgspec.Struct):
    """
    One device, or the node itself: metrics as (name, datatype), and their places by alias and by name.

    ``doubted``: a later birth may have been lost.
    """

    alive: bool = True
    metrics: list[tuple[str, int]] = []
    by_alias: dict[int, int] = {}
    by_name: dict[str, int] = {}
    doubted: bool = False

    @classmethod
    def born(cls, metrics: list[Metric]) -> Device:
        """From the metrics of a birth; one without a name cannot be meant by anything."""
        device = cls(True, [], {}, {})
        for metric in metrics:
            if not metric.name:
                continue
            place = device.by_name[metric.name] = len(device.metrics)
            device.metrics.append((metric.name, metric.datatype))
            if metric.alias is not None:
                device.by_alias[metric.alias] = place
        return device


class Node(msgspec.Struct):
    """
    One edge node; the device with the empty name is the node itself. ``bdseq`` pairs birth and death.

    ``unsure_ns`` is the arrival of the last birth or death with QoS 0, which nobody sends again; 0 for none.
    ``disputed`` are the devices that a death ended which came before the birth and may be that of a connection before.
    """

    alive: bool = False
    bdseq: int | None = None
    devices: dict[str, Device] = {}
    unsure_ns: int = 0
    disputed: list[str] = []


class Position(NamedTuple):
    """Where a node's messages had come to: the number of the next one, None for any; arrival of the last, UTC ns."""

    group: str
    node: str
    expected: int | None
    last_ns: int


class _Saved(msgspec.Struct, array_like=True):
    version: int
    nodes: list[tuple[str, str, Node]]


def dump(nodes: dict[Edge, Node]) -> bytes:
    """All births as bytes."""
    return msgspec.msgpack.encode(_Saved(_VERSION, [(edge.group, edge.node, node) for edge, node in nodes.items()]))


def dump_positions(positions: Collection[Position]) -> bytes:
    """All positions as bytes."""
    return msgspec.msgpack.encode(list(positions))


def load_positions(data: bytes) -> dict[Edge, Position]:
    """Inverse of :func:`dump_positions`. Raises ValueError for damaged bytes."""
    found = msgspec.msgpack.decode(data, type=list[Position])
    return {Edge(position.group, position.node): position for position in found}


def load(data: bytes) -> dict[Edge, Node]:
    """Inverse of :func:`dump`. Raises ValueError for bytes of another version, or damaged ones."""
    saved = msgspec.msgpack.decode(data, type=_Saved)
    if saved.version != _VERSION:
        raise ValueError(f"births of version {saved.version}")
    return {Edge(group, name): node for group, name, node in saved.nodes}
