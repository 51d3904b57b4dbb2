"""What the rules of ``review.policy`` name: causes of a catalogue in force, and equipment of the map."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from broker.catalogue import catalogue, classes
from broker.config.model import Config
from broker.config.validate import nearest
from broker.config.yaml_lines import Node, dotted, read_yaml, shown_name
from schemas.annotation import UNKNOWN
from schemas.errors import Problem
from schemas.tagmap import FaultCatalogue


def release_rules(config: Config, faults: Iterable[FaultCatalogue], owners: Collection[str]) -> list[Problem]:
    """
    Causes that no catalogue has, shipped or the site's, and patterns that fit none of the equipment, as warnings.

    A rule with either would never release anything, and nobody would be told. Plant data do not stop for it.
    """
    policy = config.review.policy
    if policy is None:
        return []
    shown = shown_name(config.path)
    top, _ = read_yaml(config.path, shown)
    named = {option.id for name in classes() for option in catalogue(name).causes}
    named |= {option.id for fault in faults for option in fault.causes}
    problems = []

    def at(*place: str | int) -> tuple[Node, str]:
        whole = ("review", "policy", "rules", *place)
        return (Node(shown, 0, 0, None) if top is None else top.at(whole)), dotted(whole)

    for number, rule in enumerate(policy.rules):
        for index, cause in enumerate(rule.causes):
            if cause not in named:
                node, path = at(number, "causes", index)
                hint = "what nobody can name is never released" if cause == UNKNOWN else nearest(cause, named)
                message = f"no catalogue has the cause {cause}: the rule releases nothing for it"
                problems.append(node.problem(path, "bad_value", message, hint, warning=True))
        if owners and not any(fnmatchcase(owner, rule.equipment) for owner in owners):
            node, path = at(number, "equipment")
            message = f"{rule.equipment} fits no equipment of the tag map: the rule releases nothing"
            hint = nearest(rule.equipment, owners)
            problems.append(node.problem(path, "unknown_equipment", message, hint, warning=True))
    return problems
