"""What is kept of a device over restarts: refused addresses, places to cut, and who it said it was."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from adapters.modbus.planner import Item, Learnt

_NAME: Final = "device.json"


class Memory(msgspec.Struct):
    """
    One device or gateway.

    Attributes:
        peer: ``host:port``; another peer begins with nothing.
        refused: unit, function code, zero-based address and width of each item that was refused.
        cuts: unit, function code and address at which a block must begin.
        identity: device identification by unit, by object number.
    """

    peer: str
    refused: list[tuple[int, int, int, int]] = []
    cuts: list[tuple[int, int, int]] = []
    identity: dict[str, dict[str, str]] = {}

    def note(self, learnt: Learnt) -> None:
        """Take over what was learnt."""
        self.refused = sorted({(i.unit, i.function, i.address, i.width) for i in learnt.refused})
        self.cuts = sorted(learnt.cuts)

    def teach(self, learnt: Learnt, items: Iterable[Item]) -> None:
        """Give it back for the items of the map in force; each refused address is due for a try at once."""
        known = set(self.refused)
        for item in items:
            if (item.unit, item.function, item.address, item.width) in known:
                learnt.refused[item] = 0.0
        learnt.cuts.update(self.cuts)
        learnt.version += 1


def recall(folder: Path, peer: str) -> Memory:
    """
    The memory of *peer*; an empty one where there is none or it is another peer's.

    Raises:
        OSError: the folder cannot be read.
        ValueError: the file is damaged.
    """
    try:
        memory = msgspec.json.decode((folder / _NAME).read_bytes(), type=Memory)
    except FileNotFoundError:
        return Memory(peer)
    return memory if memory.peer == peer else Memory(peer)


def keep(folder: Path, memory: Memory) -> None:
    """
    Write it in place of the one before; a crash leaves either of them.

    Raises:
        OSError: it cannot be written.
    """
    fresh = folder / f"{_NAME}.new"
    fresh.write_bytes(msgspec.json.encode(memory))
    os.replace(fresh, folder / _NAME)
