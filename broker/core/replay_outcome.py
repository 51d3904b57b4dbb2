"""What a replay is asked for, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from schemas.tagmap import TagMap

#: Tags that a message names at most.
NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """
    What shall be made anew: entries journalled at ``from_ns <= t < to_ns`` (UTC), of ``sources`` (none: of all).

    ``tag_map`` None takes the map in force. ``actor`` and ``reason`` go into the audit.
    """

    from_ns: int
    to_ns: int
    sources: tuple[str, ...] = ()
    tag_map: TagMap | None = None
    actor: str = ""
    reason: str = ""


@dataclass(slots=True)
class Outcome:
    """
    What a replay did.

    ``unreachable`` are paths whose way of reading changed, ``missing`` paths that the corrected map does not have,
    ``holes`` texts of what the journal lost, ``unknown_rows`` samples whose map cannot be read, ``left`` buckets of
    the roll-ups that stay as they are because retention has removed what they are made of, ``withdrawn`` rows that
    were stored in another unit.
    """

    revision: int = 0
    entries: int = 0
    rows: int = 0
    at_ns: int | None = None
    corrected: set[str] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    holes: list[str] = field(default_factory=list)
    unknown_rows: int = 0
    left: int = 0
    withdrawn: int = 0

    def text(self) -> str:
        """One line for people."""
        parts = [f"{self.rows} records of {len(self.corrected)} tags under revision {self.revision}"]
        if self.withdrawn:
            parts.append(f"{self.withdrawn} that were stored in another unit are withdrawn")
        if self.unreachable:
            parts.append(f"left as they are, because they were read in another way: {some(self.unreachable)}")
        if self.missing:
            parts.append(f"not in the corrected map: {some(self.missing)}")
        if self.holes:
            parts.append(f"the journal has {len(self.holes)} holes in the span: {self.holes[0]}")
        if self.unknown_rows:
            parts.append(f"{self.unknown_rows} samples name a map that cannot be read")
        if self.left:
            parts.append(f"{self.left} roll-up buckets stay as they are: their rows are past what the store keeps")
        return "; ".join(parts)


def some(paths: set[str]) -> str:
    """The first of these paths, and how many more there are."""
    named = ", ".join(sorted(paths)[:NAMED])
    return named if len(paths) <= NAMED else f"{named} and {len(paths) - NAMED} more"
