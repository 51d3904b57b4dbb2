"""``fairlead plan``: what a restart would change, the map on disk against the one in force."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import StoreMissing

if TYPE_CHECKING:
    from broker.map_changes import Change
    from broker.store import Reader
    from schemas.tagmap import TagMap

#: Digits of a revision that people are shown.
_SHORT: Final = 12
#: A device time may be ahead of ours.
_AHEAD_NS: Final = 86_400_000_000_000


def plan(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """
    Compare the tag maps on disk with the map in force, and show what a restart of fairlead run would change.

    Also the last value of each tag that is scaled anew, and what it would have been. Nothing is written. Exit code 0,
    with or without changes; 78 if a map has an error.
    """
    from broker import map_changes, tagmap
    from broker.cli.store_access import reading
    from broker.config import load_config

    on_disk = tagmap.load(load_config(config))
    in_force: TagMap | None = None
    changes: list[Change] = []
    rows: list[dict[str, Any]] = []
    try:
        with reading(config) as (_, reader):
            in_force = reader.map()
            if in_force is not None:
                changes = map_changes.compare(in_force, on_disk)
                rows = [_row(reader, change) for change in changes]
    except StoreMissing:
        pass  # before the first start; told as such
    counts = map_changes.counts(changes)
    if output is Output.JSON:
        revisions = {"in_force": None if in_force is None else in_force.revision.hex()}
        revisions["on_disk"] = on_disk.revision.hex()
        print_json({**revisions, "equal": in_force == on_disk, **counts, "changes": rows})
        return
    for line in _head(in_force, on_disk, counts):
        typer.echo(line)
    if rows:
        shown = [{**row, "last": _number(row["last"]), "becomes": _number(row["becomes"])} for row in rows]
        print_rows(output, ("change", "path", "detail", "last", "becomes"), shown)
        typer.echo("a restart of fairlead run puts the map on disk into force")


def _head(in_force: TagMap | None, on_disk: TagMap, counts: dict[str, int]) -> list[str]:
    now = on_disk.revision.hex()[:_SHORT]
    if in_force is None:
        return [f"no map was in force yet; {now} on disk has {len(on_disk.tags)} tags"]
    was = in_force.revision.hex()[:_SHORT]
    if in_force.revision == on_disk.revision:
        return [f"nothing changes: the map on disk is the one in force, {was}"]
    told = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    return [f"in force {was}, on disk {now}: tags {told}"]


def _row(reader: Reader, change: Change) -> dict[str, Any]:
    """One difference, with the values of a tag whose numbers mean something else now."""
    from broker.map_changes import VALUES, becomes

    row: dict[str, Any] = {
        "change": change.kind,
        "path": change.path,
        "detail": change.text,
        "id": None if (tag := change.after or change.before) is None else tag.id,
        "fields": {name: [was, now] for name, was, now in change.fields},
        "last": None,
        "becomes": None,
    }
    before, after = change.before, change.after
    if change.kind not in VALUES or before is None or after is None:
        return row
    last = reader.last_before(before.path, time.time_ns() + _AHEAD_NS, before.unit)
    if last is None or last.value is None:
        return row
    row["last"] = {"value": last.value, "unit": before.unit, "source_ns": last.source_ns}
    value = becomes(before, after, last.value)
    if value is not None:
        row["becomes"] = {"value": value, "unit": after.unit}
    return row


def _number(found: dict[str, Any] | None) -> str:
    from schemas.annotation import with_unit

    return "" if found is None else with_unit(found["value"], found["unit"])
