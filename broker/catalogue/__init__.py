"""
Fault catalogues by equipment class: causes with their signs, mechanisms (ISO 14224) and actions.

Each file beside this one is one class. A catalogue is data: a cause that no file lists cannot be named by rules or
model, only ``unknown`` can.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from schemas.evidence import Action, CauseOption, Expect

GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Causes and actions of one equipment class."""

    equipment_class: str
    causes: tuple[CauseOption, ...]
    actions: tuple[Action, ...]


def classes() -> tuple[str, ...]:
    """Names of all equipment classes that have a catalogue."""
    return tuple(sorted(f.name[:-5] for f in files(__name__).iterdir() if f.name.endswith(".yaml")))


@cache
def catalogue(equipment_class: str | None) -> Catalogue:
    """Catalogue of a class; the generic one for None and for a class without its own."""
    name = equipment_class if equipment_class in classes() else GENERIC
    body = yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text("utf-8"))
    causes = tuple(
        CauseOption(
            id=cause_id,
            text=cause["text"],
            mechanism=cause["mechanism"],
            signs=tuple(Expect(name=pattern, direction=direction) for pattern, direction in cause["signs"].items()),
            actions=tuple(cause["actions"]),
        )
        for cause_id, cause in body["causes"].items()
    )
    actions = tuple(Action(id=action_id, text=text) for action_id, text in body["actions"].items())
    return Catalogue(body["class"], causes, actions)
