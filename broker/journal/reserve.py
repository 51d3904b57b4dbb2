"""
Space that is taken while there is some, and given up piece by piece when what must not be lost finds the disk full.

Gaps, links, maps and notices are small. On a disk that is full they would be refused like everything else, and the
ledger of gaps would have a gap. The pieces are small because other programs on a full disk take what becomes free.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from broker.journal.disk import Disk, DiskFile

RESERVE_FILE: Final = "reserve"
#: Given up at a time, or what is needed if that is more.
PIECE: Final = 1 << 20


class Reserve:
    """
    The file ``reserve`` of a journal directory; sizes in bytes.

    ``wanted`` 0: there is none. ``given`` was given up since it was last whole: samples leave that much free.
    """

    def __init__(self, disk: Disk, directory: Path, wanted: int) -> None:
        self._disk = disk
        self._directory = directory
        self._path = directory / RESERVE_FILE
        self._file: DiskFile | None = None
        self.wanted = wanted
        self.held = 0
        self.given = 0

    def open(self) -> None:
        """Take over what an earlier run left, and fill up. Never raises: a full disk has no reserve."""
        before = True
        with suppress(OSError):
            try:
                self._file = self._disk.open(self._path)
            except FileNotFoundError:
                if not self.wanted:
                    return
                self._file = self._disk.create(self._path)
                before = False
            self.held = self._file.size()
            if self.held > self.wanted:
                self._shrink(self.wanted)
        if not self.fill() and before:
            self.given = self.wanted - self.held  # an earlier run gave it up, and the disk is still full

    def fill(self) -> bool:
        """
        Take what is missing, if as much stays free beside it; whether the reserve is whole now.

        Never raises; what cannot be taken is tried again by the next call.
        """
        missing = self.wanted - self.held
        if missing <= 0 or self._file is None:
            return missing <= 0
        before = self.held
        try:
            if self._disk.free(self._directory) < 2 * missing:
                return False
            self._file.allocate(self.wanted)
            self._file.sync()
            self.held, self.given = self.wanted, 0
        except OSError:
            with suppress(OSError):
                self._shrink(before)
        return self.held == self.wanted

    def give(self, needed: int) -> int:
        """Give up *needed* bytes, or a piece if that is more; how much became free, 0 where nothing is left."""
        if self._file is None or not self.held:
            return 0
        size = max(0, self.held - max(needed, PIECE))
        given = self.held - size
        try:
            self._shrink(size)
        except OSError:
            return 0
        self.given += given
        return given

    def _shrink(self, size: int) -> None:
        assert self._file is not None
        self._file.truncate(size)
        self.held = size

    def close(self) -> None:
        """Release the handle; the space stays taken. Never raises."""
        if self._file is not None:
            self._file.close()
        self._file = None
