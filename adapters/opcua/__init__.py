"""OPC UA: one session, subscriptions, values as they change; acknowledged after the journal's commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.base import register_later
from adapters.opcua.config import OpcUaOptions
from adapters.opcua.nodes import check_tag, doubt_tag

if TYPE_CHECKING:
    from adapters.opcua.adapter import OpcUaAdapter

__all__ = ["OpcUaAdapter", "OpcUaOptions"]

register_later("opcua", OpcUaOptions, "adapters.opcua.adapter:OpcUaAdapter", check_tag, doubt_tag)


def __getattr__(name: str) -> Any:
    if name == "OpcUaAdapter":
        from adapters.opcua.adapter import OpcUaAdapter

        return OpcUaAdapter
    raise AttributeError(name)
