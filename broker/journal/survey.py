"""
The journal's files as they stand, for people: read only, harmless while acquire runs.

A survey takes the durable mark once and goes no further. Bytes that were written and never made durable (a segment
that was given up, a tail behind the mark) are none of its findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from broker.journal import codec, frame, mark
from broker.journal.disk import Disk, RealDisk
from broker.journal.mark import Mark
from broker.journal.recovery import DAMAGED
from schemas.entries import Body, Position

#: A wall clock that was set between two segments may put entries this far outside the times of their headers.
CLOCK_SLACK_NS: Final = 2 * 3600 * 1_000_000_000
#: So much of a segment is read for its first entry.
HEAD: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """
    One segment file.

    ``size`` are the bytes that the mark covers; ``header`` is None where ``fault`` says what is wrong with it.
    ``until_ns`` is the wall time at which the next segment begins, None for the last; ``next_first`` its first entry.
    """

    name: str
    first: int
    size: int
    header: frame.Header | None
    fault: str
    next_first: int | None = None
    until_ns: int | None = None

    def may_hold(self, from_ns: int | None, to_ns: int | None) -> bool:
        """Whether entries of this span of wall time can be in it."""
        if self.header is None:
            return False
        begin = self.header.wall_ns
        end = begin if self.until_ns is None else self.until_ns
        low, high = min(begin, end) - CLOCK_SLACK_NS, max(begin, end) + CLOCK_SLACK_NS
        return (to_ns is None or low < to_ns) and (from_ns is None or self.until_ns is None or high >= from_ns)


@dataclass(frozen=True, slots=True)
class Item:
    """One readable frame: ``offset`` and ``size`` of the whole frame within its segment, ``body`` still encoded."""

    segment: str
    offset: int
    size: int
    position: Position
    wall_ns: int
    body: memoryview

    def decode(self) -> Body:
        """The body. Raises ValueError where this version cannot read it."""
        return codec.decode(self.body)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes within what was durable that cannot be read, or a whole file (offset 0)."""

    segment: str
    offset: int
    size: int
    reason: str


class Survey:
    """
    The directory at one moment; ``segments`` oldest first.

    Raises:
        OSError: the directory cannot be read.
    """

    def __init__(self, directory: Path, *, disk: Disk | None = None) -> None:
        self.directory = directory
        self._disk = disk or RealDisk()
        self.mark: Mark | None = self._read_mark()
        self.published = mark.published_position(self._disk, directory)
        self.damaged: dict[str, int] = self._sizes(directory / DAMAGED)
        self.removed = 0  #: segments that retention took away meanwhile
        self.segments = self._list()

    def _read_mark(self) -> Mark | None:
        try:
            file = self._disk.view(self.directory / mark.MARK_FILE)
        except FileNotFoundError:
            return None
        try:
            return mark.unpack(file.read_at(0, mark.SIZE))
        finally:
            file.close()

    def _sizes(self, folder: Path) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in self._disk.names(folder):
            try:
                file = self._disk.view(folder / name)
            except OSError:
                continue
            found[name] = file.size()
            file.close()
        return found

    def _list(self) -> list[SegmentFile]:
        last = None if self.mark is None else self.mark.segment
        firsts = [first for name in self._disk.names(self.directory) if (first := frame.first_of(name)) is not None]
        firsts = [first for first in firsts if last is None or first <= last]
        found: list[SegmentFile] = []
        for place, first in enumerate(firsts):
            segment = self._look(first, firsts[place + 1] if place + 1 < len(firsts) else None)
            if segment is None:
                self.removed += 1
                continue
            if found and segment.header is not None:
                found[-1] = replace(found[-1], until_ns=segment.header.wall_ns)
            found.append(segment)
        return found

    def _look(self, first: int, next_first: int | None) -> SegmentFile | None:
        name = frame.file_name(first)
        try:
            file = self._disk.view(self.directory / name)
        except FileNotFoundError:
            return None
        except OSError as error:
            return SegmentFile(name, first, 0, None, error.strerror or str(error), next_first)
        try:
            header = frame.read_header(file.read_at(0, frame.HEADER_SIZE), first)
            size = file.size()
        except OSError as error:
            header, size = error.strerror or str(error), 0
        finally:
            file.close()
        if self.mark is not None and self.mark.segment == first:
            size = min(size, self.mark.offset)
        if isinstance(header, str):
            return SegmentFile(name, first, size, None, header, next_first)
        return SegmentFile(name, first, size, header, "", next_first)

    def is_retired(self, segment: SegmentFile) -> bool:
        """Whether a segment is gone as retention takes it: no older one is there either."""
        there = [first for name in self._disk.names(self.directory) if (first := frame.first_of(name)) is not None]
        return bool(there) and segment.first < min(there)

    def items(self, segment: SegmentFile) -> Iterator[Item | Damage]:
        """Every readable frame of a segment in order, and between them what cannot be read."""
        if segment.header is None:
            yield Damage(segment.name, 0, segment.size, segment.fault)
            return
        try:
            file = self._disk.view(self.directory / segment.name)
        except FileNotFoundError:
            self.removed += 1
            return
        except OSError as error:
            yield Damage(segment.name, 0, segment.size, error.strerror or str(error))
            return
        try:
            data = file.read_at(0, segment.size)
        except OSError as error:
            yield Damage(segment.name, 0, segment.size, error.strerror or str(error))
            return
        finally:
            file.close()
        yield from self._within(segment, segment.header, data)

    def _within(self, segment: SegmentFile, header: frame.Header, data: bytes) -> Iterator[Item | Damage]:
        view = memoryview(data)
        end, last = frame.HEADER_SIZE, header.first - 1
        for found in frame.frames(data, header):
            if segment.next_first is not None and found.seq >= segment.next_first:
                break  # written, never durable, and written again in the next segment
            begin = found.start - frame.FRAME_SIZE
            if begin > end:
                yield Damage(segment.name, end, begin - end, "the CRC does not fit")
            place = Position(header.epoch, found.seq)
            yield Item(segment.name, begin, found.end - begin, place, found.wall_ns, view[found.start : found.end])
            end, last = found.end, found.seq
        durable = segment.size
        if segment.next_first == last + 1 or (self.mark is None and segment.next_first is None):
            return  # what stands behind was given up, or nobody knows whether it was ever durable
        if durable > end:
            yield Damage(segment.name, end, durable - end, "the CRC does not fit, or the file was cut")

    def walk(self, from_ns: int | None = None, to_ns: int | None = None) -> Iterator[Item | Damage]:
        """
        Items of the span (wall time of the entry, from <= t < to) over all segments.

        Damage of every segment that may hold such entries is yielded too.
        """
        for segment in self.segments:
            if segment.header is not None and not segment.may_hold(from_ns, to_ns):
                continue
            for item in self.items(segment):
                if isinstance(item, Item) and (
                    (from_ns is not None and item.wall_ns < from_ns) or (to_ns is not None and item.wall_ns >= to_ns)
                ):
                    continue
                yield item

    def newest_ns(self) -> int | None:
        """Wall time of the newest durable entry; None for an empty journal."""
        for segment in reversed(self.segments):
            times = [item.wall_ns for item in self.items(segment) if isinstance(item, Item)]
            if times:
                return times[-1]
        return None

    def oldest_ns(self) -> int | None:
        """Wall time of the oldest readable entry; None for an empty journal."""
        for segment in self.segments:
            # a segment's header is written after its first entry was stamped, so the entry itself is asked
            for item in self.items(replace(segment, size=min(segment.size, HEAD))):
                if isinstance(item, Item):
                    return item.wall_ns
        return None
