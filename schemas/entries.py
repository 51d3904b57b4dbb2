"""
What the journal carries: the only thing that stands between acquire and core.

Every entry has an epoch (one life of a journal directory), a sequence number without holes, a boot id, and two
clocks. Time passes in the journal: stages take it from ticks and never read a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.alarms import Event
from schemas.samples import Gap, Reject, SampleBatch
from schemas.suppression import Command


class Position(NamedTuple):
    """Place in the stream: everything up to and including (epoch, seq) is done. (0, 0) is the beginning."""

    epoch: int
    seq: int


START = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Tick:
    """A second has passed; the wall time is the entry's."""


#: How the reason of a source's last link begins, when nothing will ever come from it again.
END_OF_INPUT = "end of input"


@dataclass(frozen=True, slots=True)
class Link:
    """A source's connection came up or went down, and why."""

    source: str
    up: bool
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether the source's input is over: it is not down, it has nothing more to say."""
        return not self.up and self.reason.startswith(END_OF_INPUT)


@dataclass(frozen=True, slots=True)
class MapInForce:
    """
    The whole resolved map (canonical JSON); batches name it by ``revision``.

    ``actor``: who started the acquire process with it, for the audit.
    """

    revision: bytes
    body: bytes
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something acquire did or saw that belongs into the audit: ``action`` is its stable name, ``text`` for people."""

    action: str
    text: str


Body = SampleBatch | Gap | Reject | Link | MapInForce | Tick | Notice | Event | Command


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry. ``wall_ns`` is UTC, ``mono_ns`` comparable within one ``boot_id`` only."""

    epoch: int
    seq: int
    boot_id: bytes
    wall_ns: int
    mono_ns: int
    body: Body

    @property
    def position(self) -> Position:
        """Place of this entry in the stream."""
        return Position(self.epoch, self.seq)


class JournalReader(Protocol):
    """Reads entries in order, as far as they are durable."""

    def read(self, after: Position, limit: int = 1000) -> Sequence[Entry]:
        """
        Up to *limit* entries that follow *after*, empty when there are none yet.

        Where entries after the position are gone (retention, damage), the first entry returned is a Gap with cause
        ``journal_damaged`` or ``disk_budget``, and reading goes on behind the hole.
        """
        ...

    def done(self, position: Position) -> None:
        """Say that everything up to *position* is committed downstream and may be removed when retention allows."""
        ...
