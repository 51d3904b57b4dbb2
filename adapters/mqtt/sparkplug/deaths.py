"""
Which connection of an edge node a death ends.

The number bdSeq pairs an NDEATH with its NBIRTH, and is to grow with each connect (Eclipse Sparkplug 3.0.0). There are
nodes that give all their connections the same one, as a client does whose library connects again with the will it was
given once; then only time tells.
"""

from __future__ import annotations

from typing import Final

from adapters.mqtt.sparkplug.order import Item
from adapters.mqtt.sparkplug.payload import Metric

_BDSEQ: Final = "bdSeq"
#: A will is made before its connect, and the birth behind it: a birth that is further away belongs to another will.
_CONNECT_MS: Final = 5000


def bdseq(item: Item) -> int | None:
    """The number that pairs a death with its birth, None where it has none."""
    metric = _metric(item)
    return metric.value if metric is not None and isinstance(metric.value, int) else None


def may_end(death: Item, birth: Item) -> bool:
    """
    Whether a death that came before a birth of its bdSeq can be that birth's, which it then overtook.

    Otherwise the node is back already. A death without any time says nothing for the first, which is rare: that
    connection would have been shorter than a message may be late.
    """
    died_ms, born_ms = _made_ms(death), _made_ms(birth)
    return died_ms is not None and born_ms is not None and abs(born_ms - died_ms) <= _CONNECT_MS


def _made_ms(item: Item) -> int | None:
    """Epoch ms; some wills have a time only at their bdSeq."""
    if item.payload.timestamp is not None:
        return item.payload.timestamp
    metric = _metric(item)
    return None if metric is None else metric.timestamp


def _metric(item: Item) -> Metric | None:
    return next((metric for metric in item.payload.metrics if metric.name == _BDSEQ), None)
