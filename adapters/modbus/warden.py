"""Keeps and checks what is known of a device: state that outlives connections and restarts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, Literal

from adapters.modbus import identity, memory
from adapters.modbus.frames import Doubtful
from adapters.modbus.link import Link
from adapters.modbus.memory import Memory
from adapters.modbus.planner import Item, Learnt
from schemas.errors import NotConnected, OtherDevice

#: A unit of which nothing is remembered and that left the question unanswered so often is read without: some devices
#: say nothing at all to a function code that they do not know.
_UNANSWERED: Final = 2


class Warden:
    """
    The device's file in the state folder.

    With ``check``, a unit is asked who it is before the first values of a connection, and of a unit that was away, are
    handed over; what it says the first time is remembered.

    Counters: ``identity_mismatches``, ``firmware_changes``, ``state_errors`` (the file could not be read or written;
    reading goes on).
    Facts: ``identity``, ``firmware``, ``state``.
    """

    def __init__(
        self,
        folder: Path,
        peer: str,
        mode: Literal["check", "ignore"],
        counters: Counter[str],
        facts: dict[str, str],
    ) -> None:
        self._folder = folder
        self._peer = peer
        self._checks = mode == "check"
        self._counters = counters
        self._facts = facts
        self._memory: Memory | None = None
        self._kept_version = -1
        self._verified: set[int] = set()
        self._connections = -1
        self._unanswered: Counter[int] = Counter()

    async def recall(self, learnt: Learnt, items: Iterable[Item]) -> None:
        """Read the file, once, and teach what it holds."""
        if self._memory is not None:
            return
        try:
            self._memory = await asyncio.to_thread(memory.recall, self._folder, self._peer)
        except (OSError, ValueError) as error:
            if self._checks:
                raise NotConnected(
                    f"{self._folder}: the remembered identity of the device cannot be read ({error}); mend or remove "
                    "device.json, or set identity: ignore"
                ) from error
            self._failed(error)
            self._memory = Memory(self._peer)
        self._memory.teach(learnt, items)
        self._kept_version = learnt.version

    async def keep(self, learnt: Learnt) -> None:
        """Write the file where something was learnt since."""
        if self._memory is None or learnt.version == self._kept_version:
            return
        self._kept_version = learnt.version
        self._memory.note(learnt)
        await self._reload_identity(self._memory)
        await self._write(self._memory)

    async def verify(self, link: Link, answered: Collection[int], absent: Collection[int]) -> None:
        """
        Ask the units that *answered* who they are, where that is not known since the connection or their absence.

        Raises:
            OtherDevice: another device than the remembered one.
            NotConnected: the question was not answered.
        """
        if not self._checks or self._memory is None:
            return
        if self._counters["connections"] != self._connections:
            self._verified.clear()
        self._verified.difference_update(absent)
        for unit in sorted(set(answered) - self._verified):
            await self._verify(link, unit, self._memory)
            self._verified.add(unit)
        self._connections = self._counters["connections"]

    async def _verify(self, link: Link, unit: int, known: Memory) -> None:
        remembered = known.identity.get(str(unit))
        if remembered is None and self._unanswered[unit] >= _UNANSWERED:
            self._tell(unit, "does not answer function code 43; read without identification")
            return
        try:
            now = await identity.read_identity(link, unit)
        except (TimeoutError, Doubtful, ConnectionError) as error:
            self._unanswered[unit] += 1
            link.close()
            raise NotConnected(f"unit {unit} did not say who it is: {error}") from error
        self._unanswered.pop(unit, None)
        if remembered is None:
            if now is not None:
                known.identity[str(unit)] = {str(number): value for number, value in now.items()}
                await self._write(known)
        else:
            before = _numbered(remembered)
            if identity.differs(before, now):
                await self._reload_identity(known)
                before = _numbered(known.identity.get(str(unit), remembered))
            if identity.differs(before, now):
                self._counters["identity_mismatches"] += 1
                link.close()
                raise OtherDevice(
                    f"unit {unit} is {identity.text(now)} and was {identity.text(before)}; nothing is read from "
                    "another device. Where the change is meant, accept it: `fairlead modbus identify SOURCE --accept`"
                )
            await self._note_revision(unit, known, before, now)
        self._tell(unit, identity.text(now))

    async def _note_revision(
        self, unit: int, known: Memory, before: identity.Identity, now: identity.Identity | None
    ) -> None:
        """Another firmware in the known device is counted and told, and is the known one from now on."""
        old, new = before.get(identity.REVISION, ""), (now or {}).get(identity.REVISION, "")
        if not new or old == new:
            return
        if old:
            self._counters["firmware_changes"] += 1
            self._facts["firmware"] = f"unit {unit}: revision was {old} and is {new}"
        known.identity[str(unit)] = {**known.identity.get(str(unit), {}), str(identity.REVISION): new}
        await self._write(known)

    def _tell(self, unit: int, said: str) -> None:
        texts = self._facts.get("identity", "").split("; ") if self._facts.get("identity") else []
        texts = [line for line in texts if not line.startswith(f"unit {unit}: ")]
        self._facts["identity"] = "; ".join(sorted([*texts, f"unit {unit}: {said}"]))

    async def _reload_identity(self, known: Memory) -> None:
        """Take over what a person has accepted since, by the command line."""
        try:
            known.identity = (
                await asyncio.to_thread(memory.recall, self._folder, self._peer)
            ).identity or known.identity
        except (OSError, ValueError) as error:
            self._failed(error)

    async def _write(self, known: Memory) -> None:
        try:
            await asyncio.to_thread(memory.keep, self._folder, known)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._counters["state_errors"] += 1
        self._facts["state"] = f"{self._folder}: {error}"


def _numbered(remembered: dict[str, str]) -> identity.Identity:
    return {int(number): value for number, value in remembered.items()}
