"""
How much a server takes at once: what it says itself, cut by what is known of its kind.

Source: OPC UA Part 5, 6.3.2 and 6.3.11 (OperationLimits, ServerCapabilities).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncua import ua

from adapters.opcua.profiles import NO_LIMIT, PROFILES, ProfileName

_UNKNOWN_LIMIT: Final = 100  # for a server that does not tell its limit

#: What is read at each connect, in the order of :meth:`Limits.of`.
NODES: Final = tuple(
    ua.NodeId(getattr(ua.ObjectIds, f"Server_ServerCapabilities_{name}"))
    for name in (
        "OperationLimits_MaxNodesPerRead",
        "OperationLimits_MaxMonitoredItemsPerCall",
        "OperationLimits_MaxNodesPerBrowse",
        "MaxMonitoredItems",
        "MaxMonitoredItemsPerSubscription",
    )
)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Elements the server takes in one request, and items in all and in one subscription (0: no limit is known).

    ``filters`` tells whether it is asked for a deadband at all.
    """

    read: int = _UNKNOWN_LIMIT
    create: int = _UNKNOWN_LIMIT
    browse: int = _UNKNOWN_LIMIT
    items: int = 0
    per_subscription: int = 0
    filters: bool = True

    @classmethod
    def of(cls, values: Sequence[ua.DataValue], profile: ProfileName = "auto") -> Limits:
        """From the values of :data:`NODES`; the lower of what the server says and what its profile knows."""
        read, create, browse, items, per_subscription = values
        known = PROFILES[profile]
        return cls(
            _a_request(read),
            min(_a_request(create), known.create),
            _a_request(browse),
            _lower(_number(items), known.items),
            _number(per_subscription),
            known.filters,
        )

    def fact(self) -> str:
        """The limits in words."""
        most = ", ".join(
            f"{number} {what}"
            for number, what in ((self.items, "in all"), (self.per_subscription, "a subscription"))
            if number
        )
        items = f"; items: {most}" if most else ""
        return f"a request: {self.read} reads, {self.create} items, {self.browse} browses{items}"


def _number(data: ua.DataValue) -> int:
    """The number in a value; 0 where there is none."""
    value = None if data.Value is None else data.Value.Value
    return value if isinstance(value, int) and value > 0 else 0


def _a_request(data: ua.DataValue) -> int:
    value = None if data.Value is None else data.Value.Value
    if not isinstance(value, int):
        return _UNKNOWN_LIMIT
    return min(value, NO_LIMIT) if value > 0 else NO_LIMIT


def _lower(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other
