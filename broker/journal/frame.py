"""
What stands in a segment file: a header, then frames.

``<first seq, 20 digits>.seg`` is one header (magic, version, epoch, first seq, boot id, wall and monotonic time of its
beginning, CRC) and frames (sync word, length, CRC, seq, wall time, monotonic time, body). A segment belongs to one
start of acquire, so epoch and boot id stand in the header alone. The CRC of a frame is seeded with the header's: an
old frame that a file system left in a reused block is not taken for one of ours. The sync word lets a reader go on
behind damaged bytes and lose nothing but them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

MAGIC: Final = b"FAIRLEAD"
VERSION: Final = 1
SYNC: Final = b"\xf1\x1dEn"
SUFFIX: Final = ".seg"

_HEADER: Final = struct.Struct("<8sIQQ16sqq")
_CRC: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<4sIIQqq")
_STAMP: Final = struct.Struct("<Qqq")
HEADER_SIZE: Final = _HEADER.size + _CRC.size
FRAME_SIZE: Final = _FRAME.size


class Header(NamedTuple):
    """Beginning of a segment; ``seed`` starts the CRC of its frames."""

    epoch: int
    first: int
    boot_id: bytes
    wall_ns: int
    mono_ns: int
    seed: int


class Frame(NamedTuple):
    """One frame within a buffer: the body is ``data[start:end]``, the next frame begins at ``end``."""

    seq: int
    wall_ns: int
    mono_ns: int
    start: int
    end: int


def file_name(first: int) -> str:
    """Name of the segment that begins with this sequence number."""
    return f"{first:020d}{SUFFIX}"


def first_of(name: str) -> int | None:
    """Sequence number in a segment's file name; None for any other file."""
    stem = name.removesuffix(SUFFIX)
    return int(stem) if stem != name and len(stem) == 20 and stem.isascii() and stem.isdigit() else None


def pack_header(epoch: int, first: int, boot_id: bytes, wall_ns: int, mono_ns: int) -> tuple[bytes, int]:
    """Bytes of a header, and the seed of its frames' CRCs."""
    raw = _HEADER.pack(MAGIC, VERSION, epoch, first, boot_id, wall_ns, mono_ns)
    seed = zlib.crc32(raw)
    return raw + _CRC.pack(seed), seed


def read_header(raw: bytes, first: int) -> Header | str:
    """The header at the start of *raw*, or what is wrong with it; *first* is what the file name says."""
    if len(raw) < HEADER_SIZE:
        return "header is cut short"
    magic, version, epoch, seq, boot_id, wall_ns, mono_ns = _HEADER.unpack_from(raw)
    (crc,) = _CRC.unpack_from(raw, _HEADER.size)
    if magic != MAGIC or crc != zlib.crc32(raw[: _HEADER.size]):
        return "header is damaged"
    if version != VERSION:
        return f"written by version {version}, this one reads {VERSION}"
    if seq != first:
        return f"header begins with entry {seq}, the file name says {first}"
    return Header(epoch, first, boot_id, wall_ns, mono_ns, crc)


def pack_frame(seq: int, wall_ns: int, mono_ns: int, body: bytes, seed: int) -> bytes:
    """Head of a frame; *body* follows it."""
    crc = zlib.crc32(body, zlib.crc32(_STAMP.pack(seq, wall_ns, mono_ns), seed))
    return _FRAME.pack(SYNC, len(body), crc, seq, wall_ns, mono_ns)


def frame_at(data: bytes, at: int, seed: int) -> Frame | int | None:
    """The frame at *at*; None if the bytes there are not one; the size needed if *data* ends within it."""
    if at + FRAME_SIZE > len(data):
        return at + FRAME_SIZE
    sync, length, crc, seq, wall_ns, mono_ns = _FRAME.unpack_from(data, at)
    if sync != SYNC:
        return None
    start = at + FRAME_SIZE
    end = start + length
    if end > len(data):
        return int(end)
    if zlib.crc32(memoryview(data)[start:end], zlib.crc32(_STAMP.pack(seq, wall_ns, mono_ns), seed)) != crc:
        return None
    return Frame(seq, wall_ns, mono_ns, start, end)


def frames(data: bytes, header: Header, at: int = HEADER_SIZE) -> Iterator[Frame]:
    """Every readable frame of a whole segment, in rising order of seq, whatever stands between them."""
    last = header.first - 1
    while at >= 0:
        frame = frame_at(data, at, header.seed)
        if isinstance(frame, Frame) and frame.seq > last:
            yield frame
            last, at = frame.seq, frame.end
        else:
            at = data.find(SYNC, at + 1)
