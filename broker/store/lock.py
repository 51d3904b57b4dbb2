"""The writer's lock on a data directory: one process writes the store at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from schemas.errors import StoreError, StoreLocked


class WriterLock:
    """
    An exclusive lock on a file, held until :meth:`release` or the end of the process.

    The file holds the process id for people; the lock itself is the operating system's, so that a killed process
    leaves nothing behind.
    """

    def __init__(self, path: Path, what: str = "the store") -> None:
        self.path = path
        self._what = what
        self._fd: int | None = None

    def acquire(self) -> None:
        """
        Take the lock without waiting.

        Raises:
            StoreLocked: another process holds it.
            StoreError: the file cannot be opened.
        """
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be opened: {error.strerror}") from error
        try:
            _lock(fd)
        except OSError:
            holder = _holder(fd)
            os.close(fd)
            raise StoreLocked(f"{self._what} is in use by another process{holder}: {self.path}") from None
        self._fd = fd
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0) if sys.platform != "win32" else None
        except OSError:
            # a full disk must not keep the writer out: the number is for people only
            return

    def release(self) -> None:
        """Give the lock back. Never raises."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _holder(fd: int) -> str:
    try:
        text = os.read(fd, 20).decode("ascii", "replace")
    except OSError:
        return ""
    return f" (process {text})" if text.isdigit() else ""


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
