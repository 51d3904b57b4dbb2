"""
What a start makes of a journal directory: where the sequence goes on, what was torn, what is damaged.

A start never refuses because of a bad file. Bytes behind the durable mark that do not read are a torn tail: nobody was
told they were safe, so they are cut. Bytes before it that do not read are damage: the file goes to ``damaged/`` for
people to look at, what is readable in it stays, and the reader finds the hole in the sequence and makes it a gap.
Where the end of the sequence cannot be known, a new epoch begins, so that no position is ever given twice.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from broker.journal import codec, frame, mark
from broker.journal.disk import Disk
from broker.journal.mark import Mark
from schemas.entries import Link, MapInForce, Position
from schemas.samples import Gap

DAMAGED: Final = "damaged"
_GapKey = tuple[str, tuple[int, ...], str, int]


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment file as retention sees it."""

    first: int
    epoch: int
    boot_id: bytes
    wall_ns: int
    mono_ns: int
    size: int


@dataclass(slots=True)
class Heading:
    """What every new segment repeats at its head: the map in force, open gaps, and which sources have ended."""

    map: MapInForce | None = None
    gaps: dict[_GapKey, Gap] = field(default_factory=dict)
    ended: dict[str, Link] = field(default_factory=dict)

    def note(self, body: object) -> None:
        """Follow one body of the stream."""
        if isinstance(body, MapInForce):
            self.map = body
        elif isinstance(body, Gap):
            key = (body.source, body.tags, body.cause.value, body.from_ns)
            if body.to_ns is None:
                self.gaps[key] = body
            else:
                self.gaps.pop(key, None)
        elif isinstance(body, Link):
            self.ended.pop(body.source, None)
            if body.ended:
                self.ended[body.source] = body

    def bodies(self) -> list[MapInForce | Gap | Link]:
        """In the order in which they are written."""
        return [*([self.map] if self.map is not None else []), *self.gaps.values(), *self.ended.values()]


@dataclass(frozen=True, slots=True)
class Opened:
    """
    What was found when the journal was opened.

    Attributes:
        epoch: the epoch entries are written in from now on.
        next_seq: sequence number of the next entry.
        last_wall_ns: wall time of the last readable entry; None where there is none, so there was no previous run.
        open_gaps: gaps opened before and not closed.
        cut_bytes: length of the torn tail.
        damage: one text for each damaged file.
        unverified_end: why a new epoch had to begin; empty where the sequence goes on.
        map: the map that was in force; None where none can be read.
        sources: sources that the last readable segment names.
        ended: sources whose last link says that their input is over.
    """

    epoch: int
    next_seq: int
    last_wall_ns: int | None
    open_gaps: tuple[Gap, ...]
    cut_bytes: int
    damage: tuple[str, ...]
    unverified_end: str
    map: MapInForce | None = None
    sources: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()


