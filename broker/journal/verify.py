"""Whether a journal is whole: CRC of every frame, epochs and sequence numbers without holes, mark and positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from broker.journal.disk import Disk
from broker.journal.survey import Damage, Item, SegmentFile, Survey
from schemas.entries import START, Position


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong; ``segment`` is empty where it concerns the journal as a whole."""

    segment: str
    offset: int
    size: int
    what: str


@dataclass(slots=True)
class Verdict:
    """
    What a check found.

    ``faults`` make the journal not whole; ``notes`` are worth knowing and no fault (a new epoch, files kept aside).
    """

    segments: int = 0
    entries: int = 0
    bytes: int = 0
    first: Position = START
    last: Position = START
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(directory: Path, *, disk: Disk | None = None) -> Verdict:
    """
    Read every durable byte and judge it; nothing is changed.

    Raises:
        OSError: the directory cannot be read.
    """
    survey = Survey(directory, disk=disk)
    verdict = Verdict()
    if survey.mark is None and survey.segments:
        verdict.faults.append(Fault("", 0, 0, "the durable mark cannot be read: the end cannot be verified"))
    for segment in survey.segments:
        verdict.segments += 1
        removed = survey.removed
        for item in survey.items(segment):
            if isinstance(item, Damage):
                verdict.faults.append(Fault(item.segment, item.offset, item.size, item.reason))
            else:
                _entry(verdict, item)
        if survey.removed > removed and survey.is_retired(segment):
            _pass_over(verdict, segment)
    _ends(verdict, survey)
    if survey.removed:
        verdict.notes.append(f"retention removed {survey.removed} segments meanwhile")
    for name, size in survey.damaged.items():
        verdict.notes.append(f"damaged/{name} ({size} bytes) is kept aside from an earlier start")
    return verdict


def _entry(verdict: Verdict, item: Item) -> None:
    place, before = item.position, verdict.last
    if before == START:
        verdict.first = place
    elif place.epoch < before.epoch:
        what = f"epoch {place.epoch} stands behind epoch {before.epoch}"
        verdict.faults.append(Fault(item.segment, item.offset, item.size, what))
    elif place.epoch > before.epoch:
        verdict.notes.append(f"{item.segment}: epoch {place.epoch} begins at entry {place.seq}, after {before.seq}")
    elif place.seq != before.seq + 1:
        missing = f"entries {before.seq + 1} to {place.seq - 1} are missing"
        verdict.faults.append(Fault(item.segment, item.offset, 0, missing))
    verdict.last = place
    verdict.entries += 1
    verdict.bytes += item.size
    try:
        item.decode()
    except ValueError as error:
        what = f"entry {place.seq} cannot be decoded: {error}"
        verdict.faults.append(Fault(item.segment, item.offset, item.size, what))


def _pass_over(verdict: Verdict, segment: SegmentFile) -> None:
    """What retention took away while an older segment was read is no hole in front of the next one."""
    header, last = segment.header, verdict.last
    if header is not None and segment.next_first is not None and last == Position(header.epoch, segment.first - 1):
        verdict.last = Position(header.epoch, segment.next_first - 1)


def _ends(verdict: Verdict, survey: Survey) -> None:
    mark = survey.mark
    if mark is None:
        return
    if verdict.last.epoch == mark.epoch and verdict.last.seq < mark.seq:
        what = f"the last readable entry is {verdict.last.seq}, the durable mark says {mark.seq}"
        verdict.faults.append(Fault("", 0, 0, what))
    if survey.published > mark.position:
        core = survey.published
        what = f"core has read up to entry {core.seq} of epoch {core.epoch}, beyond the end of this journal"
        verdict.faults.append(Fault("", 0, 0, what))
