"""
The demo's journal of the time before: the plant's recording, entered second by second as acquire would have done.

Who watches a plant has a history of it, from which the detectors know what is normal; a minute of demo has none. So the
simulated plant runs for some time before its servers are up, and its recording becomes the beginning of the journal,
with a map, links and a tick a second. All behind the journal is the product's own work: the seconds until the broker is
up are a gap of each source, as after any other start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from adapters.recording import Columns, Line, Lines, read_csv
from adapters.timestamps import parser
from adapters.values import from_json, from_text
from broker.config.model import Config
from broker.journal import JournalWriter
from broker.tagmap import load
from schemas.entries import Link, MapInForce, Tick
from schemas.samples import Origin, SampleBatch
from schemas.status import Flag
from schemas.tagmap import TagMap

_SECOND_NS: Final = 1_000_000_000
#: All of it is durable before the broker starts; a slow disk takes a second.
_DURABLE_S: Final = 60.0


class Entered(NamedTuple):
    """How much came into the journal: values, and the seconds that they span."""

    values: int
    seconds: float


def enter(recording: Path, config: Config, until_ns: int) -> Entered:
    """
    Make the journal of *config* begin with a wide CSV recording whose last row is at *until_ns* (UTC).

    Raises:
        ValueError: the recording has no row, or a line that cannot be read.
        JournalError: the journal cannot be written.
    """
    tag_map = load(config)
    rows = list(_rows(recording, tag_map))
    if not rows:
        raise ValueError(f"{recording} has no row")
    shift_ns = until_ns - rows[-1][0]
    # the monotonic clock as it was at those times
    boot_ns = time.time_ns() - time.monotonic_ns()
    now = [rows[0][0] + shift_ns]
    directory = config.data_dir / "journal"
    directory.mkdir(parents=True, exist_ok=True)
    writer = JournalWriter(directory, config.journal, now_ns=lambda: now[0], mono_ns=lambda: now[0] - boot_ns)
    writer.open()
    values = 0
    try:
        writer.append(MapInForce(tag_map.revision, tag_map.body))
        for source in config.sources:
            writer.append(Link(source, True))
        for _, lines in groupby(rows, key=lambda row: row[0] // _SECOND_NS):
            second = [(at_ns + shift_ns, line) for at_ns, line in lines]
            now[0] = second[-1][0]
            for batch in _batches(second, tag_map, config):
                values += len(batch)
                writer.append(batch)
            last = writer.append(Tick())
        last.result(_DURABLE_S)
    finally:
        writer.close()
    return Entered(values, (rows[-1][0] - rows[0][0]) / _SECOND_NS)


def _rows(recording: Path, tag_map: TagMap) -> Iterator[tuple[int, Line]]:
    """Time and line of each row."""
    columns = Columns(
        "time",
        parser("epoch_ms", None),
        {tag.address: (tag.number, from_text(tag.type), from_json(tag.type)) for tag in tag_map.tags},
    )
    with recording.open("rb") as file:
        for line in read_csv(Lines(file), columns, ","):
            if line.refused or line.time_ns is None:
                raise ValueError(f"{recording}:{line.place.number}: {'; '.join(line.refused) or 'no time'}")
            yield line.time_ns, line


def _batches(second: list[tuple[int, Line]], tag_map: TagMap, config: Config) -> Iterator[SampleBatch]:
    """What each source said within one second; received when its last row was taken."""
    received_ns = second[-1][0]
    for source, kind in config.kinds.items():
        # arrival times rise from row to row, as acquire gives them where the protocol has no clock
        step_ns = int(kind == "modbus")
        found = [
            (at_ns + place * step_ns, cell)
            for at_ns, line in second
            for place, cell in enumerate(line.cells)
            if tag_map.tags[cell.tag].source == source
        ]
        if not found:
            continue
        yield SampleBatch.build(
            source,
            tag_map.revision,
            received_ns,
            tag=[cell.tag for _, cell in found],
            source_ns=[at_ns for at_ns, _ in found],
            value=[cell.value for _, cell in found],
            flags=[cell.flags | (Flag.ARRIVAL_TIME if step_ns else 0) for _, cell in found],
            exact={row: cell.exact for row, (_, cell) in enumerate(found) if cell.exact is not None},
            origin=Origin.REPLAY,
        )
