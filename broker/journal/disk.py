"""
The few things the journal asks of a disk, so that a test can put one under it that loses power at any write.

Every method may raise OSError; ``errno`` ENOSPC and EDQUOT mean full, everything else means broken.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from schemas.errors import JournalError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskFile(Protocol):
    """One open file."""

    def append(self, data: bytes) -> None:
        """Write all of *data* behind the end."""
        ...

    def write_at(self, offset: int, data: bytes) -> None:
        """Overwrite in place."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to *size* bytes from *offset*; fewer at the end of the file."""
        ...

    def size(self) -> int:
        """Length in bytes."""
        ...

    def truncate(self, size: int) -> None:
        """Cut to *size* bytes."""
        ...

    def allocate(self, size: int) -> None:
        """Let the file be *size* bytes long, with blocks that are really taken from the disk; ENOSPC if not all are."""
        ...

    def sync(self) -> None:
        """Return when every byte written so far survives a power loss."""
        ...

    def close(self) -> None:
        """Release the handle. Never raises."""
        ...


class Disk(Protocol):
    """A file system with folders, handles and a lock."""

    def make_folder(self, path: Path) -> None:
        """Create a folder and its parents."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, sorted; none when it does not exist."""
        ...

    def create(self, path: Path) -> DiskFile:
        """A new file, which must not exist."""
        ...

    def open(self, path: Path) -> DiskFile:
        """An existing file, to read and write."""
        ...

    def view(self, path: Path) -> DiskFile:
        """An existing file, to read only."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Rename atomically, over *target* if it exists."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Return when names created, renamed and removed so far survive a power loss."""
        ...

    def free(self, folder: Path) -> int:
        """Bytes this user may still write."""
        ...

    def lock(self, path: Path) -> DiskFile:
        """Hold a lock until the returned file is closed. Raises JournalError when another process holds it."""
        ...


class RealFile:
    """A file of the operating system."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle

    def append(self, data: bytes) -> None:
        """Write all of *data* behind the end."""
        self._handle.seek(0, os.SEEK_END)
        self._write(data)

    def write_at(self, offset: int, data: bytes) -> None:
        """Overwrite in place."""
        self._handle.seek(offset)
        self._write(data)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._handle.write(rest) :]

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to *size* bytes from *offset*."""
        self._handle.seek(offset)
        parts = []
        while size > 0 and (part := self._handle.read(size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self) -> int:
        """Length in bytes."""
        return os.fstat(self._handle.fileno()).st_size

    def truncate(self, size: int) -> None:
        """Cut to *size* bytes."""
        self._handle.truncate(size)

    def allocate(self, size: int) -> None:
        """By the file system where it can, else by writing zeros."""
        here = self.size()
        if size <= here:
            return
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._handle.fileno(), here, size - here)
            return
        while here < size:
            part = min(size - here, 1 << 20)
            self.append(bytes(part))
            here += part

    def sync(self) -> None:
        """Fdatasync where there is one: the length is data, the times are not."""
        getattr(os, "fdatasync", os.fsync)(self._handle.fileno())

    def close(self) -> None:
        """Release the handle."""
        with suppress(OSError):
            self._handle.close()


class RealDisk:
    """The disk of the operating system."""

    def make_folder(self, path: Path) -> None:
        """Create a folder and its parents."""
        path.mkdir(parents=True, exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        """Names in a folder, sorted."""
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def create(self, path: Path) -> DiskFile:
        """A new file, which must not exist."""
        return RealFile(open(path, "x+b", buffering=0))

    def open(self, path: Path) -> DiskFile:
        """An existing file, to read and write."""
        return RealFile(open(path, "r+b", buffering=0))

    def view(self, path: Path) -> DiskFile:
        """An existing file, to read only."""
        return RealFile(open(path, "rb", buffering=0))

    def replace(self, source: Path, target: Path) -> None:
        """Rename atomically."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)

    def sync_folder(self, path: Path) -> None:
        """See :func:`sync_folder`."""
        sync_folder(path)

    def free(self, folder: Path) -> int:
        """Bytes this user may still write."""
        return shutil.disk_usage(folder).free

    def lock(self, path: Path) -> DiskFile:
        """Take the lock of the operating system, which ends with the process."""
        handle = open(path, "a+b", buffering=0)  # noqa: SIM115 - the handle is the lock
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise JournalError(f"another acquire process writes {path.parent}") from error
        return RealFile(handle)


def sync_folder(path: Path) -> None:
    """Fsync the folder, its names; Windows keeps no handle on folders and writes names through. Raises OSError."""
    if os.name == "nt":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def boot_id() -> bytes:
    """16 bytes of this boot of the operating system; random for this process where the system gives none."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return os.urandom(16)
