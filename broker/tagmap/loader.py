"""From the tag-map files to a :class:`schemas.tagmap.TagMap`; every problem of all files in one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from adapters.base import REGISTRY
from broker.config.loader import tidy
from broker.config.model import Config
from broker.config.validate import nearest
from broker.config.yaml_lines import Node, dotted, read_yaml, shown_name
from broker.map_changes import compare
from broker.tagmap.catalogues import catalogues
from broker.tagmap.entry import EquipmentEntry
from broker.tagmap.files import Gathered, gather
from broker.tagmap.releases import release_rules
from broker.tagmap.resolve import Surroundings, resolve
from broker.tagmap.suppress import calendar, rules
from schemas.errors import ConfigError, Problem
from schemas.suppression import under
from schemas.tagmap import Equipment, Tag, TagMap

Placed = tuple[Tag, Node]


def load(config: Config) -> TagMap:
    """The resolved map of all files that ``tag_maps`` names. Raises ConfigError with every problem found."""
    found, problems = load_with_problems(config)
    if found is None:
        raise ConfigError([problem for problem in problems if not problem.warning])
    return found


def load_with_problems(
    config: Config, broken: frozenset[str] = frozenset(), in_force: TagMap | None = None
) -> tuple[TagMap | None, list[Problem]]:
    """
    The map, or None when a problem blocks, and every problem and warning.

    *broken* names sources that are configured but not usable; their tags are checked as far as they can be. Against the
    map *in_force* it is told which history a restart would leave behind.
    Tags are numbered in the order of their paths, so that equal files give equal maps.
    """
    files = gather(config.base_dir, config.tag_maps, shown_name(config.path))
    around = Surroundings(config.site.path, config.sources, config.kinds, broken, files.enums, files.problems)
    placed: list[Placed] = []
    for entry, node, wrong in files.tags:
        tag = resolve(entry, node, around, wrong)
        if tag is not None and entry.enabled:
            placed.append((tag, node))
    problems = files.problems
    _duplicates(files, problems)
    _same_address(placed, problems)
    _doubtful(config, placed, problems)
    equipment = _equipment(files, placed, config.site.path, problems)
    known = [item.path for item in equipment]
    owners = {*known, *(_owned(tag, known).equipment for tag, _ in placed)}
    windows = calendar(files.windows, config.site.timezone, owners, problems)
    _event_owners(config, owners, problems)
    used = {item.equipment_class for item in equipment if item.equipment_class}
    faults = catalogues(files.catalogues, used, problems)
    sound = all(problem.warning for problem in problems)
    problems += release_rules(config, faults, owners if sound else ())
    if any(not problem.warning for problem in problems):
        return None, _condensed(problems)
    _loops([(_owned(tag, known), node) for tag, node in placed], problems)
    if any(not problem.warning for problem in problems):
        return None, _condensed(problems)
    tags = [_owned(tag, known) for tag, _ in sorted(placed, key=lambda pair: pair[0].path)]
    problems += _unused(config, tags)
    numbered = tuple(tag.model_copy(update={"number": number}) for number, tag in enumerate(tags))
    tag_map = TagMap(site=config.site.path, tags=numbered, equipment=equipment, calendar=windows, catalogues=faults)
    if in_force is not None:
        _left_behind(in_force, tag_map, placed, problems)
    return tag_map, _condensed(problems)


def _left_behind(in_force: TagMap, tag_map: TagMap, placed: Iterable[Placed], problems: list[Problem]) -> None:
    """Tags that would begin anew although they look like one of the map in force, or have another unit than there."""
    nodes = {tag.path: node for tag, node in placed}
    for change in compare(in_force, tag_map):
        before, after = change.before, change.after
        if change.kind not in ("renamed?", "unit") or before is None or after is None:
            continue
        if change.kind == "unit":
            where = nodes[change.path].at(("unit",))
            message = f"{after.unit}, was {before.unit}: what is stored keeps {before.unit}"
            hint = "if that was wrong, replay after the restart"
            problems.append(where.problem(f"{change.path}: unit", "unit_changed", message, hint, warning=True))
            continue
        where = nodes[change.path].at(("id",))
        message = f"a new tag, which reads what {before.path} did: the history of that one would end"
        hint = f"if it is the same tag, give it id: {before.id}"
        problems.append(where.problem(f"{change.path}: id", "history_lost", message, hint, warning=True))


def _duplicates(files: Gathered, problems: list[Problem]) -> None:
    paths: dict[str, Node] = {}
    ids: dict[str, Node] = {}
    for entry, node, _ in files.tags:
        for option, value, seen in (("path", entry.path, paths), ("id", entry.id, ids)):
            if value is None:
                continue
            where = node.at((option,))
            first = seen.setdefault(value, where)
            if first is not where:
                message = f"{value} is already in {first.file}:{first.line}"
                problems.append(where.problem(f"{entry.path}: {option}", f"duplicate_{option}", message))


def _same_address(placed: Iterable[Placed], problems: list[Problem]) -> None:
    seen: dict[tuple[str, str], tuple[str, Node]] = {}
    for tag, node in placed:
        where = node.at(("address",))
        path, first = seen.setdefault((tag.source, tag.address), (tag.path, where))
        if first is not where or path != tag.path:
            message = f"{path} in {first.file}:{first.line} reads {tag.address} of {tag.source} too"
            problems.append(where.problem(f"{tag.path}: address", "duplicate_address", message, warning=True))


def _doubtful(config: Config, placed: Iterable[Placed], problems: list[Problem]) -> None:
    """What a source's kind does not trust in the addresses: told once for all tags of the source."""
    found: dict[tuple[str, str], list[Placed]] = {}
    for tag, node in placed:
        message = REGISTRY[config.kinds[tag.source]].doubt_tag(config.sources[tag.source], tag)
        if message is not None:
            found.setdefault((tag.source, message), []).append((tag, node))
    for (_, message), those in found.items():
        tag, node = those[0]
        hint = f"and {len(those) - 1} more tags" if len(those) > 1 else ""
        where = node.at(("address",))
        problems.append(where.problem(f"{tag.path}: address", "doubtful_address", message, hint, warning=True))


