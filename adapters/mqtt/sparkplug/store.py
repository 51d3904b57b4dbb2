"""The births in the source's state folder: written behind the journal's commit, before the acknowledgement."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

from adapters.mqtt.memory import replace

_FILE: Final = "births.bin"
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
