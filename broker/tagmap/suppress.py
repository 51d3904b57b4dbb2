"""Suppression by design and the calendar: from entries to what the stream carries."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from broker.config.validate import nearest
from broker.config.yaml_lines import Node
from broker.tagmap.entry import EquipmentEntry, RuleEntry, WindowEntry
from schemas.calendar import DAYS, Window
from schemas.errors import Problem
from schemas.suppression import Rule, under
from schemas.tagmap import Tag

_DAY_MIN: Final = 24 * 60


def rules(
    entry: EquipmentEntry, node: Node, tags: Mapping[str, Tag], mentioned: Collection[str], problems: list[Problem]
) -> tuple[Rule, ...]:
    """The rules of a piece of equipment; *mentioned* are paths of tags that stand in a file, right or wrong."""
    found = []
    for index, one in enumerate(entry.suppress):
        where = node.at(("suppress", index))
        path = f"{entry.path}: suppress[{index}]"
        if one.when not in mentioned:
            hint = nearest(one.when, mentioned)
            problems.append(where.at(("when",)).problem(path, "unknown_tag", f"there is no tag {one.when}", hint))
        if not one.in_ and one.above is None and one.below is None:
            problems.append(where.problem(path, "missing_key", "a rule needs in, above or below"))
        found.append(
            Rule(
                when=one.when,
                values=_values(one, where, path, tags.get(one.when), problems),
                above=one.above,
                below=one.below,
                tags=_tags(entry.path, one, where, path, mentioned, problems),
                kinds=one.kinds,
                reason=one.reason,
            )
        )
    return tuple(found)


def _values(one: RuleEntry, where: Node, path: str, tag: Tag | None, problems: list[Problem]) -> tuple[float, ...]:
    texts = {text: number for number, text in ((tag.enum or {}) if tag else {}).items()}
    numbers: list[float] = []
    for index, item in enumerate(one.in_):
        if isinstance(item, str):
            if item in texts:
                numbers.append(float(texts[item]))
            elif tag is not None:
                message = f"{item!r} is not in the enum of {tag.path}"
                at = where.at(("in", index))
                problems.append(at.problem(path, "unknown_enum", message, nearest(item, texts)))
        else:
            numbers.append(float(item))
    return tuple(numbers)


def _tags(
    equipment: str, one: RuleEntry, where: Node, path: str, mentioned: Collection[str], problems: list[Problem]
) -> tuple[str, ...]:
    own = sorted(tag for tag in mentioned if tag.startswith(equipment + "/"))
    chosen: dict[str, None] = {}
    for index, name in enumerate(one.tags):
        matches = [tag for tag in own if fnmatch.fnmatchcase(tag[len(equipment) + 1 :], name)]
        if not matches:
            names = [tag[len(equipment) + 1 :] for tag in own]
            message = f"{equipment} has no tag {name}"
            problems.append(where.at(("tags", index)).problem(path, "unknown_tag", message, nearest(name, names)))
        chosen.update(dict.fromkeys(matches))
    return tuple(chosen)


def calendar(
    windows: list[tuple[WindowEntry, Node]], timezone: str, equipment: Collection[str], problems: list[Problem]
) -> tuple[Window, ...]:
    """The windows of all files in the order of their names; *equipment* is what tags belong to."""
    found: dict[str, Window] = {}
    for entry, node in windows:
        path = f"calendar {entry.name}"
        if entry.name in found:
            problems.append(node.at(("name",)).problem(path, "duplicate_key", "the calendar has this name twice"))
        zone = entry.timezone or timezone
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            message = f"{zone!r} is not an IANA time zone such as Europe/Paris"
            problems.append(node.at(("timezone",)).problem(path, "bad_value", message))
        for index, top in enumerate(entry.equipment):
            if not any(under(item, top) for item in equipment):
                at = node.at(("equipment", index))
                hint = nearest(top, equipment)
                problems.append(at.problem(path, "unknown_equipment", f"no tag belongs to {top}", hint))
        if entry.every > 1 and entry.first is None:
            problems.append(node.problem(path, "missing_key", "every needs first: the week from which it counts"))
        if entry.first is not None and entry.last is not None and entry.last < entry.first:
            problems.append(node.at(("last",)).problem(path, "bad_value", "the last day is before the first"))
        start, stop = _minutes(entry.from_), _minutes(entry.to)
        found[entry.name] = Window(
            name=entry.name,
            kind=entry.kind,
            paths=entry.equipment,
            days=tuple(sorted({DAYS.index(day) for day in entry.days})),
            start_min=start,
            minutes=(stop - start) % _DAY_MIN or _DAY_MIN,
            timezone=zone,
            every=entry.every,
            first=entry.first,
            last=entry.last,
            without=tuple(sorted(entry.without)),
        )
    return tuple(found[name] for name in sorted(found))


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
