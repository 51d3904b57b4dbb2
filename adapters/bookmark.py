"""How far a file has been played, kept over restarts, so that no row comes twice with another time."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from adapters.recording import Place

_NAME: Final = "played.json"


class Bookmark(msgspec.Struct, frozen=True):
    """
    A place in a file.

    ``place`` is behind the last settled line; ``shift_ns`` was added to every time, None until the first line with a
    time. ``size`` and ``changed_ns`` are those of the file when it was opened.
    """

    file: str
    size: int
    changed_ns: int
    place: Place = Place()
    shift_ns: int | None = None

    def in_(self, path: Path, file: BinaryIO) -> Bookmark:
        """
        This bookmark where the open file is the one it was made in, else one at the start of the file.

        The same file is unchanged, or has only grown; a file that was written or touched anew begins anew. Raises
        OSError.
        """
        now = os.fstat(file.fileno())
        size, changed_ns = now.st_size, now.st_mtime_ns
        unchanged = (size, changed_ns) == (self.size, self.changed_ns)
        if self.file == str(path) and (unchanged or size > self.size):
            file.seek(self.place.begin)
            same = zlib.crc32(file.read(self.place.end - self.place.begin)) == self.place.crc
            file.seek(0)
            if same:
                return msgspec.structs.replace(self, size=size, changed_ns=changed_ns)
        return Bookmark(str(path), size, changed_ns)


def recall(folder: Path) -> Bookmark:
    """
    The bookmark of a state folder; one that fits no file where there is none.

    Raises:
        OSError: the folder cannot be read.
        ValueError: the bookmark is damaged.
    """
    try:
        return msgspec.json.decode((folder / _NAME).read_bytes(), type=Bookmark)
    except FileNotFoundError:
        return Bookmark("", 0, 0)


def keep(folder: Path, mark: Bookmark) -> None:
    """Replace the bookmark; it outlives a power cut. Raises OSError."""
    path = folder / _NAME
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as stream:
        stream.write(msgspec.json.encode(mark))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)
    if os.name == "posix":
        parent = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
