"""Time in the journal: one tick a second on the monotonic clock, and the jumps of the wall clock beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from broker import events
from broker.journal import JournalWriter
from schemas.entries import Notice, Tick
from schemas.errors import JournalError

TICK_S: Final = 1.0
#: C7 of the delivery contract: a wall clock that moves by more is an event.
JUMP_S: Final = 1.0


async def tick(
    journal: JournalWriter,
    *,
    each_second: Callable[[], None],
    beat: Callable[[], None] = lambda: None,
    now_ns: Callable[[], int],
    mono_ns: Callable[[], int],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """
    Journal a tick each second until cancelled; seconds that were missed become one tick.

    *beat* is called when the journal has answered for a tick: this loop and the journal's thread both live.

    Raises:
        JournalError: the journal's thread has ended, so nothing will ever be durable again.
    """
    start = mono_ns()
    offset = now_ns() - start
    done = 0
    while True:
        future = await journal.append_async(Tick())
        each_second()
        try:
            await asyncio.wrap_future(future)
        except JournalError:
            if not journal.running:
                raise
        beat()
        moved = now_ns() - mono_ns() - offset
        if abs(moved) > JUMP_S * 1e9:
            events.clock_jumped(moved / 1e9)
            await journal.append_async(Notice("clock_jumped", f"this host's clock moved by {moved / 1e9:+.3f} s"))
            offset += moved
        done = max(done + 1, int((mono_ns() - start) / (TICK_S * 1e9)) + 1)
        await sleep(max(0.0, done * TICK_S - (mono_ns() - start) / 1e9))
