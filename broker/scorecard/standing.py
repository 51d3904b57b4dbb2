"""
Whether a model's answers count, or only stand beside the rules': its score card decides.

Looked up for each answer, so that a card that is made while the broker runs holds from the next answer on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from broker.scorecard import cards
from llm.options import Mode
from llm.prompt import PROMPT_VERSION
from schemas.annotation import Annotation
from schemas.errors import Refused
from schemas.scorecard import ScoreCard

#: What makes a card, for messages.
COMMAND: Final = "fairlead llm bench"
SEE: Final = "fairlead llm card"


@dataclass(frozen=True, slots=True)
class Standing:
    """
    What a model's answers count for, and by which card.

    ``reason`` says why they are advisory, ``help`` what to do about it; both are empty where they count.
    """

    mode: Literal["annotate", "advisory"]
    card: ScoreCard | None = None
    reason: str = ""
    help: str = ""

    @property
    def card_id(self) -> str:
        """The card in force, or the one that did not pass; empty without one."""
        return self.card.card_id if self.card is not None else ""


#: The standing of the model file with a hash; empty where the model has none.
StandingOf = Callable[[str], Standing]


def judge(card: ScoreCard | None, mode: Mode) -> Standing:
    """What a card is worth for answers of this version, where the site asks for *mode*."""
    if card is None:
        return Standing("advisory", None, "this model has no score card", COMMAND)
    if card.prompt_version != PROMPT_VERSION:
        old = f"its score card is of prompt version {card.prompt_version}, this is version {PROMPT_VERSION}"
        return Standing("advisory", card, old, COMMAND)
    if not card.passed:
        more = f" (and {len(card.reasons) - 1} more)" if len(card.reasons) > 1 else ""
        why = card.reasons[0] if card.reasons else "no reason is given"
        return Standing("advisory", card, f"its score card did not pass: {why}{more}", SEE)
    if mode == "advisory":
        return Standing("advisory", card, "llm.mode is advisory", "llm.mode: annotate")
    return Standing("annotate", card)


class Standings:
    """Standings of models by their files' hashes; a card is read again when its file has changed."""

    def __init__(self, data_dir: Path, mode: Mode) -> None:
        self._data_dir = data_dir
        self._mode = mode
        self._known: dict[str, tuple[object, Standing]] = {}

    def __call__(self, sha256: str) -> Standing:
        """The standing now. Never raises."""
        if not sha256:
            return Standing("advisory", None, "this model has no file hash that a score card could name", COMMAND)
        state = self._state(sha256)
        known = self._known.get(sha256)
        if known is None or known[0] != state:
            known = self._known[sha256] = (state, self._read(sha256))
        return known[1]

    def _state(self, sha256: str) -> object:
        try:
            found = cards.path_of(self._data_dir, sha256).stat()
        except (OSError, ValueError):
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self, sha256: str) -> Standing:
        try:
            card = cards.load(self._data_dir, sha256)
        except (Refused, ValueError) as error:
            return Standing("advisory", None, f"its score card cannot be used: {error}", COMMAND)
        return judge(card, self._mode)


def stamped(annotation: Annotation, standing: Standing) -> Annotation:
    """
    A model's annotation with the card it was made under; advisory where the model's answers are.

    A card speaks for the way in which it asked: another prompt style or family is another model to it.
    """
    card, known = standing.card, annotation.provenance
    reason = standing.reason
    if standing.mode == "annotate" and card is not None and (card.style, card.family) != (known.style, known.family):
        reason = f"its score card asked as {card.family} {card.style}, and it is asked as {known.family} {known.style}"
    provenance = known.model_copy(update={"card_id": standing.card_id, "advisory_reason": reason})
    return annotation.counted_as("advisory" if reason else "model", provenance)
