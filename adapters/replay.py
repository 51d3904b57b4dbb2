"""Replay adapter: plays a recorded file. The smallest complete adapter, and the template for new ones."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, BinaryIO, Final, Literal

import msgspec
from pydantic import Field, field_validator

from adapters import bookmark, timestamps, values
from adapters.base import AdapterContext, Continuity, SourceOptions, register
from adapters.recording import DELIMITERS, Columns, Line, Lines, read_csv, read_jsonl
from schemas.errors import EndOfInput, NotConnected
from schemas.samples import Delivery, Origin, Reject, SampleBatch
from schemas.tagmap import Tag

_BATCH_LINES: Final = 1000
#: Waiting for the next line is a sign of life so often.
_LIFE_S: Final = 1.0


class ReplayOptions(SourceOptions):
    """
    Plays samples from a file, at the speed they were taken or another.

    CSV is wide: a tag's address is the name of its column. JSONL is long:
    ``{"time": "2026-01-01T00:00:00Z", "tag": "address", "value": 1.5, "status": "Good"}``.
    """

    kind: Literal["replay"] = "replay"
    file: Annotated[str, Field(min_length=1, description="File to play; relative names start at fairlead.yaml.")]
    format: Annotated[
        Literal["auto", "csv", "jsonl"], Field(description="Form of the file; auto follows the name's ending.")
    ] = "auto"
    delimiter: Annotated[
        Literal["auto", ",", ";", "tab"], Field(description="Between CSV columns; auto takes the header's commonest.")
    ] = "auto"
    time: Annotated[str, Field(min_length=1, description="Name of the time column or member.")] = "time"
    time_format: Annotated[
        Literal["auto", "iso8601", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"],
        Field(description="Form of the times; auto takes ISO 8601, or a number whose unit follows from its size."),
    ] = "auto"
    timezone: Annotated[str, Field(description="IANA zone of times that name none.")] = "UTC"
    times: Annotated[
        Literal["file", "shifted"], Field(description="shifted moves all times so that the first row is now.")
    ] = "file"
    speed: Annotated[
        Literal["max"] | Annotated[float, Field(gt=0)],
        Field(description="1.0 plays in real time, 10 ten times faster, max as fast as it is taken."),
    ] = 1.0
    numbers: Annotated[values.Numbers, Field(description="Decimal mark of numbers written as text.")] = "point"

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        timestamps.zone(name)
        return name


def _check(options: ReplayOptions, tag: Tag) -> str | None:  # noqa: ARG001 - the hook's signature
    if not values.known_type(tag.type) or (tag.type or "").startswith("bytes"):
        return f"a text file carries no {tag.type}"
    return None if tag.address else "the address is the column's name and must not be empty"


@register("replay", ReplayOptions, _check)
class ReplayAdapter:
    """
    Plays one file, a batch per time stamp (at speed ``max`` per 1000 lines), then ends.

    What was settled is remembered over restarts: a file is played once, until it is replaced, touched or has grown.
    """

    def __init__(self, options: ReplayOptions, context: AdapterContext) -> None:
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {}
        self.covered_ns: int | None = None
        self.continuity: Continuity = "unknown"
        self._options = options
        self._context = context
        self._path = context.base_dir / options.file
        self._columns = Columns(
            options.time,
            timestamps.parser(options.time_format, timestamps.zone(options.timezone)),
            {
                tag.address: (tag.number, values.from_text(tag.type, options.numbers), values.from_json(tag.type))
                for tag in context.tags
            },
        )
        self._file: BinaryIO | None = None
        self._lines: Iterator[Line] = iter(())
        self._ahead: deque[Line] = deque()
        self._refused = False
        self._mark = bookmark.Bookmark("", 0, 0)
        self._start: tuple[int, float] | None = None  # file time and loop time of the first line played

    async def connect(self) -> None:
        """
        Open the file and go behind the last settled line.

        Raises:
            NotConnected: the file cannot be opened or has no time column; a right one may still appear.
        """
        await self.close()
        try:
            self._open()
        except OSError as error:
            raise NotConnected(f"cannot open {self._path}: {error.strerror}") from error
        except ValueError as error:
            raise NotConnected(f"cannot play {self._path}: {error}") from error
        self.facts["file"] = str(self._path)

    async def read(self) -> Delivery:
        """
        Wait until the next lines are due and return them as one batch.

        Raises:
            NotConnected: a delivery was refused; ``connect`` goes back to it.
            EndOfInput: the file is played.
        """
        if self._file is None:
            raise NotConnected(f"{self._path} is not open")
        if self._refused:
            raise NotConnected(f"{self._path}: a delivery was not taken; playing it again")
        first = await self._next()
        if first is None:
            raise EndOfInput(f"{self._path} is played")
        await self._until_due(first)
        lines = [self._ahead.popleft()]
        while len(lines) < _BATCH_LINES and (line := await self._next()) is not None and self._joins(line, first):
            lines.append(self._ahead.popleft())
        await self._fix_shift(lines)
        return self._delivery(lines)

    async def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        file = self._path.open("rb")
        try:
            self._mark = self._recall().in_(self._path, file)
            self.continuity = "kept" if self._mark.place.end else "unknown"
            lines, form = Lines(file), self._options.format
            if form == "jsonl" or (form == "auto" and self._path.suffix.lower() in (".jsonl", ".ndjson")):
                self._lines = read_jsonl(lines, self._columns, self._mark.place)
            else:
                delimiter = DELIMITERS.get(self._options.delimiter)
                self._lines = read_csv(lines, self._columns, delimiter, self._mark.place)
            self._ahead, self._refused, self._start = deque(islice(self._lines, 1)), False, None
        except BaseException:
            file.close()
            raise
        self._file = file

    def _recall(self) -> bookmark.Bookmark:
        try:
            return bookmark.recall(self._context.state_dir)
        except ValueError:
            self.counters["bookmark_damaged"] += 1
            return bookmark.Bookmark("", 0, 0)

    async def _next(self) -> Line | None:
        """The next line without taking it; None at the end of the file."""
        if not self._ahead:
            # in a thread, so that a large file does not hold up the polls of other sources
            self._ahead.extend(await asyncio.to_thread(lambda: list(islice(self._lines, _BATCH_LINES))))
        return self._ahead[0] if self._ahead else None

    def _joins(self, line: Line, first: Line) -> bool:
        return self._options.speed == "max" or line.time_ns in (None, first.time_ns)

    async def _until_due(self, line: Line) -> None:
        if self._options.speed == "max" or line.time_ns is None:
            return
        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start = (line.time_ns, loop.time())
        due_s = self._start[1] + (line.time_ns - self._start[0]) / 1e9 / self._options.speed
        while (left_s := due_s - loop.time()) > 0:
            await asyncio.sleep(min(left_s, _LIFE_S))
            self.counters["waits"] += 1

    async def _fix_shift(self, lines: list[Line]) -> None:
        """Choose the shift once and keep it before a shifted time leaves, so that no restart chooses another."""
        if self._options.times == "file" or self._mark.shift_ns is not None:
            return
        first_ns = next((line.time_ns for line in lines if line.time_ns is not None), None)
        if first_ns is not None:
            shift_ns = self._context.now_ns() - first_ns
            await self._keep(msgspec.structs.replace(self._mark, shift_ns=shift_ns))

    async def _keep(self, mark: bookmark.Bookmark) -> None:
        self._mark = mark
        try:
            await asyncio.to_thread(bookmark.keep, self._context.state_dir, mark)
        except OSError:
            # the same rows may come again after a restart; with the file's own times SQL knows them
            self.counters["bookmark_lost"] += 1

    def _delivery(self, lines: list[Line]) -> Delivery:
        now_ns = self._context.now_ns()
        shift_ns = self._mark.shift_ns or 0 if self._options.times == "shifted" else 0
        timed = [(line, line.time_ns + shift_ns) for line in lines if line.time_ns is not None]
        rows = [(at_ns, *cell) for line, at_ns in timed if timestamps.fits(at_ns) for cell in line.cells]
        source_ns, tag, value, exact, status, flags = zip(*rows, strict=True) if rows else ((),) * 6
        batch = SampleBatch.build(
            self._context.name,
            self._context.map_revision,
            now_ns,
            tag=tag,
            source_ns=source_ns,
            value=value,
            status=status,
            flags=flags,
            exact={row: kept for row, kept in enumerate(exact) if kept is not None},
            origin=Origin.REPLAY,
        )
        reasons = [(line, reason) for line in lines for reason in line.refused]
        reasons += [(line, "the shifted time is out of range") for line, at_ns in timed if not timestamps.fits(at_ns)]
        rejects = tuple(
            Reject(
                self._context.name, f"{self._path.name}:{line.place.number}", reason, line.raw.encode()[:4096], now_ns
            )
            for line, reason in reasons
        )
        self.counters.update(lines=len(lines), samples=len(rows), rejected=len(rejects))

        async def settle(error: Exception | None) -> None:
            self._refused = self._refused or error is not None
            if not self._refused:
                await self._keep(msgspec.structs.replace(self._mark, place=lines[-1].place))

        return Delivery(batch, settle, rejects)
