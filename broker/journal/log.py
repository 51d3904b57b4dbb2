"""
The segments being written: commit a group, begin a new segment, remove old ones. No thread and no wait in here.

After a failed write or fdatasync the file is never tried again: the kernel may have marked the lost pages clean, and a
second fdatasync would then say yes to data that is gone (the lesson of PostgreSQL's fsync reports of 2018). The file
is cut back to what was durable, and the same group is written to a new segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from broker.journal import codec, frame, mark
from broker.journal.disk import FULL, Disk, DiskFile, boot_id
from broker.journal.mark import Mark
from broker.journal.options import JournalOptions
from broker.journal.recovery import DAMAGED, Opened, Recovery, Segment
from broker.journal.reserve import Reserve
from schemas.alarms import Event
from schemas.entries import START, Body, Link, MapInForce, Position
from schemas.errors import JournalError, JournalFull
from schemas.samples import Gap, Reject, SampleBatch

#: Damaged files that are kept for people to look at may take so much of the budget.
DAMAGED_SHARE: Final = 0.05
#: A quiet journal begins a new segment after this time, so that `keep` has something to remove.
SEGMENT_AGE_NS: Final = 3600 * 1_000_000_000
#: The reserve takes no more than this part of `max_size`.
RESERVE_PART: Final = 10
LOCK_FILE: Final = "writer.lock"


@dataclass(frozen=True, slots=True)
class Item:
    """One entry that waits: its body encoded, and the body itself where new segments have to repeat it."""

    payload: bytes
    wall_ns: int
    mono_ns: int
    #: samples, rejects and events stop at `stop_ack`; gaps, links, maps and ticks may use the whole budget
    counted: bool
    heading: MapInForce | Gap | Link | None

    @classmethod
    def of(cls, body: Body, wall_ns: int, mono_ns: int) -> Item:
        """Encode a body. Raises ValueError."""
        kept = body if isinstance(body, MapInForce | Gap | Link) else None
        return cls(codec.encode(body), wall_ns, mono_ns, isinstance(body, SampleBatch | Reject | Event), kept)


class JournalLog:
    """Segments of one directory. One thread at a time."""

    def __init__(
        self,
        directory: Path,
        options: JournalOptions,
        *,
        disk: Disk,
        now_ns: Callable[[], int],
        mono_ns: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._options = options
        self._disk = disk
        self._now_ns = now_ns
        self._mono_ns = mono_ns
        self._boot_id = b""
        self._lock: DiskFile | None = None
        self._mark_file: DiskFile | None = None
        self._mark = Mark(0, 0, 0, 0, 0)
        self._segments: list[Segment] = []
        self._recovery: Recovery | None = None
        self._file: DiskFile | None = None
        self._seed = 0
        self._epoch = 0
        self._seq = 0
        self._written = 0
        self.reserve = Reserve(disk, directory, min(options.disk.reserve, options.max_size // RESERVE_PART))
        self.used = 0  #: bytes of segments and damaged files
        self.appended = 0
        self.commits = 0
        self.abandoned = 0  #: files given up after an error of the disk
        self.last_error = ""

    def open(self) -> Opened:
        """
        Repair the directory and stand ready behind its last entry.

        Raises:
            JournalError: another process writes here, or the directory itself cannot be used.
        """
        try:
            self._disk.make_folder(self._directory)
            self._lock = self._disk.lock(self._directory / LOCK_FILE)
            self._mark_file, found = mark.open_for_writing(self._disk, self._directory)
            self._recovery = recovery = Recovery(self._disk, self._directory, found, self._now_ns())
            opened = recovery.run()
            self._mark = recovery.mark(opened)
            mark.write_first(self._mark_file, self._mark)
        except OSError as error:
            self.close()
            raise JournalError(f"{self._directory} cannot be used: {error.strerror or error}") from error
        self._boot_id = boot_id()
        self._segments = recovery.segments
        self.used = sum(segment.size for segment in self._segments) + sum(size for _, size in self._damaged())
        self._epoch, self._seq = opened.epoch, opened.next_seq - 1
        self.reserve.open()
        return opened

    @property
    def position(self) -> Position:
        """Where the sequence stands: at the last durable entry, or right before the first of a new epoch."""
        return Position(self._epoch, self._seq)

    def published(self) -> Position:
        """Core's position as it stands on disk."""
        return mark.published_position(self._disk, self._directory)

    def budget(self) -> int:
        """
        Bytes the journal may take: `max_size`, or less where the disk has less. Raises OSError.

        What the reserve has given up is not for samples.
        """
        free = max(0, self._disk.free(self._directory) - self.reserve.given)
        return min(self._options.max_size, self.used + free)

    def commit(self, items: Sequence[Item], *, accept: bool = True) -> list[Position | JournalError]:
        """
        Make a group durable with one sync; what became of each, in order. Never raises for the disk's sake.

        Where not *accept*, samples and rejects are refused whether they would fit or not.
        """
        try:
            budget = self.budget()
        except OSError as error:
            return [JournalError(f"journal disk: {error.strerror}")] * len(items)
        limit, room = self._options.disk.stop_ack * budget, self._room(budget)
        used = self.used
        taken: list[Item] = []
        outcome: list[Position | JournalError] = []
        for item in items:
            size = len(item.payload) + frame.FRAME_SIZE
            if not item.counted and used + size > room:
                room = self._more_room(used + size, room)
            if used + size > (limit if item.counted else room) or (item.counted and not accept):
                used = max(used, int(limit)) if item.counted else used  # a smaller one must not overtake it
                outcome.append(JournalFull(f"journal holds {self.used} of {budget} bytes"))
                continue
            used += size
            taken.append(item)
            outcome.append(START)
        if not taken:
            return outcome
        written = self._write(taken)
        while isinstance(written, JournalFull):
            # others have filled the disk: what must not be lost has space of its own, samples have not
            refused = written
            outcome = [
                refused if place == START and item.counted else place
                for item, place in zip(items, outcome, strict=True)
            ]
            taken = [item for item in taken if not item.counted]
            if not taken:
                return outcome
            if not self.reserve.give(0):
                break
            written = self._write(taken)
        if isinstance(written, JournalError):
            return [written if place == START else place for place in outcome]
        positions = iter(written)
        return [next(positions) if place == START else place for place in outcome]

    def _room(self, budget: int) -> int:
        """Bytes up to which what must not be lost is written: the budget, and what the reserve has given up."""
        given = self.reserve.given
        if not given:
            return budget
        with suppress(OSError):
            return min(self._options.max_size + given, self.used + self._disk.free(self._directory))
        return budget

    def _more_room(self, needed: int, room: int) -> int:
        """The room after so much of the reserve was given up as it takes, or all of it."""
        while needed > room and self.reserve.give(needed - room):
            room = self._room(room)
        return room

    def _write(self, items: list[Item]) -> list[Position] | JournalError:
        error: OSError | None = None
        size = sum(len(item.payload) + frame.FRAME_SIZE for item in items)
        for _ in range(2):
            try:
                return self._write_once(items, size)
            except OSError as failure:
                self._give_up_segment()
                if failure.errno in FULL:
                    return JournalFull(f"the journal's disk is full: {failure.strerror}")
                error = failure
                self.abandoned += 1
                self.last_error = failure.strerror or str(failure)
        assert error is not None
        return JournalError(f"the journal's disk fails: {error.strerror or error}")

    def _write_once(self, items: list[Item], size: int) -> list[Position]:
        parts: list[bytes] = []
        if self._file is not None and self._is_over(size):
            self._file.close()
            self._file = None
        begun = self._file is None
        file = self._file or self._begin(parts)
        seq = self._seq
        heading = self._heading() if begun else []
        positions = []
        for item in [*heading, *items]:
            seq += 1
            parts.append(frame.pack_frame(seq, item.wall_ns, item.mono_ns, item.payload, self._seed))
            parts.append(item.payload)
            positions.append(Position(self._epoch, seq))
        data = b"".join(parts)
        file.append(data)
        file.sync()
        if begun:
            self._disk.sync_folder(self._directory)
        self._written += len(data)
        self.used += len(data)
        self.appended += len(data)
        self.commits += 1
        self._seq = seq
        assert self._recovery is not None
        for item in items:
            if item.heading is not None:
                self._recovery.heading.note(item.heading)
        self._segments[-1] = replace(self._segments[-1], size=self._written)
        self._note_durable(self._segments[-1].first)
        return positions[len(heading) :]

    def _note_durable(self, segment: int) -> None:
        assert self._mark_file is not None
        self._mark = Mark(self._mark.turn + 1, self._epoch, self._seq, segment, self._written)
        # The entries are safe without it; readers see them with the next commit, a second later at most.
        with suppress(OSError):
            mark.write(self._mark_file, self._mark)

    def _is_over(self, size: int) -> bool:
        segment = self._segments[-1]
        return (
            self._written + size > self._options.segment and self._written > frame.HEADER_SIZE
        ) or self._mono_ns() - segment.mono_ns > SEGMENT_AGE_NS

    def _begin(self, parts: list[bytes]) -> DiskFile:
        first, wall_ns, mono_ns = self._seq + 1, self._now_ns(), self._mono_ns()
        header, self._seed = frame.pack_header(self._epoch, first, self._boot_id, wall_ns, mono_ns)
        path = self._directory / frame.file_name(first)
        if path.name in self._disk.names(self._directory):
            self._disk.unlink(path)  # given up before its first entry was durable, and its removal failed
        self._file = self._disk.create(path)
        self._written = 0
        self._segments.append(Segment(first, self._epoch, self._boot_id, wall_ns, mono_ns, 0))
        parts.append(header)
        return self._file

    def _heading(self) -> list[Item]:
        assert self._recovery is not None
        now, mono = self._now_ns(), self._mono_ns()
        return [Item.of(body, now, mono) for body in self._recovery.heading.bodies()]

    def _give_up_segment(self) -> None:
        """Leave the file for good: cut to what is durable in it, or removed where nothing is."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):
            file.truncate(self._written)
        with suppress(OSError):
            file.sync()
        file.close()
        if self._written == 0:
            first = self._segments.pop().first
            with suppress(OSError):
                self._disk.unlink(self._directory / frame.file_name(first))

    def overtaken(self) -> str:
        """
        Why a new epoch begins now; empty where none has to.

        Core is ahead of a journal that was put back from an older copy. Entries numbered below its position would be
        passed over in silence, so they get a position above it instead.
        """
        done, here = self.published(), self.position
        if done <= here:
            return ""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._epoch = max(self._epoch, done.epoch, self._now_ns() // 1_000_000_000) + 1
        self._seq = max(self._seq, done.seq)
        return f"core has read up to entry {done.seq} of epoch {done.epoch}, this journal ended at {here.seq}"

    def trim(self, *, urgent: bool = False) -> list[Segment]:
        """
        Remove whole segments that core has read and that are past `keep`, or in the way of new ones; the removed.

        *urgent*: samples are being refused, so everything that core has read is in the way.

        What core has not read stays, whatever the budget: acknowledgements stop instead.
        """
        done = self.published()
        removed: list[Segment] = []
        try:
            room = self._options.disk.expire * self.budget()
        except OSError:
            return removed
        while len(self._segments) > 1:
            oldest, following = self._segments[0], self._segments[1]
            if Position(following.epoch, following.first - 1) > done or (
                self._age_s(following) <= self._options.keep and self.used <= room and not urgent
            ):
                break
            try:
                self._disk.unlink(self._directory / frame.file_name(oldest.first))
            except FileNotFoundError:
                pass
            except OSError:
                break  # a reader on Windows still has it open, or the disk fails: the next time
            self._segments.pop(0)
            self.used -= oldest.size
            removed.append(oldest)
        return removed

    def unread(self) -> int:
        """Bytes of the segments that core has not read to their end; what it has read can go at any moment."""
        done = self.published()
        size = 0
        for place, segment in enumerate(self._segments):
            following = self._segments[place + 1] if place + 1 < len(self._segments) else None
            if following is None or Position(following.epoch, following.first - 1) > done:
                size += segment.size
        return size

    def _damaged(self) -> list[tuple[Path, int]]:
        """Damaged files with their sizes, the oldest first: their names end with the time they were moved."""
        folder = self._directory / DAMAGED
        found: list[tuple[Path, int]] = []
        for name in sorted(self._disk.names(folder), key=lambda name: (name.rpartition(".")[2].zfill(20), name)):
            with suppress(OSError):
                file = self._disk.view(folder / name)
                try:
                    found.append((folder / name, file.size()))
                finally:
                    file.close()
        return found

    def trim_damaged(self) -> list[int]:
        """Remove the oldest damaged files beyond their share of the budget, never the newest; sizes of the removed."""
        removed: list[int] = []
        files = self._damaged()
        total = sum(size for _, size in files)
        with suppress(OSError):
            room = DAMAGED_SHARE * self.budget()
            for path, size in files[:-1]:
                if total <= room:
                    break
                self._disk.unlink(path)
                total -= size
                self.used -= size
                removed.append(size)
        return removed

    def _age_s(self, segment: Segment) -> float:
        """Since the segment began: monotonic within one boot, so that a clock that jumps removes nothing."""
        if segment.boot_id == self._boot_id:
            return (self._mono_ns() - segment.mono_ns) / 1e9
        return (self._now_ns() - segment.wall_ns) / 1e9

    def close(self) -> None:
        """Release every handle. Never raises."""
        self.reserve.close()
        for file in (self._file, self._mark_file, self._lock):
            if file is not None:
                file.close()
        self._file = self._mark_file = self._lock = None
