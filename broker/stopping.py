"""How a process of the broker is asked to stop: a signal, or the end of its standard input."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import suppress
from typing import Final

#: Environment variable that the supervisor sets to ``1`` for its children.
SUPERVISED: Final = "FAIRLEAD_SUPERVISED"


def stop_on_signal(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set *stop* at SIGINT and SIGTERM; call it from the main thread, in *loop*."""
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


def stop_at_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """In a child of the supervisor: set *stop* when the supervisor closes our standard input, or dies."""
    if os.environ.get(SUPERVISED) != "1":
        return

    def wait() -> None:
        # The file number, not sys.stdin: a lock held by this thread would abort the interpreter's end.
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, name="supervisor's end", daemon=True).start()
