"""
A disk in memory that can lose power at any operation, be full, and fail an fdatasync the way Linux does.

What is written is in the cache only; ``sync`` makes a file's bytes durable and ``sync_folder`` its names. Power loss
keeps of every unsynced write nothing, all, or a torn part, in any combination, and of the unsynced names a prefix.
After a failed sync the lost bytes still read from the cache, and no later sync brings them to the disk.
"""

from __future__ import annotations

import errno
import random
from pathlib import Path

from broker.journal.disk import DiskFile

SECTOR = 512


class PowerLoss(BaseException):
    """The machine stops here; not an OSError, so nothing in the journal can handle it."""


class Node:
    def __init__(self, durable: bytes = b"") -> None:
        self.cache = bytearray(durable)
        self.durable = bytearray(durable)
        self.pending: list[tuple[int, bytes | None]] = []  # (offset, data), or (size, None) for a cut


class SimulatedFile:
    def __init__(self, disk: SimulatedDisk, node: Node) -> None:
        self._disk = disk
        self._node = node

    def append(self, data: bytes) -> None:
        room = self._disk.take(len(data))
        self._write(len(self._node.cache), data[:room])
        if room < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def write_at(self, offset: int, data: bytes) -> None:
        self._write(offset, data)

    def _write(self, offset: int, data: bytes) -> None:
        self._node.cache[offset : offset + len(data)] = data
        self._node.pending.append((offset, bytes(data)))
        self._disk.step()

    def read_at(self, offset: int, size: int) -> bytes:
        return bytes(self._node.cache[offset : offset + size])

    def size(self) -> int:
        return len(self._node.cache)

    def truncate(self, size: int) -> None:
        self._disk.give(len(self._node.cache) - size)
        del self._node.cache[size:]
        self._node.pending.append((size, None))
        self._disk.step()

    def allocate(self, size: int) -> None:
        more = size - len(self._node.cache)
        room = self._disk.take(more)
        self._write(len(self._node.cache), bytes(room))
        if room < more:
            raise OSError(errno.ENOSPC, "No space left on device")

    def sync(self) -> None:
        self._disk.step()
        self._disk.syncs += 1
        if self._disk.syncs in self._disk.fail_syncs:
            self._node.pending.clear()
            raise OSError(errno.EIO, "Input/output error")
        if not self._disk.ignore_sync:
            apply(self._node.durable, self._node.pending)
            self._node.pending.clear()
        self._disk.step()

    def close(self) -> None:
        pass


def apply(target: bytearray, writes: list[tuple[int, bytes | None]]) -> None:
    for offset, data in writes:
        if data is None:
            del target[offset:]
            continue
        if len(target) < offset:
            target.extend(bytes(offset - len(target)))
        target[offset : offset + len(data)] = data


class SimulatedDisk:
    def __init__(self, *, capacity: int = 1 << 40, ignore_sync: bool = False) -> None:
        self.nodes: dict[Path, Node] = {}
        self.durable_names: dict[Path, Node] = {}
        self.name_changes: list[tuple[Path, Node | None]] = []
        self.capacity = capacity
        self.used = 0
        self.ignore_sync = ignore_sync
        self.fail_syncs: set[int] = set()
        self.syncs = 0
        self.steps = 0
        self.stop_at: int | None = None

    def step(self) -> None:
        self.steps += 1
        if self.stop_at is not None and self.steps >= self.stop_at:
            raise PowerLoss

    def take(self, size: int) -> int:
        room = max(0, min(size, self.capacity - self.used))
        self.used += room
        return room

    def give(self, size: int) -> None:
        self.used -= max(size, 0)

    def after_power_loss(self, rng: random.Random) -> SimulatedDisk:
        """The disk as the machine finds it when it comes up again."""
        names = dict(self.durable_names)
        for path, node in self.name_changes[: rng.randint(0, len(self.name_changes))]:
            if node is None:
                names.pop(path, None)
            else:
                names[path] = node
        survivor = SimulatedDisk(capacity=self.capacity)
        for path, node in names.items():
            content = bytearray(node.durable)
            kept: list[tuple[int, bytes | None]] = []
            for offset, data in node.pending:
                fate = rng.choice(["lost", "whole", "torn"])
                if fate == "lost":
                    continue
                if fate == "torn" and data:
                    data = data[: rng.choice([rng.randrange(len(data)), len(data) // SECTOR * SECTOR])]
                kept.append((offset, data))
            apply(content, kept)
            survivor.nodes[path] = Node(bytes(content))
            survivor.used += len(content)
        survivor.durable_names = dict(survivor.nodes)
        return survivor

    def make_folder(self, path: Path) -> None:
        pass

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self.nodes if path.parent == folder)

    def create(self, path: Path) -> DiskFile:
        if path in self.nodes:
            raise FileExistsError(errno.EEXIST, "exists", str(path))
        node = self.nodes[path] = Node()
        self.name_changes.append((path, node))
        self.step()
        return SimulatedFile(self, node)

    def open(self, path: Path) -> DiskFile:
        if path not in self.nodes:
            raise FileNotFoundError(errno.ENOENT, "missing", str(path))
        return SimulatedFile(self, self.nodes[path])

    def view(self, path: Path) -> DiskFile:
        return self.open(path)

    def replace(self, source: Path, target: Path) -> None:
        if target in self.nodes:
            self.give(len(self.nodes[target].cache))
        self.nodes[target] = self.nodes.pop(source)
        self.name_changes += [(target, self.nodes[target]), (source, None)]
        self.step()

    def unlink(self, path: Path) -> None:
        if path not in self.nodes:
            raise FileNotFoundError(errno.ENOENT, "missing", str(path))
        self.give(len(self.nodes.pop(path).cache))
        self.name_changes.append((path, None))
        self.step()

    def sync_folder(self, path: Path) -> None:
        self.step()
        if not self.ignore_sync:
            for changed, node in self.name_changes:
                if changed.parent == path:
                    if node is None:
                        self.durable_names.pop(changed, None)
                    else:
                        self.durable_names[changed] = node
            self.name_changes = [change for change in self.name_changes if change[0].parent != path]
        self.step()

    def free(self, folder: Path) -> int:
        return max(0, self.capacity - self.used)

    def lock(self, path: Path) -> DiskFile:
        return SimulatedFile(self, Node())
