"""How much memory a model may take, asked before it is loaded: a machine that swaps loses more than a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: Beside the file: repacked weights, cache, work buffers.
_SHARE: Final = 1.2
_BASE: Final = 64 << 20


def needed(model_bytes: int) -> int:
    """Bytes that a model of this size takes on the CPU, about."""
    return int(_SHARE * model_bytes) + _BASE


def available(root: Path = Path("/")) -> int | None:
    """
    Bytes that may still be taken: of the machine, and of every control group above this process; None if not known.

    *root* is where ``proc`` and ``sys`` are.
    """
    found = [size for size in (_machine(root), *_groups(root)) if size is not None]
    return min(found, default=None)


def _machine(root: Path) -> int | None:
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        return None
    return None


def _groups(root: Path) -> Iterator[int | None]:
    """Room in each control group (version 2) from that of this process up."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        number, _, path = line.partition("::")
        if number != "0":
            continue
        top = root / "sys/fs/cgroup"
        place = top / path.strip("/")
        while place.is_relative_to(top):
            yield _group(place)
            place = place.parent


def _group(place: Path) -> int | None:
    try:
        limit = int((place / "memory.max").read_text(encoding="ascii"))
        used = int((place / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (place / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # also the word "max"
        return None
    # file pages that nobody uses just now are given back when memory is asked for
    return max(0, limit - used + int(stat.get("inactive_file", "0")))
