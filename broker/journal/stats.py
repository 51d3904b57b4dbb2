"""Figures of a journal directory: size, age, content, how long it lasts, and what core has still to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker.journal import codec
from broker.journal.disk import Disk, RealDisk
from broker.journal.options import JournalOptions
from broker.journal.survey import Damage, Survey
from schemas.entries import START, Position

#: The rate is that of so much of the newest journal time.
RATE_NS: Final = 3600 * 1_000_000_000


@dataclass(slots=True)
class SourceFigures:
    """What one source has in the journal; times are UTC ns of reception."""

    entries: int = 0
    rows: int = 0
    rejects: int = 0
    gaps: int = 0
    events: int = 0
    oldest_ns: int | None = None
    newest_ns: int | None = None

    def note(self, wall_ns: int) -> None:
        """One more entry, received then."""
        self.entries += 1
        self.oldest_ns = wall_ns if self.oldest_ns is None else min(self.oldest_ns, wall_ns)
        self.newest_ns = wall_ns if self.newest_ns is None else max(self.newest_ns, wall_ns)


@dataclass(slots=True)
class Figures:
    """
    The directory at one moment; sizes in bytes, times UTC ns.

    ``capacity_h`` is for how long samples are accepted at ``bytes_per_s`` if core reads nothing from now on; None
    while nothing flows. ``kinds``, ``sources`` and ``rows`` are empty after a quick look.
    """

    segments: int = 0
    bytes: int = 0
    damaged_files: int = 0
    damaged_bytes: int = 0
    budget_bytes: int = 0
    oldest_ns: int | None = None
    newest_ns: int | None = None
    bytes_per_s: float = 0.0
    capacity_h: float | None = None
    end: Position = START
    core: Position = START
    backlog_entries: int = 0
    backlog_bytes: int = 0
    backlog_s: float = 0.0
    unreadable_bytes: int = 0
    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    sources: dict[str, SourceFigures] = field(default_factory=dict)


def stats(
    directory: Path,
    options: JournalOptions,
    *,
    core: Position | None = None,
    quick: bool = False,
    disk: Disk | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Figures:
    """
    Take the figures; *core* is the position in SQL where the caller knows it, else the published one is taken.

    *quick* reads headers and the last segment only. *progress* is told (bytes read, bytes in all).

    Raises:
        OSError: the directory cannot be read.
    """
    disk = disk or RealDisk()
    survey = Survey(directory, disk=disk)
    figures = Figures(core=survey.published if core is None else core)
    figures.segments = len(survey.segments)
    figures.bytes = sum(segment.size for segment in survey.segments)
    figures.damaged_files, figures.damaged_bytes = len(survey.damaged), sum(survey.damaged.values())
    used = figures.bytes + figures.damaged_bytes
    figures.budget_bytes = min(options.max_size, used + disk.free(directory))
    figures.oldest_ns, figures.newest_ns = survey.oldest_ns(), survey.newest_ns()
    if survey.mark is not None:
        figures.end = survey.mark.position
    _rate(figures, survey)
    if figures.bytes_per_s > 0:
        room = max(0.0, options.disk.stop_ack * figures.budget_bytes - used)
        figures.capacity_h = room / figures.bytes_per_s / 3600
    _backlog(figures, survey)
    if not quick:
        _content(figures, survey, progress)
    return figures


def _rate(figures: Figures, survey: Survey) -> None:
    if figures.newest_ns is None:
        return
    size, begin_ns = 0, figures.newest_ns
    for segment in reversed(survey.segments):
        if segment.header is None:
            continue
        size, begin_ns = size + segment.size, segment.header.wall_ns
        if figures.newest_ns - begin_ns >= RATE_NS:
            break
    passed_ns = figures.newest_ns - begin_ns
    if passed_ns > 0:
        figures.bytes_per_s = size / (passed_ns / 1e9)


def _backlog(figures: Figures, survey: Survey) -> None:
    """What stands behind core's position; only the segments that can hold it are read."""
    first_ns: int | None = None
    for segment in survey.segments:
        if segment.header is None:
            continue
        following = segment.next_first
        if following is not None and Position(segment.header.epoch, following - 1) <= figures.core:
            continue
        for item in survey.items(segment):
            if not isinstance(item, Damage) and item.position > figures.core:
                figures.backlog_entries += 1
                figures.backlog_bytes += item.size
                first_ns = item.wall_ns if first_ns is None else first_ns
    if first_ns is not None and figures.newest_ns is not None:
        figures.backlog_s = max(0, figures.newest_ns - first_ns) / 1e9


def _content(figures: Figures, survey: Survey, progress: Callable[[int, int], None] | None) -> None:
    done = 0
    for segment in survey.segments:
        for item in survey.items(segment):
            if isinstance(item, Damage):
                figures.unreadable_bytes += item.size
                continue
            try:
                outline = codec.outline(item.body)
            except ValueError:
                figures.kinds["unknown"] += 1
                continue
            figures.kinds[outline.kind] += 1
            if outline.kind in {"samples", "reject", "gap", "event"}:
                source = figures.sources.setdefault(outline.source, SourceFigures())
                source.note(item.wall_ns)
                source.rows += outline.rows
                source.rejects += outline.kind == "reject"
                source.gaps += outline.kind == "gap"
                source.events += outline.kind == "event"
                figures.rows += outline.rows
        done += segment.size
        if progress is not None:
            progress(done, figures.bytes)
