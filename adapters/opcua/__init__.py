"""OPC UA: one session, subscriptions, values as they change; acknowledged after the journal's commit."""

from adapters.opcua.adapter import OpcUaAdapter
from adapters.opcua.config import OpcUaOptions

__all__ = ["OpcUaAdapter", "OpcUaOptions"]
