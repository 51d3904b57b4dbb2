"""Replay adapter: plays a recorded file. The smallest complete adapter, and the template for new ones."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal, TextIO

from pydantic import Field, field_validator

from adapters import timestamps, values
from adapters.base import AdapterContext, SourceOptions, register
from adapters.recording import DELIMITERS, Columns, Line, read_csv, read_jsonl
from schemas.errors import EndOfInput, NotConnected
from schemas.samples import Delivery, Origin, Reject, SampleBatch
from schemas.tagmap import Tag

_BATCH_LINES = 1000


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
    """Plays one file, a batch per time stamp (at speed ``max`` per 1000 lines), then ends."""

    def __init__(self, options: ReplayOptions, context: AdapterContext) -> None:
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {}
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
        self._file: TextIO | None = None
        self._lines: Iterator[Line] = iter(())
        self._next: Line | None = None
        self._settled_line = 0
        self._refused = False
        self._shift_ns: int | None = 0 if options.times == "file" else None
        self._start: tuple[int, float] | None = None  # file time and loop time of the first line played

    async def connect(self) -> None:
        """
        Open the file and go behind the last settled line.

        Raises:
            NotConnected: the file cannot be opened or has no time column; a right one may still appear.
        """
        await self.close()
        try:
            self._file = self._path.open(encoding="utf-8-sig", errors="replace", newline="")
            lines = self._read_file(self._file)
            self._lines = (line for line in lines if line.number > self._settled_line)
            self._next, self._refused, self._start = next(self._lines, None), False, None
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
        if self._file is None or self._refused:
            raise NotConnected(f"{self._path}: a delivery was not taken; playing it again")
        if self._next is None:
            raise EndOfInput(f"{self._path} is played")
        await self._until_due(self._next)
        lines = [self._next]
        self._next = next(self._lines, None)
        while self._next is not None and len(lines) < _BATCH_LINES and self._joins(self._next, lines[0]):
            lines.append(self._next)
            self._next = next(self._lines, None)
        return self._delivery(lines)

    async def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_file(self, file: TextIO) -> Iterator[Line]:
        form = self._options.format
        if form == "jsonl" or (form == "auto" and self._path.suffix.lower() in (".jsonl", ".ndjson")):
            return read_jsonl(file, self._columns)
        return read_csv(file, self._columns, DELIMITERS.get(self._options.delimiter))

    def _joins(self, line: Line, first: Line) -> bool:
        return self._options.speed == "max" or line.time_ns in (None, first.time_ns)

    async def _until_due(self, line: Line) -> None:
        if self._options.speed == "max" or line.time_ns is None:
            return
        now_s = asyncio.get_running_loop().time()
        if self._start is None:
            self._start = (line.time_ns, now_s)
        due_s = self._start[1] + (line.time_ns - self._start[0]) / 1e9 / self._options.speed
        await asyncio.sleep(max(0.0, due_s - now_s))

    def _delivery(self, lines: list[Line]) -> Delivery:
        now_ns = self._context.now_ns()
        if self._shift_ns is None:
            self._shift_ns = next((now_ns - line.time_ns for line in lines if line.time_ns is not None), None)
        rows = [((line.time_ns or 0) + (self._shift_ns or 0), *cell) for line in lines for cell in line.cells]
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
        rejects = tuple(
            Reject(self._context.name, f"{self._path.name}:{line.number}", reason, line.raw.encode()[:4096], now_ns)
            for line in lines
            for reason in line.refused
        )
        self.counters.update(lines=len(lines), samples=len(rows), rejected=len(rejects))

        async def settle(error: Exception | None) -> None:
            self._refused = self._refused or error is not None
            if not self._refused:
                self._settled_line = lines[-1].number

        return Delivery(batch, settle, rejects)
