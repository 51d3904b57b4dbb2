"""
Exact checks of an answer against its evidence. None of them needs a second model, because everything cites ids.

Applied to the model's output in the core process: the worker is not trusted with its own verdict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from llm.wording import OWN, label
from schemas.annotation import UNKNOWN, Cause, citations, uncited_digits
from schemas.evidence import Evidence

#: Words that claim a direction. Directions are rendered from the cited fact by code, so free text needs none.
_DIRECTION: Final = re.compile(
    r"\b(rose|rises?|rising|risen|fell|falls?|falling|fallen|increas\w*|decreas\w*|declin\w*|drop(s|ped|ping)?"
    r"|climb(s|ed|ing)?|jump(s|ed|ing)?|spik(es?|ed|ing)|higher|lower|flatlin\w*|silent)\b",
    re.IGNORECASE,
)
_ACTION: Final = re.compile(r"[A-Za-z][ !$%'()*+,./:;=?@A-Z_a-z-]{3,79}")
_FREE: Final = re.compile(r"[ !$%'()*+,./:;=?@A-Z\[\]_a-z0-9-]*")


def claims_direction(text: str) -> bool:
    """Whether a text says which way something moved."""
    return _DIRECTION.search(text) is not None


def check(evidence: Evidence, causes: Sequence[Cause], text: str) -> dict[str, bool]:
    """What holds for every annotation, whoever wrote it: check name to whether it passed."""
    ids = {fact.id for fact in evidence.facts}
    options = {option.id for option in evidence.causes} | {UNKNOWN}
    cited = [i for cause in causes for i in cause.cites]
    return {
        "causes_listed": all(cause.id in options for cause in causes),
        "causes_differ": len({cause.id for cause in causes}) == len(causes),
        "cited_facts_exist": all(i in ids for i in cited),
        "text_cites_existing_facts": all(i in ids for i in citations(text)),
        "no_uncited_digit": not uncited_digits(text),
    }


def check_model(evidence: Evidence, causes: Sequence[Cause], actions: Sequence[str], text: str) -> dict[str, bool]:
    """
    The checks above and those for a model's own words; ``actions`` are ids, and one in its words.

    A direction word inside the name of a catalogued cause (``load drop``) is no claim.
    """
    listed = {action.id for action in evidence.actions}
    named = [action for action in actions if not action.startswith(OWN)]
    own = [action.removeprefix(OWN) for action in actions if action.startswith(OWN)]
    said = text.lower()
    for option in evidence.causes:
        said = said.replace(label(option.id), "")
    return check(evidence, causes, text) | {
        "actions_listed": all(action in listed for action in named),
        "own_action_plain": len(own) <= 1 and all(_ACTION.fullmatch(action) for action in own),
        "text_cites": not evidence.facts or bool(citations(text)),
        "text_characters": _FREE.fullmatch(text) is not None,
        "no_direction_claim": not claims_direction(said),
    }
