"""
Signs of life of acquire and core for their supervisor, over a pipe that they inherit.

They are given from where the work is done: core's writer thread each time it goes round, acquire's ticks each time the
journal has made one durable. A process that hangs, or whose working thread does, gives none, however well its other
threads are. Without the pipe (started alone, or on Windows) nothing is given, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

#: Environment variable with the file number of the pipe's end.
HEARTBEAT: Final = "FAIRLEAD_HEARTBEAT_FD"
EVERY_S: Final = 1.0


class Heart:
    """The child's side; *fd* None: nobody listens."""

    def __init__(self, fd: int | None = None, *, mono_s: Callable[[], float] = time.monotonic) -> None:
        self._fd = fd
        self._mono_s = mono_s
        self._next_s = mono_s()

    @classmethod
    def of_environment(cls) -> Heart:
        """What the supervisor gave this process; its own children do not get it."""
        named = os.environ.pop(HEARTBEAT, "")
        if not named.isdigit():
            return cls()
        fd = int(named)
        try:
            os.set_inheritable(fd, False)
            # a supervisor that is stopped itself must not stop us
            os.set_blocking(fd, False)
        except OSError:
            return cls()
        return cls(fd)

    def beat(self) -> None:
        """Say that the work goes on; once a second at most. Cheap, never blocks, never raises."""
        if self._fd is None:
            return
        now_s = self._mono_s()
        if now_s >= self._next_s:
            self._next_s = now_s + EVERY_S
            with suppress(OSError):
                os.write(self._fd, b".")


class Pulse:
    """
    The supervisor's side for one child: when it was heard last.

    Silent for longer than *hung_s*, or than *starting_s* before its first sign, it hangs. A child that does not run is
    not hung: it is the supervisor's to start again.
    """

    def __init__(self, hung_s: float, starting_s: float) -> None:
        self._hung_s = hung_s
        self._starting_s = starting_s
        self._fd: int | None = None
        self._begun_s = 0.0
        self._heard_s: float | None = None

    def connect(self) -> int | None:
        """A pipe for the next child: the end that it inherits, and the caller closes; None where there is none."""
        if os.name == "nt":
            return None
        self.close()
        self._fd, end = os.pipe()
        os.set_blocking(self._fd, False)
        loop = asyncio.get_running_loop()
        self._begun_s, self._heard_s = loop.time(), None
        loop.add_reader(self._fd, self._read)
        return end

    def close(self) -> None:
        """The child has ended, or never was."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def silent_s(self) -> float:
        """Seconds since it was heard or begun; 0 for a child that does not run."""
        if self._fd is None:
            return 0.0
        return asyncio.get_running_loop().time() - (self._begun_s if self._heard_s is None else self._heard_s)

    def hangs(self) -> bool:
        """Whether it has been silent for too long."""
        return self.overdue_s() > 0

    def overdue_s(self) -> float:
        """Seconds for which it has been silent beyond what is allowed; below 0 while it is not."""
        return self.silent_s() - (self._starting_s if self._heard_s is None else self._hung_s)

    def _read(self) -> None:
        assert self._fd is not None
        loop = asyncio.get_running_loop()
        try:
            said = os.read(self._fd, 4096)
        except OSError:
            return
        if said:
            self._heard_s = loop.time()
        else:
            # its end is closed: the child is ending, which the supervisor sees for itself
            loop.remove_reader(self._fd)