def _equipment(files: Gathered, placed: list[Placed], site: str, problems: list[Problem]) -> tuple[Equipment, ...]:
    tags = {tag.path: tag for tag, _ in placed}
    mentioned = {entry.path for entry, _, _ in files.tags}
    out: dict[str, Equipment] = {}
    for entry, node in files.equipment:
        if entry.path in out:
            problems.append(node.at(("path",)).problem(entry.path, "duplicate_path", "the equipment is there twice"))
        if entry.path != site and not entry.path.startswith(site + "/"):
            message = f"the path does not begin with the site's, {site}/"
            problems.append(node.at(("path",)).problem(entry.path, "bad_path", message))
        if entry.state is not None and entry.state not in mentioned:
            hint = nearest(entry.state, mentioned)
            where = node.at(("state",))
            problems.append(
                where.problem(f"{entry.path}: state", "unknown_tag", f"there is no tag {entry.state}", hint)
            )
        out[entry.path] = Equipment(
            path=entry.path,
            level=entry.level,
            equipment_class=entry.class_,
            state=entry.state,
            running=_running(entry, node, tags.get(entry.state or ""), problems),
            hold_off_s=entry.hold_off,
            sap_object=entry.sap.object if entry.sap else None,
            sap_kind=entry.sap.kind if entry.sap else "EAMS_EQUI",
            sap_plant=entry.sap.plant if entry.sap else None,
            suppress=rules(entry, node, tags, mentioned, problems),
        )
    return tuple(out[path] for path in sorted(out))


