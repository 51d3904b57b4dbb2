"""The bounded hand-over between what receives (publish loop, read loop, history) and ``read``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from schemas.alarms import Event
from schemas.samples import Reject, SampleBatch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch on its way to ``read``, what was refused and what happened beside it, and what settles all of it."""

    batch: SampleBatch
    settle: Callable[[Exception | None], Awaitable[None]]
    rejects: tuple[Reject, ...] = ()
    events: tuple[Event, ...] = ()


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
        self._told: dict[int, asyncio.Future[None]] = {}  # by id of the item
        self._taken: asyncio.Future[None] | None = None

    async def put(self, item: T) -> None:
        """Give an item; wait while the hand-over is full. Raises what ended it."""
        while self._end is None and len(self._items) >= self._bound:
            self._space.clear()
            await self._space.wait()
        if self._end is not None:
            raise self._end
        self._items.append(item)
        self._changed.set()

    async def told(self, item: T) -> None:
        """Give an item and wait until the taker is done with it. Raises what ended the hand-over."""
        done = asyncio.get_running_loop().create_future()
        self._told[id(item)] = done
        try:
            await self.put(item)
            await done
        finally:
            self._told.pop(id(item), None)

    async def take(self) -> T:
        """Wait for the next item. Raises what :meth:`fail` was given once the items are gone."""
        self._busy = False
        self._idle.set()
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
        self._taken = None
        while not self._items:
            if self._end is not None:
                raise self._end
            self._changed.clear()
            await self._changed.wait()
        self._space.set()
        self._busy = True
        item = self._items.popleft()
        self._taken = self._told.get(id(item))
        return item

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
