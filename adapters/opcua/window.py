"""Batches that were handed on and are not settled yet: noted in their order, whatever the order they settle in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from schemas.errors import NotConnected

T = TypeVar("T")
Settle = Callable[[Exception | None], Awaitable[None]]


@dataclass(slots=True)
class _Entry(Generic[T]):
    item: T | None
    note: Callable[[], None]
    settled: bool = False


class Window(Generic[T]):
    """
    At most *bound* items that wait to be settled.

    An item's note is called once it and all before it are settled; after a refusal no note is called any more, and
    *refused* is called once with the error: what follows has to come again, in order.
    """

    def __init__(self, bound: int, refused: Callable[[Exception], None]) -> None:
        self._bound = bound
        self._refused = refused
        self._entries: deque[_Entry[T]] = deque()
        self._error: Exception | None = None
        self._moved = asyncio.Event()

    def __iter__(self) -> Iterator[T]:
        """The unsettled items, in order."""
        return (entry.item for entry in self._entries if entry.item is not None)

    def add(self, item: T, note: Callable[[], None]) -> Settle:
        """Add an item that is about to be handed on. Returns what settles it."""
        entry = _Entry(item, note)
        self._entries.append(entry)

        async def settle(error: Exception | None) -> None:
            if error is not None:
                self._refuse(error)
            elif self._error is None:
                entry.settled = True
                self._note()

        return settle

    def after(self, note: Callable[[], None]) -> None:
        """Call a note once everything added so far is settled."""
        self._entries.append(_Entry(None, note, settled=True))
        self._note()

    async def room(self) -> None:
        """Wait until an item may be added. Raises NotConnected after a refusal."""
        await self._until(self._bound - 1)

    async def drained(self) -> None:
        """Wait until everything is settled. Raises NotConnected after a refusal."""
        await self._until(0)

    async def _until(self, most: int) -> None:
        while self._error is None and len(self._entries) > most:
            self._moved.clear()
            await self._moved.wait()
        if self._error is not None:
            raise NotConnected(f"a batch was not journalled, and so not acknowledged: {self._error}")

    def _note(self) -> None:
        while self._entries and self._entries[0].settled and self._error is None:
            self._entries.popleft().note()
        self._moved.set()

    def _refuse(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
            self._refused(error)
        self._moved.set()
