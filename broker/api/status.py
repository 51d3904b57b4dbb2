"""What acquire says of itself in ``acquire.json``, as core reads it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

#: acquire replaces the file each second; an older one is of a process that hangs or has ended.
STALE_S: Final = 10.0


class SourceStatus(msgspec.Struct, frozen=True):
    """One source; ``state`` is pending, active, failing, ended or disabled, times are RFC 3339 text."""

    state: str
    since: str
    error: str
    last_batch: str | None
    samples: int
    rejects: int
    reconnects: int
    counters: dict[str, int]
    facts: dict[str, str]
    events: int = 0


class JournalStatus(msgspec.Struct, frozen=True):
    """
    The journal; sizes in bytes. ``refusing`` says why samples are not accepted, ``capacity_h`` for how long they are.

    ``steps`` of a filling disk that are in force: derived, expire, stop_ack, reserve.
    """

    bytes: int
    budget_bytes: int
    refusing: str
    bytes_per_s: float
    capacity_h: float | None
    unread_bytes: int = 0
    reserve_bytes: int = 0
    steps: tuple[str, ...] = ()
    epoch: int = 0
    seq: int = 0


class AcquireStatus(msgspec.Struct, frozen=True):
    """The process."""

    at: str
    journal: JournalStatus
    sources: dict[str, SourceStatus]


def read_status(data_dir: Path, now_ns: int) -> AcquireStatus | None:
    """What acquire last wrote; None when it does not run, hangs, or wrote what cannot be understood."""
    try:
        found = msgspec.json.decode((data_dir / "acquire.json").read_bytes(), type=AcquireStatus)
        written_s = datetime.fromisoformat(f"{found.at[:19]}+00:00").timestamp()
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    return found if now_ns / 1e9 - written_s < STALE_S else None
