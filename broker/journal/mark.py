"""
The durable mark and core's published position: two small files beside the segments.

**Why a mark.** What stands in a segment file may still be in memory only; a reader that handed it out would let SQL
hold entries that a power loss removes from the journal, and the sequence numbers would be given again to others. So
after each fdatasync the writer notes in ``durable`` how far the segments are safe, and readers go no further. The
mark itself is never synced while running: it is written *after* the data it speaks of, so whatever version of it
reaches the disk names data that is there; after a power loss it may be old, never too new, and the writer's next
start brings it up to date. Two slots in sectors of their own are written in turn, so that a torn write leaves the
other; a third is written at each start only, and synced, for the power loss that tears both. A commit thus costs one
fdatasync, not two. The file is overwritten in place, because a rename for each commit would cost more than the
commit.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from broker.journal.disk import Disk, DiskFile
from schemas.entries import START, Position

MARK_FILE: Final = "durable"
POSITION_FILE: Final = "position.json"
SLOT: Final = 512
SLOTS: Final = 3
SIZE: Final = SLOTS * SLOT
_MARK: Final = struct.Struct("<4sQQQQQ")
_CRC: Final = struct.Struct("<I")
_MAGIC: Final = b"FLDM"


class Mark(NamedTuple):
    """
    Everything in the segments before ``segment``, and in it up to byte ``offset``, is durable.

    ``epoch`` and ``seq`` are the last durable entry's; ``turn`` orders the two slots.
    """

    turn: int
    epoch: int
    seq: int
    segment: int
    offset: int

    @property
    def position(self) -> Position:
        """Place of the last durable entry."""
        return Position(self.epoch, self.seq)


def pack(mark: Mark) -> bytes:
    """Bytes of one slot."""
    raw = _MARK.pack(_MAGIC, *mark)
    return raw + _CRC.pack(zlib.crc32(raw))


def unpack(raw: bytes) -> Mark | None:
    """The newest of the slots that are whole; None if none is. A file of two slots is of an earlier version."""
    found: list[Mark] = []
    for at in range(0, SIZE, SLOT):
        part = raw[at : at + _MARK.size + _CRC.size]
        if len(part) == _MARK.size + _CRC.size and part[:4] == _MAGIC:
            (crc,) = _CRC.unpack_from(part, _MARK.size)
            if crc == zlib.crc32(part[: _MARK.size]):
                found.append(Mark(*_MARK.unpack_from(part)[1:]))
    return max(found, default=None)


def write(file: DiskFile, mark: Mark) -> None:
    """Write into the slot whose turn it is. Raises OSError."""
    file.write_at(mark.turn % 2 * SLOT, pack(mark))


def write_first(file: DiskFile, mark: Mark) -> None:
    """
    Write and sync the mark of a start: into the slot whose turn it is, then into the one that is kept for it.

    One after the other, so that a power loss in between leaves one of them. Raises OSError.
    """
    write(file, mark)
    file.sync()
    file.write_at(2 * SLOT, pack(mark))
    file.sync()


def open_for_writing(disk: Disk, directory: Path) -> tuple[DiskFile, Mark | None]:
    """The mark's file, made if need be, and what it says. Raises OSError."""
    path = directory / MARK_FILE
    try:
        file = disk.open(path)
    except FileNotFoundError:
        file = disk.create(path)
    found = unpack(file.read_at(0, SIZE))
    if file.size() != SIZE:
        file.truncate(min(file.size(), SIZE))
        file.append(bytes(SIZE - file.size()))
        file.sync()
        disk.sync_folder(directory)
    return file, found


class _Stored(msgspec.Struct):
    epoch: int
    seq: int


def publish_position(disk: Disk, directory: Path, position: Position) -> None:
    """
    Say how far core has come, by atomic rename. Raises OSError.

    Not synced: a power loss may bring an older position back or an unreadable file, and both only keep more.
    """
    temporary = directory / (POSITION_FILE + ".new")
    if temporary.name in disk.names(directory):
        disk.unlink(temporary)
    file = disk.create(temporary)
    try:
        file.append(msgspec.json.encode(_Stored(*position)))
    finally:
        file.close()
    disk.replace(temporary, directory / POSITION_FILE)


def published_position(disk: Disk, directory: Path) -> Position:
    """Core's position; the beginning where none is published or it cannot be read."""
    try:
        file = disk.view(directory / POSITION_FILE)
    except OSError:
        return START
    try:
        stored = msgspec.json.decode(file.read_at(0, 4096), type=_Stored)
    except (OSError, ValueError):
        return START
    finally:
        file.close()
    return Position(stored.epoch, stored.seq)
