"""
What is suppressed now: shelves and maintenance that people asked for, rules and calendar of the tag map.

What is decided here changes at ticks only, so that the output does not depend on how the stream is cut into batches:
commands and the values that rules look at are taken as they come and come into force at the next tick. Times are
those of the stream's entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from detectors.base import BadState
from schemas.anomaly import Cause
from schemas.calendar import Window
from schemas.suppression import LATEST_NS, Command, Rule, Suppression, SuppressionEvent, under
from schemas.tagmap import TagMap

#: Commands whose ids are remembered, so that one that comes twice is taken once.
_REMEMBERED: Final = 1000
#: Suppressions in force at most; who needs more has lost sight of them.
MOST_ACTIVE: Final = 500
_VERSION: Final = 1


class _Saved(msgspec.Struct):
    version: int
    active: list[Suppression]
    seen: list[str]
    waiting: list[Command]
    values: dict[str, float]
    next: dict[str, float]
    wall_ns: int
    held: dict[str, int]
    silent: list[str] = []
    next_silent: list[str] = []


class Suppressor:
    """
    Decides for each finding whether, and why, it asks nobody for attention.

    ``off`` and ``maintained`` are the pieces of equipment that produce nothing by the calendar, and that people work
    on; ``version`` grows whenever a decision may be another than before.
    """

    def __init__(self) -> None:
        self._active: dict[str, Suppression] = {}
        self._seen: dict[str, None] = {}
        self._waiting: list[Command] = []
        self._next: dict[str, float] = {}
        self._values: dict[str, float] = {}
        self._silent: frozenset[str] = frozenset()
        self._next_silent: frozenset[str] = frozenset()
        self._held: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._equipment: tuple[str, ...] = ()
        self._rules: dict[str, tuple[Rule, ...]] = {}
        self._calendar: tuple[Window, ...] = ()
        self._wall_ns = 0
        self._windows: tuple[Window, ...] = ()
        self.watched: frozenset[str] = frozenset()
        self.off: frozenset[str] = frozenset()
        self.maintained: frozenset[str] = frozenset()
        self.version = 0

    def use_map(self, tag_map: TagMap, equipment: Iterable[str]) -> None:
        """Take rules and calendar of the map that is in force from now on; *equipment* is all that tags belong to."""
        self._equipment = tuple(dict.fromkeys([*equipment, *(item.path for item in tag_map.equipment)]))
        self._rules = {item.path: item.suppress for item in tag_map.equipment if item.suppress}
        self._calendar = tag_map.calendar
        self.watched = frozenset(rule.when for rules in self._rules.values() for rule in rules)
        self._values = {path: value for path, value in self._values.items() if path in self.watched}
        self._next = {path: value for path, value in self._next.items() if path in self.watched}
        self._silent &= self.watched
        self._next_silent &= self.watched
        self._judge()

    def command(self, command: Command) -> None:
        """Take what a person asked for; it comes into force at the next tick."""
        self._waiting.append(command)

    def note(self, path: str, value: float) -> None:
        """
        Take the latest value of a tag that a rule looks at; it counts from the next tick on.

        NaN: the value cannot be used, and what was known before it is known no more.
        """
        self._next[path] = value

    def silent(self, paths: Iterable[str]) -> None:
        """
        Take the tags that rules look at and that are not heard; it counts from the next tick on.

        Their last values are believed again when they are: a source that kept what it owed tells only what changed.
        """
        self._next_silent = frozenset(paths)

    def tick(self, wall_ns: int) -> list[SuppressionEvent]:
        """Let time pass up to *wall_ns* (UTC): what begins, ends, or was refused."""
        self._wall_ns = wall_ns
        said = [event for command in self._waiting for event in self._take(command, wall_ns)]
        self._waiting = []
        over = [found for found in self._active.values() if found.until_ns is not None and found.until_ns <= wall_ns]
        said += [self._end(found, "", wall_ns, "its time is over") for found in over]
        if self._next_silent != self._silent or any(
            _differ(self._values.get(path, math.nan), value) for path, value in self._next.items()
        ):
            self._values.update(self._next)
            self._silent = self._next_silent
            self.version += 1
        self._next = {}
        windows = tuple(window for window in self._calendar if window.open_at(wall_ns))
        if windows != self._windows or any(event.what != "refused" for event in said):
            self._judge()
        return said

    def cause(self, path: str, equipment: str, kind: str, *, count: bool = False) -> Cause | None:
        """
        Why a finding is suppressed, None where it is not: what a person decided before what a rule says.

        *count*: it has just begun, and counts for the suppression that holds it.
        """
        covering = [found for found in self._active.values() if found.covers(path, equipment, kind)]
        shelves = [found for found in covering if found.mode == "shelf"]
        if count and covering:
            holder = (shelves or covering)[0].suppression_id
            self._held[holder] = self._held.get(holder, 0) + 1
        if shelves:
            return "shelved"
        rules = self._rules.get(equipment, ())
        if any(rule.covers(path, kind) and rule.holds(self._known(rule.when)) for rule in rules):
            return "by_design"
        return "maintenance" if equipment in self.maintained else None

    def _known(self, path: str) -> float | None:
        return None if path in self._silent else self._values.get(path)

    def counts(self) -> dict[str, int]:
        """Findings that suppressions have held so far, by id; those that changed since the last call."""
        changed = {key: count for key, count in self._held.items() if self._told.get(key) != count}
        self._told.update(changed)
        for key in self._held.keys() - self._active.keys():
            del self._held[key]
            self._told.pop(key, None)
        return changed

    def shifts(self, equipment: str) -> tuple[str, ...]:
        """Names of the shifts on this equipment now."""
        return tuple(window.name for window in self._windows if window.kind == "shift" and window.covers(equipment))

    def state(self) -> bytes:
        """Everything that the next output depends on, but the map: msgpack, bounded."""
        return msgspec.msgpack.encode(
            _Saved(
                version=_VERSION,
                active=list(self._active.values()),
                seen=list(self._seen),
                waiting=self._waiting,
                values=self._values,
                next=self._next,
                wall_ns=self._wall_ns,
                held=self._held,
                silent=sorted(self._silent),
                next_silent=sorted(self._next_silent),
            )
        )

    def restore(self, state: bytes) -> None:
        """Go on from a saved state. Raises BadState when it is of another version or damaged."""
        try:
            saved = msgspec.msgpack.decode(state, type=_Saved)
        except (msgspec.MsgspecError, ValueError) as e:
            raise BadState(f"suppression state cannot be read: {e}") from e
        if saved.version != _VERSION:
            raise BadState(f"suppression state version {saved.version}, want {_VERSION}")
        self._active = {found.suppression_id: found for found in saved.active}
        self._seen = dict.fromkeys(saved.seen)
        self._waiting = saved.waiting
        self._values, self._next, self._wall_ns = saved.values, saved.next, saved.wall_ns
        self._held = saved.held
        self._silent, self._next_silent = frozenset(saved.silent), frozenset(saved.next_silent)
        self._judge()

    def adopt(self, active: Iterable[tuple[Suppression, int]]) -> None:
        """Begin with what is in force elsewhere, each with the findings that it held; where no state can be read."""
        for found, held in active:
            self._active[found.suppression_id] = found
            self._seen[found.suppression_id] = None
            if held:
                self._held[found.suppression_id] = self._told[found.suppression_id] = held
        self._judge()

    def _take(self, command: Command, wall_ns: int) -> list[SuppressionEvent]:
        if command.command_id in self._seen:
            return []
        self._seen[command.command_id] = None
        while len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

        def refused(detail: str) -> list[SuppressionEvent]:
            return [SuppressionEvent("refused", command.command_id, command.actor, wall_ns, None, detail)]

        if command.action == "end":
            found = self._active.get(command.target)
            return (
                [self._end(found, command.actor, wall_ns, command.reason)] if found else refused("it is over already")
            )
        if command.until_ns is not None and command.until_ns <= wall_ns:
            return refused("its time was over before it came into the stream")
        if command.until_ns is not None and command.until_ns > LATEST_NS:
            return refused("its end is later than any time that can be stored")
        if len(self._active) >= MOST_ACTIVE:
            return refused(f"{MOST_ACTIVE} suppressions are in force already")
        found = Suppression(
            suppression_id=command.command_id,
            mode="shelf" if command.action == "shelve" else "maintenance",
            target=command.target,
            kind=command.kind,
            actor=command.actor,
            reason=command.reason,
            from_ns=wall_ns,
            until_ns=command.until_ns,
        )
        self._active[found.suppression_id] = found
        return [SuppressionEvent("began", found.suppression_id, command.actor, wall_ns, found)]

    def _end(self, found: Suppression, actor: str, wall_ns: int, detail: str) -> SuppressionEvent:
        del self._active[found.suppression_id]
        return SuppressionEvent("ended", found.suppression_id, actor, wall_ns, found, detail)

    def _judge(self) -> None:
        """Which windows are open, which equipment is off, and which is maintained."""
        self.version += 1
        self._windows = tuple(window for window in self._calendar if window.open_at(self._wall_ns))
        working = [found.target for found in self._active.values() if found.mode == "maintenance"]
        off = [window for window in self._windows if window.kind == "off"]
        planned = [window for window in self._windows if window.kind == "maintenance"]
        self.off = frozenset(path for path in self._equipment if any(window.covers(path) for window in off))
        self.maintained = frozenset(
            path
            for path in self._equipment
            if any(under(path, top) for top in working) or any(window.covers(path) for window in planned)
        )


def _differ(known: float, value: float) -> bool:
    """Whether two values are not the same; unknown is the same as unknown."""
    return known != value and not (math.isnan(known) and math.isnan(value))
