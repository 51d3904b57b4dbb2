"""
What births have said: the name and datatype behind each alias, per device, and kept over restarts.

Data messages carry an alias only, so without its birth a value has no name. A birth is used as long as nothing can
have replaced it unseen: a session that the broker kept delivers the node's death (QoS 1); one that it lost may have
hidden death and new birth, so then every birth is forgotten.
"""

from __future__ import annotations

from typing import Final

import msgspec

from adapters.mqtt.sparkplug.payload import Metric
from adapters.mqtt.sparkplug.topics import Edge

_VERSION: Final = 1


class Device(msgspec.Struct):
    """One device, or the node itself: metrics as (name, datatype), and their places by alias and by name."""

    alive: bool = True
    metrics: list[tuple[str, int]] = []
    by_alias: dict[int, int] = {}
    by_name: dict[str, int] = {}

    @classmethod
    def born(cls, metrics: list[Metric]) -> Device:
        """From the metrics of a birth; one without a name cannot be meant by anything."""
        device = cls(True, [], {}, {})
        for metric in metrics:
            if metric.name is None:
                continue
            place = device.by_name[metric.name] = len(device.metrics)
            device.metrics.append((metric.name, metric.datatype))
            if metric.alias is not None:
                device.by_alias[metric.alias] = place
        return device


class Node(msgspec.Struct):
    """One edge node; the device with the empty name is the node itself. ``bdseq`` pairs birth and death."""

    alive: bool = False
    bdseq: int | None = None
    devices: dict[str, Device] = {}


class _Saved(msgspec.Struct, array_like=True):
    version: int
    nodes: list[tuple[str, str, Node]]


def dump(nodes: dict[Edge, Node]) -> bytes:
    """All births as bytes."""
    return msgspec.msgpack.encode(_Saved(_VERSION, [(edge.group, edge.node, node) for edge, node in nodes.items()]))


def load(data: bytes) -> dict[Edge, Node]:
    """Inverse of :func:`dump`. Raises ValueError for bytes of another version, or damaged ones."""
    saved = msgspec.msgpack.decode(data, type=_Saved)
    if saved.version != _VERSION:
        raise ValueError(f"births of version {saved.version}")
    return {Edge(group, name): node for group, name, node in saved.nodes}