class Recovery:
    """Reads a directory once, at start, and repairs what it can. Only directory-wide failures raise OSError."""

    def __init__(self, disk: Disk, directory: Path, found: Mark | None, now_ns: int) -> None:
        self._disk = disk
        self._directory = directory
        self._mark = found
        self._now_ns = now_ns
        self.segments: list[Segment] = []
        self.heading = Heading()
        self.damage: list[str] = []
        self.cut_bytes = 0
        self._sources: set[str] = set()
        self._highest_name = 0
        self._last_seq = 0
        self._last_wall_ns: int | None = None

    def run(self) -> Opened:
        """Look at every header and at the whole last segment; decide epoch and next sequence number."""
        self._read_headers()
        while self.segments and not self._read_last():
            self.segments.pop()
        return self._decide()

    def mark(self, opened: Opened) -> Mark:
        """The durable mark that belongs to the repaired directory."""
        turn = 0 if self._mark is None else self._mark.turn + 1
        last = self.segments[-1] if self.segments else None
        return Mark(turn, opened.epoch, opened.next_seq - 1, last.first if last else 0, last.size if last else 0)

    def _read_headers(self) -> None:
        firsts = [seq for name in self._disk.names(self._directory) if (seq := frame.first_of(name)) is not None]
        self._highest_name = max(firsts, default=0)
        epoch = 0
        for first in firsts:
            path = self._directory / frame.file_name(first)
            try:
                file = self._disk.view(path)
                try:
                    header = frame.read_header(file.read_at(0, frame.HEADER_SIZE), first)
                    size = file.size()
                finally:
                    file.close()
            except OSError as error:
                header, size = f"cannot be read: {error.strerror}", 0
            if isinstance(header, frame.Header) and header.epoch < epoch:
                header = f"belongs to epoch {header.epoch}, the one before it to {epoch}"
            if isinstance(header, frame.Header):
                epoch = header.epoch
                self.segments.append(Segment(first, header.epoch, header.boot_id, header.wall_ns, header.mono_ns, size))
            elif first == firsts[-1] and not self._vouched(first):
                self._drop(path)  # a power loss while the file was made
            else:
                self._move_aside(path, header)

    def _vouched(self, first: int) -> bool:
        """Whether the mark says that entries of this segment were durable."""
        return self._mark is not None and self._mark.segment >= first

    def _read_last(self) -> bool:
        """Scan the last segment. False when nothing readable is in it and the file is gone."""
        segment = self.segments[-1]
        path = self._directory / frame.file_name(segment.first)
        try:
            file = self._disk.open(path)
        except OSError as error:
            self.damage.append(f"{path.name}: cannot be read: {error.strerror}")
            return True
        try:
            data = file.read_at(0, segment.size)
            header = frame.read_header(data, segment.first)
            if isinstance(header, str):
                raise OSError(header)
            found = list(frame.frames(data, header))
            end = found[-1].end if found else frame.HEADER_SIZE
            for item in found:
                with suppress(ValueError):
                    body = codec.decode(memoryview(data)[item.start : item.end])
                    self.heading.note(body)
                    self._sources.add(getattr(body, "source", ""))
            if found:
                self._last_seq = max(self._last_seq, found[-1].seq)
                self._last_wall_ns = found[-1].wall_ns
            durable = 0
            if self._mark is not None and self._mark.segment == segment.first:
                durable = self._mark.offset
            if not found and not durable:
                file.close()
                self._drop(path)
                return False
            broken = _holes(found, end)
            if broken or durable > end:
                self._salvage(path, data, found, segment, durable)
            elif end < len(data):
                self.cut_bytes = len(data) - end
                file.truncate(end)
                self.segments[-1] = replace(segment, size=end)
            # What stands behind the old mark is handed out from now on, so it has to be on the disk. Had its sync
            # failed in the last run, the file would have been cut then (log.py), so this one tells the truth.
            file.sync()
        except OSError as error:
            self.damage.append(f"{path.name}: {error}")
        finally:
            file.close()
        return True

    def _salvage(self, path: Path, data: bytes, found: list[frame.Frame], segment: Segment, durable: int) -> None:
        """Copy the file to ``damaged/`` and keep the readable frames in its place; by one atomic rename."""
        good = b"".join([data[: frame.HEADER_SIZE], *(data[f.start - frame.FRAME_SIZE : f.end] for f in found)])
        self.damage.append(f"{path.name}: {max(len(data), durable) - len(good)} bytes are damaged")
        aside = self._aside(path)
        temporary = path.with_suffix(".salvage")
        if temporary.name in self._disk.names(self._directory):
            self._disk.unlink(temporary)
        for target, content in ((aside, data), (temporary, good)):
            copy = self._disk.create(target)
            try:
                copy.append(content)
                copy.sync()
            finally:
                copy.close()
        self._disk.replace(temporary, path)
        self._disk.sync_folder(self._directory)
        self.segments[-1] = replace(segment, size=len(good))

    def _aside(self, path: Path) -> Path:
        folder = self._directory / DAMAGED
        self._disk.make_folder(folder)
        return folder / f"{path.name}.{self._now_ns}"

    def _move_aside(self, path: Path, why: str) -> None:
        self.damage.append(f"{path.name}: {why}")
        with suppress(OSError):
            self._disk.replace(path, self._aside(path))

    def _drop(self, path: Path) -> None:
        """Forget a file in which nothing was ever durable; without a mark nobody knows, so it is kept aside."""
        if self._mark is None:
            self._move_aside(path, "nothing in it can be read")
            return
        self._highest_name = 0
        with suppress(OSError):
            self._disk.unlink(path)

    def _decide(self) -> Opened:
        known = self._mark
        published = mark.published_position(self._disk, self._directory)
        last = max([self._last_seq, *(s.first for s in self.segments), 0 if known is None else known.seq])
        last = max(last, self._highest_name if self.damage else 0)
        epoch = max([self.segments[-1].epoch if self.segments else 0, 0 if known is None else known.epoch])
        why = ""
        if Position(epoch, last) < published:
            why = f"core has read up to entry {published.seq} of epoch {published.epoch}, this journal ends at {last}"
        elif known is None and (self.segments or self.damage):
            why = "the durable mark is missing, so the end cannot be verified"
        if why or epoch == 0:
            # Seconds since 1970, so that a directory made anew stands above the one it replaces.
            epoch = max(epoch + 1, published.epoch + 1, self._now_ns // 1_000_000_000)
        return Opened(
            epoch,
            max(last, published.seq) + 1,
            self._last_wall_ns,
            tuple(self.heading.gaps.values()),
            self.cut_bytes,
            tuple(self.damage),
            why,
            self.heading.map,
            frozenset(self._sources - {""}),
            frozenset(self.heading.ended),
        )


def _holes(found: list[frame.Frame], end: int) -> bool:
    """Whether unreadable bytes stand between readable frames."""
    at = frame.HEADER_SIZE
    for item in found:
        if item.start - frame.FRAME_SIZE != at:
            return True
        at = item.end
    return at < end
