"""What this source remembers over restarts: its session's name, its filters, and when something last came."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec


class Memory(msgspec.Struct):
    """
    The content of ``session.json`` in the source's state folder.

    ``last_ns`` is when the last message came; ``session`` whether the broker holds a session of ours.
    """

    client_id: str
    broker: str = ""
    filters: list[str] = []
    session: bool = False
    last_ns: int = 0


def recall(folder: Path, fixed_id: str | None, broker: str, source: str) -> Memory:
    """
    The memory for this broker and client id; a fresh one where there is none, or it is of another session.

    Without a fixed id a unique one is made: two sites with equal source names must not take over each other.
    """
    try:
        memory = msgspec.json.decode((folder / "session.json").read_bytes(), type=Memory)
    except (OSError, msgspec.DecodeError):
        memory = Memory(f"fairlead-{source}-{secrets.token_hex(4)}")
    wanted = fixed_id or memory.client_id
    return memory if (memory.client_id, memory.broker) == (wanted, broker) else Memory(wanted, broker)


def keep(folder: Path, memory: Memory) -> None:
    """Replace the file at once. Raises OSError."""
    path = folder / "session.json"
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes(msgspec.json.encode(memory))
    os.replace(fresh, path)