def _running(entry: EquipmentEntry, node: Node, state: Tag | None, problems: list[Problem]) -> tuple[int, ...]:
    texts = {text: number for number, text in ((state.enum or {}) if state else {}).items()}
    numbers: list[int] = []
    for index, item in enumerate(entry.running):
        where = node.at(("running", index))
        if entry.state is None:
            problems.append(where.problem(f"{entry.path}: running", "missing_key", "running needs state", ""))
            return ()
        if isinstance(item, int) and (not texts or item in texts.values()):
            numbers.append(item)
        elif isinstance(item, str) and item in texts:
            numbers.append(texts[item])
        elif state is not None:
            message = f"{item!r} is not in the enum of {state.path}"
            problems.append(where.problem(f"{entry.path}: running", "unknown_enum", message, nearest(item, texts)))
    return tuple(numbers)


def _loops(placed: Iterable[Placed], problems: list[Problem]) -> None:
    """A named loop is one process value, one set point and at most one output of one piece of equipment."""
    loops: dict[tuple[str, str], dict[str, Placed]] = {}
    for tag, node in placed:
        if not tag.loop:
            continue
        where = node.at(("loop",))
        if tag.role not in ("pv", "sp", "out"):
            message = f"a tag of the loop {tag.loop} needs the role pv, sp or out"
            problems.append(where.problem(f"{tag.path}: loop", "bad_loop", message))
            continue
        first, _ = loops.setdefault((tag.equipment, tag.loop), {}).setdefault(tag.role, (tag, node))
        if first is not tag:
            message = f"{first.path} is the {tag.role} of the loop {tag.loop} already"
            problems.append(where.problem(f"{tag.path}: loop", "bad_loop", message))
    for (_, loop), roles in loops.items():
        missing = [role for role in ("pv", "sp") if role not in roles]
        if missing:
            tag, node = next(iter(roles.values()))
            message = f"the loop {loop} has no tag of role {' and none of role '.join(missing)}"
            problems.append(node.at(("loop",)).problem(f"{tag.path}: loop", "bad_loop", message))


def _event_owners(config: Config, owners: set[str], problems: list[Problem]) -> None:
    """Events belong to equipment of the map, or to something above it."""
    shown = shown_name(config.path)
    for name, options in config.sources.items():
        for index, one in enumerate(getattr(options, "events", ())):
            if not one.equipment or any(under(owner, one.equipment) for owner in owners):
                continue
            place = ("sources", name, "events", index, "equipment")
            top, _ = read_yaml(config.path, shown)
            where = top.at(place) if top is not None else Node(shown, 0, 0, None)
            message, hint = f"no tag belongs to {one.equipment}", nearest(one.equipment, owners)
            problems.append(where.problem(dotted(place), "unknown_equipment", message, hint))


def _owned(tag: Tag, equipment: list[str]) -> Tag:
    above = [path for path in equipment if tag.path.startswith(path + "/")]
    return tag.model_copy(update={"equipment": max(above, key=len) if above else tag.path.rsplit("/", 1)[0]})


def _unused(config: Config, tags: list[Tag]) -> list[Problem]:
    file = shown_name(config.path)
    used = Counter(tag.source for tag in tags)
    return [
        Problem(file, 0, 0, f"sources.{name}", "unused_source", "no tag names this source", "", True)
        for name, options in config.sources.items()
        if options.enabled and not used[name]
    ]


def _condensed(problems: list[Problem]) -> list[Problem]:
    """One problem for all tags that a template or a default makes wrong at the same place."""
    groups: dict[tuple[str, int, int, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.file, problem.line, problem.column, problem.code, problem.message), []).append(
            problem
        )
    out = []
    for same in groups.values():
        paths = {problem.path for problem in same}
        more = f"and {len(paths) - 1} more tags" if len(paths) > 1 and same[0].line else ""
        hint = "; ".join(text for text in (same[0].hint, more) if text)
        out += [replace(same[0], hint=hint)] if same[0].line else list(dict.fromkeys(same))
    return tidy(out)
