"""
What is known of kinds of servers beside what they say themselves.

The numbers follow those of benthos-umh (`opcua_plugin/server_profiles.go`) and the vendors' manuals: an S7-1200 claims
1000 items a call and is fifty times slower above 200 (Siemens, entry 109755846).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

#: For a server that says it has none.
NO_LIMIT: Final = 1000

ProfileName = Literal["auto", "high-performance", "ignition", "kepware", "siemens-s7-1200", "siemens-s7-1500", "prosys"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a kind of server; ``items`` 0 is no limit, ``filters`` whether it may take a deadband."""

    create: int = NO_LIMIT
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
