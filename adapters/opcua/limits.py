"""
How much a server takes at once: what it says itself, cut by what is known of its kind.

Source: OPC UA Part 5, 6.3.2 and 6.3.11 (OperationLimits, ServerCapabilities). The profiles' numbers follow those of
benthos-umh (`opcua_plugin/server_profiles.go`) and the vendors' manuals: an S7-1200 claims 1000 items a call and is
fifty times slower above 200 (Siemens, entry 109755846).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from asyncua import ua

_UNKNOWN_LIMIT: Final = 100  # for a server that does not tell its limit
_NO_LIMIT: Final = 1000  # for a server that says it has none

ProfileName = Literal["auto", "high-performance", "ignition", "kepware", "siemens-s7-1200", "siemens-s7-1500", "prosys"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a kind of server; ``items`` 0 is no limit, ``filters`` whether it may take a deadband."""

    create: int = _NO_LIMIT
    items: int = 0
    filters: bool = True


PROFILES: Final[Mapping[ProfileName, Profile]] = {
    "auto": Profile(),
    "high-performance": Profile(),
    "ignition": Profile(create=100),
    "kepware": Profile(),
    "siemens-s7-1200": Profile(create=100, items=1000, filters=False),
    "siemens-s7-1500": Profile(create=500, items=10_000),
    "prosys": Profile(create=800),
}

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
    return min(value, _NO_LIMIT) if value > 0 else _NO_LIMIT


def _lower(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other
