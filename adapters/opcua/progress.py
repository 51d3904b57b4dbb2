"""
What a restarted process needs to go on with the subscriptions that the server still holds.

One small JSON file, replaced by atomic rename after each settled message. It may be behind the journal, never ahead of
it: then the server sends again what we have, and the store's key removes it. A missing or damaged file costs a gap,
never a wrong value.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

_VERSION: Final = 1
#: Data is complete up to this long before the file was written: a busy server publishes late.
_BEFORE_WRITTEN_NS: Final = 10_000_000_000
#: Sequence numbers run from 1 to 2**32 - 1 and begin again at 1 (Part 4, 7.13).
_NUMBERS: Final = (1 << 32) - 1


def following(sequence: int, steps: int = 1) -> int:
    """The sequence number so many messages (at least 1) after this one; the first is 1 (0: none yet)."""
    return (sequence + steps - 1) % _NUMBERS + 1


def ahead(sequence: int, expected: int) -> int:
    """Messages between the expected number and this one: 0 as expected, positive a hole, negative seen before."""
    distance = (sequence - expected) % _NUMBERS
    return distance if distance <= _NUMBERS // 2 else distance - _NUMBERS


@dataclass(slots=True)
class Held:
    """
    One subscription on the server.

    ``last_sequence`` is the last message that was settled, or is lost with its gap recorded (0: none), ``refused`` the
    tags the server did not accept, with their status code, ``covered_ns`` the time up to which its data is complete,
    ``keep_alive_s`` how often the server promised to be heard, ``unheard`` the tags of which no value has come yet.
    In the subscription of events ``refused`` is by notifier; ``left_out`` are the select clauses that it was not asked
    for, and ``notes`` what else is not as it was wished.
    """

    subscription_id: int
    keep_alive_s: float
    last_sequence: int = 0
    covered_ns: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    unheard: list[int] = field(default_factory=list)
    left_out: dict[int, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def hear(self, tags: Collection[int]) -> None:
        """Values of these tags are in the journal."""
        if self.unheard:
            self.unheard = [tag for tag in self.unheard if tag not in tags]


@dataclass(slots=True)
class Progress:
    """
    State of one source.

    ``fingerprint`` names the items and parameters that the subscriptions were made with, ``server_start`` the run of
    the server that holds them, ``owed`` a gap (from, to, detail) that is known but not yet in the journal, ``stale``
    the ids of subscriptions that the server may still hold and nobody wants: they are deleted before new ones are made.
    """

    fingerprint: str = ""
    server_start: int = 0
    held: list[Held] = field(default_factory=list)
    covered_ns: int = 0
    owed: tuple[int, int, str] | None = None
    stale: list[int] = field(default_factory=list)


class Ledger:
    """
    The state in memory and its file.

    A file that cannot be written is counted as ``state_unsaved`` and costs redelivery after a restart, no data.
    *covered* is told the time up to which data is complete (UTC ns; 0: not known) whenever it may have moved. Settled
    messages are written at most each *every_s*, and before they are acknowledged (:meth:`written`): the server has
    what the file does not know of.
    """

    def __init__(
        self,
        path: Path,
        counters: Counter[str],
        covered: Callable[[int], None] = lambda _: None,
        every_s: float = 0.0,
    ) -> None:
        self.now = Progress()
        self.generation = 0  #: counts :meth:`renew`; what was handed on before it must not touch what came after
        self._path = path
        self._counters = counters
        self._covered = covered
        self._loaded = False
        self._every_s = every_s
        self._saved_at = -math.inf
        self._behind = False
        self._later: asyncio.TimerHandle | None = None

    def load(self) -> None:
        """Read the file, the first time only: afterwards memory is ahead of it."""
        if not self._loaded:
            self.now = load(self._path)
            self._loaded = True
            self._complete()

    def renew(self, fingerprint: str, server_start: int, held: list[Held], now_ns: int, reason: str) -> None:
        """Begin with new subscriptions; the time since the last complete data is owed as a gap."""
        old = self.now
        if old.covered_ns:
            since = old.owed[0] if old.owed is not None else old.covered_ns
            old.owed = (min(since, now_ns), now_ns, reason)
        for one in held:
            one.covered_ns = old.covered_ns
        self.now = Progress(fingerprint, server_start, held, old.covered_ns, old.owed)
        self.generation += 1
        self.save()

    def settled(self, generation: int, held: Held | None, sequence: int, covered_ns: int) -> None:
        """Everything up to this message is in the journal, and so is the gap that was owed before it."""
        if generation != self.generation:
            return
        if held is not None and ahead(sequence, held.last_sequence) > 0:
            held.last_sequence = sequence
        for one in self.now.held if held is None else [held]:
            one.covered_ns = max(one.covered_ns, covered_ns)
        self.now.owed = None
        self._behind = True
        self.written()

    def lost(self, held: Held, sequence: int) -> None:
        """The gap over the messages up to this one is in the journal."""
        held.last_sequence = sequence
        self.save()

    def quiet(self, held: Held, covered_ns: int) -> None:
        """The server said that there was nothing new up to this time."""
        held.covered_ns = max(held.covered_ns, covered_ns)
        self.save()

    def forget(self) -> None:
        """The subscriptions are of no use any more; the time up to which data is complete stays."""
        self._complete()
        self.now.stale += [one.subscription_id for one in self.now.held]
        self.now.held = []

    def begin_anew(self, server_start: int) -> list[int]:
        """
        Forget the subscriptions. Returns the ids that this run of the server may still hold.

        The list is the ledger's own: an id that is added to it is deleted before the next subscriptions are made,
        unless :meth:`renew` has come first.
        """
        self.forget()
        if self.now.server_start != server_start:  # ids may mean other subscriptions now
            self.now.server_start = server_start
            self.now.stale = []
        return self.now.stale

    def written(self) -> bool:
        """Write what was settled if it is time. Returns whether the file knows of all of it."""
        if self._behind:
            self._complete()
            wait_s = self._saved_at + self._every_s - time.monotonic()
            if wait_s <= 0:
                self.save()
            elif self._later is None:
                self._later = asyncio.get_running_loop().call_later(wait_s, self._catch_up)
        return not self._behind

    def hold(self) -> None:
        """Write nothing later by itself."""
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _catch_up(self) -> None:
        self._later = None
        self.written()

    def save(self) -> None:
        """Replace the file now."""
        self._complete()
        self.hold()
        self._behind, self._saved_at = False, time.monotonic()
        try:
            save(self._path, self.now)
        except OSError:
            self._counters["state_unsaved"] += 1

    def _complete(self) -> None:
        self.now.covered_ns = min((one.covered_ns for one in self.now.held), default=self.now.covered_ns)
        self._covered(self.now.covered_ns)


def load(path: Path) -> Progress:
    """The saved state; an empty one when the file is missing or not ours."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            return _unreadable(path)
        held = [
            Held(
                int(one["subscription_id"]),
                float(one["keep_alive_s"]),
                int(one["last_sequence"]),
                int(one["covered_ns"]),
                {int(tag): int(code) for tag, code in one["refused"].items()},
                [int(tag) for tag in one.get("unheard", ())],
                {int(handle): [int(place) for place in places] for handle, places in one.get("left_out", {}).items()},
                [str(note) for note in one.get("notes", ())],
            )
            for one in content["held"]
        ]
        owed = content["owed"]
        return Progress(
            str(content["fingerprint"]),
            int(content["server_start"]),
            held,
            int(content["covered_ns"]),
            None if owed is None else (int(owed[0]), int(owed[1]), str(owed[2])),
            [int(one) for one in content.get("stale", ())],
        )
    except FileNotFoundError:
        return Progress()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return _unreadable(path)


def _unreadable(path: Path) -> Progress:
    """A file that says nothing any more: there was data until it was written, so a gap is owed since shortly before."""
    try:
        return Progress(covered_ns=max(0, path.stat().st_mtime_ns - _BEFORE_WRITTEN_NS))
    except OSError:
        return Progress()


def save(path: Path, progress: Progress) -> None:
    """Replace the file. Raises OSError; the old content then still stands."""
    replace_file(path, json.dumps({"version": _VERSION, **asdict(progress)}, separators=(",", ":")))


def replace_file(path: Path, body: str) -> None:
    """Write a private file beside it and rename it into place. Raises OSError."""
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(body)
    part.replace(path)
