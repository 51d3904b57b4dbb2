"""
Which blocks to read for which items: few requests, no value cut in two, no address that the device refused.

Pure: what the device answers comes in through :class:`Learnt`, times as numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: A refused address is tried again after so long, doubled at each refusal up to the longest wait: the refusal may have
#: been a passing one, or the device's program may change.
RETRY_REFUSED_S: Final = 10.0
LONGEST_RETRY_S: Final = 300.0


class Item(NamedTuple):
    """One tag's registers or coil; the order of the fields is the order of reading."""

    unit: int
    function: int
    address: int
    width: int
    tag: int

    @property
    def end(self) -> int:
        """Address behind the last one."""
        return self.address + self.width

    @property
    def table(self) -> tuple[int, int]:
        """Unit and function code: what one request can read from."""
        return self.unit, self.function


@dataclass(frozen=True, slots=True)
class Block:
    """One request; every item lies wholly in it."""

    unit: int
    function: int
    address: int
    count: int
    items: tuple[Item, ...]

    @classmethod
    def over(cls, items: tuple[Item, ...]) -> Block:
        """The smallest block over *items* of one table, which are in order."""
        first = items[0]
        return cls(first.unit, first.function, first.address, max(item.end for item in items) - first.address, items)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one request may ask: registers, coils, and how many unwanted registers (16 coils each) to read over.

    ``alone``: every item gets a block of its own. ``coils_from_zero``: blocks of coils begin at address 0 where the
    limit lets them reach so far.
    """

    registers: int = 125
    bits: int = 2000
    max_gap: int = 8
    alone: bool = False
    coils_from_zero: bool = False

    def of(self, function: int) -> tuple[int, int]:
        """Largest count and largest gap for a function code."""
        return (self.bits, 16 * self.max_gap) if function <= 2 else (self.registers, self.max_gap)


@dataclass(slots=True)
class Learnt:
    """
    What the device refused; it outlives connections, and restarts by ``adapters/modbus/memory.py``.

    Attributes:
        refused: items that were refused alone, and the time of the next try.
        waits: how long each waits for its next try, in seconds.
        cuts: table and address of items that must begin a block: read together with what is before them, the
            device refused; read apart, it did not (an illegal hole, or a device that takes fewer at once).
        version: grows with each change, so that plans can be kept.
    """

    refused: dict[Item, float] = field(default_factory=dict)
    waits: dict[Item, float] = field(default_factory=dict)
    cuts: set[tuple[int, int, int]] = field(default_factory=set)
    version: int = 0

    def refuse(self, item: Item, now_s: float) -> None:
        """Leave *item* out of the blocks until it has been tried again with success."""
        self.version += item not in self.refused
        wait_s = self.waits[item] = min(2 * self.waits.get(item, RETRY_REFUSED_S / 2), LONGEST_RETRY_S)
        self.refused[item] = now_s + wait_s

    def cut(self, block: Block) -> None:
        """Never join *block* to what is before it."""
        self.cuts.add((block.unit, block.function, block.address))
        self.version += 1

    def probe(self, among: Collection[Item], now_s: float, *, always: bool) -> Item | None:
        """One refused item of *among* whose next try is due; *always*: the one due first, whenever that is."""
        nearest = min((item for item in self.refused if item in among), key=self.refused.__getitem__, default=None)
        return nearest if nearest is not None and (always or self.refused[nearest] <= now_s) else None

    def accept(self, item: Item) -> None:
        """An item that was refused is answered now: believe the others of its table again."""
        for other in [other for other in self.refused if other.table == item.table]:
            del self.refused[other]
            self.waits.pop(other, None)
        self.version += 1

    def forget(self) -> None:
        """Begin anew, as with another device."""
        self.refused.clear()
        self.waits.clear()
        self.cuts.clear()
        self.version += 1


def plan(items: Iterable[Item], limits: Limits, learnt: Learnt | None = None) -> list[Block]:
    """
    Blocks that read every item not refused, in order of table and address.

    Touching and overlapping items share a block, and so do items with a gap of at most ``max_gap`` between them
    unless a refused register lies in it. An item wider than the limit gets a block of its own all the same.
    """
    learnt = learnt or Learnt()
    holes = {(*item.table, address) for item in learnt.refused for address in range(item.address, item.end)}
    blocks: list[Block] = []
    group: list[Item] = []
    end = 0
    for item in sorted(item for item in items if item not in learnt.refused):
        if group and _joins(group, end, item, limits, learnt.cuts, holes):
            group.append(item)
            end = max(end, item.end)
            continue
        if group:
            blocks.append(_block(tuple(group), limits))
        group, end = [item], item.end
    if group:
        blocks.append(_block(tuple(group), limits))
    return blocks


def _block(items: tuple[Item, ...], limits: Limits) -> Block:
    block = Block.over(items)
    end = block.address + block.count
    if limits.coils_from_zero and block.function <= 2 and end <= limits.bits:
        return Block(block.unit, block.function, 0, end, items)
    return block


def _joins(
    group: list[Item],
    end: int,
    item: Item,
    limits: Limits,
    cuts: set[tuple[int, int, int]],
    holes: set[tuple[int, int, int]],
) -> bool:
    if limits.alone or item.table != group[0].table:
        return False
    most, gap = limits.of(item.function)
    if item.address - end > gap or max(end, item.end) - group[0].address > most:
        return False
    if item.address > group[-1].address and (*item.table, item.address) in cuts:
        return False
    return not any((*item.table, address) in holes for address in range(end, item.address))


def split(block: Block) -> tuple[Block, Block]:
    """
    Two blocks that read the same items, at least two: apart at the hole nearest the middle, else in the middle.

    The halves may overlap where items do; no item is cut.
    """
    items = block.items
    middle = len(items) / 2
    end = items[0].end
    holes = []
    for i, item in enumerate(items):
        if item.address > end:
            holes.append(i)
        end = max(end, item.end)
    at = min(holes, key=lambda i: abs(i - middle)) if holes else len(items) // 2
    return Block.over(items[:at]), Block.over(items[at:])
