"""The site's own causes and actions: from entries to the complete catalogue of a class, as the stream carries it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from broker.catalogue import GENERIC, Catalogue, catalogue, classes
from broker.config.validate import nearest
from broker.config.yaml_lines import Node
from broker.tagmap.entry import CatalogueEntry, CauseEntry
from schemas.annotation import UNKNOWN
from schemas.errors import Problem
from schemas.evidence import Action, CauseOption, Expect
from schemas.tagmap import FaultCatalogue

#: Begins a catalogue with nothing.
NOTHING: Final = "none"
#: A model is shown so many causes and actions of a class.
MOST_CAUSES: Final = 20
MOST_ACTIONS: Final = 24
_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")


def catalogues(
    entries: Iterable[tuple[CatalogueEntry, Node]], used: Collection[str], problems: list[Problem]
) -> tuple[FaultCatalogue, ...]:
    """The catalogues of all entries, in order of their classes; *used* are the classes that equipment has."""
    found: dict[str, FaultCatalogue] = {}
    for entry, node in entries:
        path = f"catalogue {entry.class_}"
        where = node.at(("class",))
        if entry.class_ in found:
            problems.append(where.problem(path, "duplicate_key", "the class has a catalogue already"))
            continue
        if entry.class_ not in used:
            hint = nearest(entry.class_, used)
            message = f"no equipment has the class {entry.class_}"
            problems.append(where.problem(path, "unknown_equipment", message, hint, warning=True))
        base = _base(entry, node, path, problems)
        if base is not None:
            found[entry.class_] = _made(entry, base, node, path, problems)
    return tuple(found[name] for name in sorted(found))


def _base(entry: CatalogueEntry, node: Node, path: str, problems: list[Problem]) -> Catalogue | None:
    if entry.base == NOTHING:
        return Catalogue(entry.class_, (), ())
    name = entry.base or (entry.class_ if entry.class_ in classes() else GENERIC)
    if name in classes():
        return catalogue(name)
    message = f"there is no shipped catalogue {name}"
    hint = nearest(name, classes()) or f"one of {', '.join(classes())}, {NOTHING}"
    problems.append(node.at(("base",)).problem(f"{path}: base", "bad_value", message, hint))
    return None


def _made(entry: CatalogueEntry, base: Catalogue, node: Node, path: str, problems: list[Problem]) -> FaultCatalogue:
    shipped = {option.id: option for option in base.causes}
    for index, name in enumerate(entry.without):
        if name not in shipped:
            where = node.at(("without", index))
            message = f"the base has no cause {name}"
            problems.append(where.problem(f"{path}: without", "bad_value", message, nearest(name, shipped)))
    for kind, names in (("actions", entry.actions), ("causes", entry.causes)):
        for name in names:
            if not _ID.fullmatch(name) or name == UNKNOWN:
                message = f"{name!r} is not a name for it"
                hint = f"small letters, digits and _, a letter first, and not {UNKNOWN}"
                where = node.at((kind, name))
                problems.append(where.problem(f"{path}: {kind}.{name}", "bad_value", message, hint))
    texts = {action.id: action.text for action in base.actions} | entry.actions
    causes = {name: option for name, option in shipped.items() if name not in entry.without}
    for name, cause in entry.causes.items():
        made = _cause(name, cause, texts, node, path, problems)
        if made is not None:
            causes[name] = made
    used = {action for option in causes.values() for action in option.actions}
    actions = tuple(Action(id=name, text=text) for name, text in texts.items() if name in used or name in entry.actions)
    for what, number, most in (("causes", len(causes), MOST_CAUSES), ("actions", len(actions), MOST_ACTIONS)):
        if number > most:
            message = f"with its base it has {number} {what}; {most} are allowed"
            problems.append(node.problem(path, "bad_value", message, "leave some of the base out with without"))
    if not causes:
        problems.append(node.problem(path, "missing_key", "no cause is left"))
    return FaultCatalogue(equipment_class=entry.class_, causes=tuple(causes.values()), actions=actions)


def _cause(
    name: str, cause: CauseEntry, texts: Collection[str], node: Node, path: str, problems: list[Problem]
) -> CauseOption | None:
    """The cause; None where its name is none, which is told already."""
    shown = f"{path}: causes.{name}"
    for index, action in enumerate(cause.actions):
        if action not in texts:
            where = node.at(("causes", name, "actions", index))
            message = f"there is no action {action}"
            problems.append(where.problem(f"{shown}.actions", "bad_value", message, nearest(action, texts)))
    for pattern in cause.signs:
        if not pattern.strip() or not re.search(r"[^\W_]|\*", pattern):
            where = node.at(("causes", name, "signs"))
            problems.append(where.problem(f"{shown}.signs", "bad_value", f"{pattern!r} is no name of a tag"))
    if not _ID.fullmatch(name) or name == UNKNOWN:
        return None
    return CauseOption(
        id=name,
        text=cause.text,
        mechanism=cause.mechanism,
        signs=tuple(Expect(name=pattern, direction=direction) for pattern, direction in cause.signs.items()),
        actions=cause.actions,
    )
