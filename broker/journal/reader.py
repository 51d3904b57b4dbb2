"""
The journal as core reads it: another process, the same files, no further than the durable mark.

Reading on costs one small read of the mark while nothing new is there, and the new bytes when there is; the handle and
the offset are kept, and the directory is listed only when a segment ends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from broker.journal import codec, frame, mark
from broker.journal.disk import Disk, DiskFile, RealDisk
from broker.journal.mark import Mark
from broker.journal.recovery import DAMAGED
from schemas.entries import START, Entry, Position
from schemas.samples import Gap, GapCause

CHUNK: Final = 4 << 20


class JournalFiles:
    """
    A :class:`schemas.entries.JournalReader` over a directory. One thread at a time.

    A gap that stands for missing entries has source ``""``: it concerns every source. Its entry carries the sequence
    number of the last missing one, so that reading on after it works like after any other.
    """

    def __init__(self, directory: Path, *, disk: Disk | None = None) -> None:
        self._file: DiskFile | None = None
        self._directory = directory
        self._disk = disk or RealDisk()
        self._mark: Mark | None = None
        self._header: frame.Header | None = None
        self._next_first: int | None = None
        self._buffer = b""
        self._at = 0
        self._offset = 0
        self._after: Position | None = None
        self._last_wall_ns: int | None = None
        self._damaged = ""
        self._published: Position | None = None

    def read(self, after: Position, limit: int = 1000) -> Sequence[Entry]:
        """
        Up to *limit* durable entries that follow *after*; see :class:`schemas.entries.JournalReader`.

        Raises:
            OSError: the directory cannot be read at all; a bad file in it never raises.
        """
        self._look_at_mark()
        if self._mark is None:
            return []
        if after != self._after or self._header is None:
            self._seek(after)
        entries: list[Entry] = []
        while len(entries) < limit:
            entry = self._next_entry()
            if entry is None:
                if self._next_segment():
                    continue
                break
            place = entry.position
            assert self._after is not None
            if place <= self._after:
                self._last_wall_ns = entry.wall_ns
                continue
            if place.seq != self._after.seq + 1:
                entries.append(self._gap_before(entry))
                if len(entries) == limit:
                    self._after = entries[-1].position
                    self._header = None  # comes back to this entry by a seek
                    break
            entries.append(entry)
            self._after, self._last_wall_ns, self._damaged = place, entry.wall_ns, ""
        return entries

    def done(self, position: Position) -> None:
        """
        Publish core's position by atomic rename. To be called at start, too: the writer then notices a journal that
        was put back from an older copy.

        Raises:
            OSError: the position could not be written; the one before stands, and more is kept.
        """
        if position != self._published:
            mark.publish_position(self._disk, self._directory, position)
            self._published = position

    def close(self) -> None:
        """Release the handle. Never raises."""
        self._leave()

    def __del__(self) -> None:
        # JournalReader has no close: a reader that is dropped releases its handle.
        self.close()

    def _look_at_mark(self) -> None:
        try:
            file = self._disk.view(self._directory / mark.MARK_FILE)
        except FileNotFoundError:
            return
        try:
            found = mark.unpack(file.read_at(0, mark.SIZE))
        finally:
            file.close()
        if found is None:
            return  # torn while it is being overwritten: the last one stays good
        if self._mark is not None and found.epoch != self._mark.epoch:
            self._header = None  # perhaps a directory made anew under our feet: seek
        self._mark = found

    def _firsts(self) -> list[int]:
        """Segments that the mark covers, in order."""
        assert self._mark is not None
        found = (frame.first_of(name) for name in self._disk.names(self._directory))
        return [first for first in found if first is not None and first <= self._mark.segment]

    def _seek(self, after: Position) -> None:
        """Stand at the segment that holds the entry behind *after*, or at the first one behind it."""
        self._leave()
        self._after, self._last_wall_ns, self._damaged = after, None, ""
        firsts = self._firsts()
        index = max(bisect_right(firsts, after.seq + 1) - 1, 0)
        # A directory made anew numbers from 1: a newer epoch is read from its first segment on.
        while index > 0 and (not self._enter(firsts, index) or self._epoch() > after.epoch):
            index -= 1
        while index < len(firsts) and not self._enter(firsts, index):
            index += 1

    def _epoch(self) -> int:
        return 0 if self._header is None else self._header.epoch

    def _enter(self, firsts: list[int], index: int) -> bool:
        self._leave()
        first = firsts[index]
        try:
            file = self._disk.view(self._directory / frame.file_name(first))
        except OSError:
            return False
        try:
            header = frame.read_header(file.read_at(0, frame.HEADER_SIZE), first)
        except OSError as error:
            header = str(error)
        if isinstance(header, str):
            file.close()
            self._damaged = f"{frame.file_name(first)}: {header}"
            return False
        self._file, self._header = file, header
        self._next_first = firsts[index + 1] if index + 1 < len(firsts) else None
        self._offset, self._buffer, self._at = frame.HEADER_SIZE, b"", 0
        return True

    def _leave(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._header = self._next_first = None
        self._buffer = b""

    def _next_segment(self) -> bool:
        """Go to the next segment that can be read; False where there is none yet."""
        assert self._mark is not None
        if self._header is not None and self._header.first >= self._mark.segment:
            return False
        here = self._header.first if self._header is not None else -1
        firsts = self._firsts()
        index = bisect_right(firsts, here)
        known = self._next_first
        if self._header is not None and known is None and index < len(firsts):
            # It was the last when it was entered: what came since and belongs to it has to be read first.
            self._next_first = firsts[index]
            return True
        while index < len(firsts):
            if self._enter(firsts, index):
                return True
            index += 1
        return False

    def _next_entry(self) -> Entry | None:
        """The next readable frame of this segment; None at its end or at the mark."""
        header = self._header
        if header is None:
            return None
        while True:
            found = frame.frame_at(self._buffer, self._at, header.seed)
            if isinstance(found, int):
                if self._fill(found):
                    continue
                if len(self._buffer) - self._at == 0:
                    return None
                found = None  # ends beyond what is durable: its length is damaged
            if found is None:
                skip = self._buffer.find(frame.SYNC, self._at + 1)
                self._damaged = f"{frame.file_name(header.first)}: unreadable bytes"
                if skip < 0:
                    self._at = max(self._at + 1, len(self._buffer) - len(frame.SYNC) + 1)
                    if not self._fill(self._at + 1):
                        self._at = len(self._buffer)
                        return None
                else:
                    self._at = skip
                continue
            self._at = found.end
            if self._next_first is not None and found.seq >= self._next_first:
                return None  # written, never durable, and written again in the next segment
            try:
                body = codec.decode(memoryview(self._buffer)[found.start : found.end])
            except ValueError as error:
                self._damaged = f"entry {found.seq}: {error}"
                continue
            return Entry(header.epoch, found.seq, header.boot_id, found.wall_ns, found.mono_ns, body)

    def _fill(self, size: int) -> bool:
        """Read on until the buffer holds *size* bytes; False when no further byte is durable."""
        assert self._file is not None
        assert self._header is not None
        assert self._mark is not None
        end = self._mark.offset if self._header.first == self._mark.segment else None
        want = max(size - len(self._buffer), CHUNK)
        if end is not None:
            want = min(want, end - self._offset)
        if want <= 0:
            return False
        try:
            data = self._file.read_at(self._offset, want)
        except OSError as error:
            self._damaged = str(error)
            return False
        if not data:
            return False
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        self._offset += len(data)
        return True

    def _gap_before(self, entry: Entry) -> Entry:
        assert self._after is not None
        cause = GapCause.JOURNAL_DAMAGED
        if entry.epoch == self._after.epoch or self._after == START:
            cause = self._cause(entry.seq)
        missing = f"entries {self._after.seq + 1} to {entry.seq - 1} are missing"
        if entry.epoch != self._after.epoch and self._after != START:
            old = f"entry {self._after.seq} of epoch {self._after.epoch}"
            missing = f"after {old} the journal goes on with entry {entry.seq} of epoch {entry.epoch}"
        begin = self._last_wall_ns if self._last_wall_ns is not None else entry.wall_ns
        gap = Gap(
            "", (), begin, entry.wall_ns, cause, detail=f"{missing}: {self._damaged}" if self._damaged else missing
        )
        return Entry(entry.epoch, entry.seq - 1, entry.boot_id, entry.wall_ns, entry.mono_ns, gap)

    def _cause(self, seq: int) -> GapCause:
        """Retention removes from the oldest end only; a hole anywhere else is damage, and so is one in ``damaged/``."""
        assert self._after is not None
        oldest = min(self._firsts(), default=0)
        if self._damaged or seq != oldest:
            return GapCause.JOURNAL_DAMAGED
        for name in self._disk.names(self._directory / DAMAGED):
            first = frame.first_of(name[: 20 + len(frame.SUFFIX)])
            if first is not None and self._after.seq < first < seq:
                return GapCause.JOURNAL_DAMAGED
        return GapCause.DISK_BUDGET
