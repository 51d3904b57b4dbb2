"""
Sparkplug topics, and tag addresses under them.

Source: Eclipse Sparkplug 3.0.0, 4 (``spBv1.0/group/type/node[/device]``) and 5 (STATE).
"""

from __future__ import annotations

from typing import Final, NamedTuple

NAMESPACE: Final = "spBv1.0"
#: What a host listens to; commands belong to other hosts and to edge nodes.
NODE_KINDS: Final = ("NBIRTH", "NDEATH", "NDATA")
DEVICE_KINDS: Final = ("DBIRTH", "DDEATH", "DDATA")
_FORBIDDEN: Final = frozenset("+#")


class Edge(NamedTuple):
    """An edge node."""

    group: str
    node: str

    def __str__(self) -> str:
        return f"{self.group}/{self.node}"


class Topic(NamedTuple):
    """A message's topic; ``device`` is empty for messages of the node itself."""

    kind: str
    edge: Edge
    device: str


class Metric(NamedTuple):
    """A tag's address: a metric of an edge node (``device`` empty) or of a device."""

    edge: Edge
    device: str
    name: str


def is_sparkplug(text: str) -> bool:
    """Whether a topic, filter or address lies in the namespace."""
    return text.startswith(f"{NAMESPACE}/")


def parse(topic: str) -> Topic | None:
    """The parts of a topic of data, birth or death; None for every other one (commands, STATE)."""
    parts = topic.split("/")
    if len(parts) == 4 and parts[0] == NAMESPACE and parts[2] in NODE_KINDS:
        return Topic(parts[2], Edge(parts[1], parts[3]), "")
    if len(parts) == 5 and parts[0] == NAMESPACE and parts[2] in DEVICE_KINDS and parts[4]:
        return Topic(parts[2], Edge(parts[1], parts[3]), parts[4])
    return None


def parse_address(text: str) -> Metric:
    """
    Split ``spBv1.0/Group/Node#Metric`` or ``spBv1.0/Group/Node/Device#Metric``; the metric may hold ``/`` and ``#``.

    Raises:
        ValueError: anything else, with the right form.
    """
    place, mark, name = text.partition("#")
    parts = place.split("/")
    if parts[0] != NAMESPACE or len(parts) not in (3, 4) or not all(parts) or _FORBIDDEN & set(place):
        raise ValueError(f"{text!r}: write {NAMESPACE}/Group/Node/Device#Metric, or without Device for the node's own")
    if not mark or not name:
        raise ValueError(f"{text!r} names no metric: write {place}#Metric")
    return Metric(Edge(parts[1], parts[2]), parts[3] if len(parts) == 4 else "", name)


def needed(metric: Metric) -> list[str]:
    """Topics that must be heard for this metric: births and deaths of its node, and of its device."""
    group, node = metric.edge
    found = [f"{NAMESPACE}/{group}/{kind}/{node}" for kind in NODE_KINDS]
    if metric.device:
        found += [f"{NAMESPACE}/{group}/{kind}/{node}/{metric.device}" for kind in DEVICE_KINDS]
    return found


def rebirth(edge: Edge) -> str:
    """Topic of a command to an edge node."""
    return f"{NAMESPACE}/{edge.group}/NCMD/{edge.node}"


def state(host_id: str) -> str:
    """Topic of a host's own state."""
    return f"{NAMESPACE}/STATE/{host_id}"
