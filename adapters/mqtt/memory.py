"""What this source remembers over restarts: its session's name, its filters, and up to when all was settled."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

_SESSION: Final = "session.json"
_NAME: Final = "client_id"
_ID: Final = re.compile(r"^[^\x00-\x1f\x7f]{1,128}$")
_ID_IN_JSON: Final = re.compile(rb'"client_id":"([^"\\]{1,128})"')


class Memory(msgspec.Struct):
    """
    The content of ``session.json`` in the source's state folder.

    ``last_ns`` is the time up to which everything was settled; ``session`` whether the broker holds a session of ours.
    ``best_effort``: publishers use QoS 0, of which the broker keeps nothing while we are away.
    """

    client_id: str
    broker: str = ""
    filters: list[str] = []
    session: bool = False
    last_ns: int = 0
    best_effort: bool = False

    def matter(self) -> tuple[object, ...]:
        """What must not be lost with the power; ``last_ns`` alone may be older than it was."""
        return self.client_id, self.broker, self.session, self.best_effort, tuple(self.filters)


class Recalled(NamedTuple):
    """A memory, and whether the file it should have come from is damaged."""

    memory: Memory
    damaged: bool


def recall(folder: Path, fixed_id: str | None, broker: str, source: str) -> Recalled:
    """
    The memory for this broker and client id; a fresh one where there is none, or it is of another session.

    Without a fixed id one is made (two sites with equal source names must not take over each other) and kept in a
    file of its own that is written once. A damaged ``session.json`` is taken for one of a session that the broker
    holds since the file was written, for then it tells whether something is lost.

    Raises:
        OSError: the state folder cannot be read or written.
    """
    path = folder / _SESSION
    memory, damaged, raw = None, False, b""
    try:
        raw = path.read_bytes()
        memory = msgspec.json.decode(raw, type=Memory)
    except FileNotFoundError:
        pass
    except ValueError:  # msgspec.DecodeError, and texts that are not UTF-8
        damaged = True
    wanted = fixed_id or _own_id(folder, memory, raw, source)
    if damaged:
        return Recalled(Memory(wanted, broker, [], True, path.stat().st_mtime_ns), True)
    if memory is None or (memory.client_id, memory.broker) != (wanted, broker):
        return Recalled(Memory(wanted, broker), False)
    return Recalled(memory, False)


def keep(folder: Path, memory: Memory, *, durable: bool) -> None:
    """Replace ``session.json`` at once; durable: it outlives a power cut from here on. Raises OSError."""
    replace(folder / _SESSION, msgspec.json.encode(memory), durable=durable)


def _own_id(folder: Path, memory: Memory | None, raw: bytes, source: str) -> str:
    path = folder / _NAME
    try:
        known = path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        known = ""
    prefix = f"fairlead-{source}-"
    if known.startswith(prefix) and _ID.match(known):
        return known
    found = _ID_IN_JSON.search(raw)
    salvaged = memory.client_id if memory is not None else found.group(1).decode(errors="replace") if found else ""
    made = salvaged if salvaged.startswith(prefix) and _ID.match(salvaged) else prefix + secrets.token_hex(4)
    replace(path, made.encode(), durable=True)
    return made


def replace(path: Path, content: bytes, *, durable: bool) -> None:
    """Replace a file at once; durable: it outlives a power cut. Raises OSError."""
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(fresh, path)
    if durable and os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
