"""The bounded hand-over between the publish loop and ``read``."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """
    At most *bound* items between one giver and one taker, then a failure that ends it.

    Cancelling :meth:`take` loses nothing: an item leaves the hand-over only together with the call's return. A taker
    that comes again is done with what it took before.
    """

    def __init__(self, bound: int = 1) -> None:
        self._bound = bound
        self._items: deque[T] = deque()
        self._end: BaseException | None = None
        self._changed = asyncio.Event()
        self._space = asyncio.Event()
        self._busy = False
        self._idle = asyncio.Event()

    async def put(self, item: T) -> None:
        """Give an item; wait while the hand-over is full. Raises what ended it."""
        while self._end is None and len(self._items) >= self._bound:
            self._space.clear()
            await self._space.wait()
        if self._end is not None:
            raise self._end
        self._items.append(item)
        self._changed.set()

    async def take(self) -> T:
        """Wait for the next item. Raises what :meth:`fail` was given once the items are gone."""
        self._busy = False
        self._idle.set()
        while not self._items:
            if self._end is not None:
                raise self._end
            self._changed.clear()
            await self._changed.wait()
        self._space.set()
        self._busy = True
        return self._items.popleft()

    async def finished(self) -> None:
        """Wait until the taker is done with everything that was put."""
        while self._items or self._busy:
            self._idle.clear()
            await self._idle.wait()

    def fail(self, error: BaseException, *, at_once: bool = False) -> None:
        """End the hand-over, *at_once* also before what was not taken yet; the first error counts."""
        if at_once:
            self._items.clear()
        if self._end is None:
            self._end = error
        self._changed.set()
        self._space.set()
