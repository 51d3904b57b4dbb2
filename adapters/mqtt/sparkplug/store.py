"""
Births and positions in the source's state folder: written behind the journal's commit, before the acknowledgement.

Births change seldom and are long: their file is replaced and outlives a power cut. Positions change with every message
and are short: they are written in place, which outlives the end of the process and spares flash. A power cut may
leave an old position or a torn one; both lead to births that are not trusted.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

from adapters.mqtt.memory import replace

_FILE: Final = "births.bin"
_POSITIONS: Final = "positions.bin"
#: CRC of what follows, CRC of the births that the positions belong to, length of the positions.
_HEAD: Final = struct.Struct("<III")
_CRC_BYTES: Final = 4


def recall(folder: Path) -> tuple[bytes | None, bool]:
    """Saved births, None where there are none; and whether the file was damaged. Raises OSError."""
    try:
        raw = (folder / _FILE).read_bytes()
    except FileNotFoundError:
        return None, False
    body = raw[_CRC_BYTES:]
    sound = zlib.crc32(body).to_bytes(_CRC_BYTES, "little") == raw[:_CRC_BYTES]
    return (body, False) if sound else (None, True)


def keep(folder: Path, saved: bytes) -> None:
    """Replace the file; it outlives a power cut. Raises OSError."""
    replace(folder / _FILE, zlib.crc32(saved).to_bytes(_CRC_BYTES, "little") + saved, durable=True)


def mark(births: bytes) -> int:
    """What ties positions to their births."""
    return zlib.crc32(births)


def recall_positions(folder: Path, of_births: int) -> bytes | None:
    """Saved positions, None where there are none, or none with this :func:`mark`. Raises OSError."""
    try:
        raw = (folder / _POSITIONS).read_bytes()
    except FileNotFoundError:
        return None
    if len(raw) < _HEAD.size:
        return None
    crc, of, length = _HEAD.unpack_from(raw)
    body = raw[_HEAD.size : _HEAD.size + length]
    return body if crc == zlib.crc32(raw[4 : _HEAD.size] + body) and of == of_births else None


def keep_positions(folder: Path, of_births: int, positions: bytes) -> None:
    """Overwrite the positions; they belong to the births with this :func:`mark`. Raises OSError."""
    path = folder / _POSITIONS
    raw = _HEAD.pack(0, of_births, len(positions)) + positions
    raw = zlib.crc32(raw[4:]).to_bytes(4, "little") + raw[4:]
    with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
        file.write(raw)
