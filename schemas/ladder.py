"""
The sovereign ladder: where a model comes from and stands, and why a person chose it for a use.

A choice is a recorded decision over six axes in a person's words; nothing here computes a score.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: Steps of the ladder, lowest first; see :data:`RUNGS`.
Rung = Literal["builtin", "mistral", "open_weights", "site_server", "air_gapped", "frontier"]
#: What each step means, as people read it.
RUNGS: Final[dict[str, str]] = {
    "builtin": "the small model that ships in the package",
    "mistral": "weights of Mistral AI on this machine; the default choice",
    "open_weights": "other open weights on this machine",
    "site_server": "a model server of the site, reached over its network",
    "air_gapped": "a server of the operator elsewhere, in a network without a way out",
    "frontier": "a model of somebody else, outside the operator's walls",
}
#: Steps on which evidence leaves this machine: refused without a recorded decision.
NEEDS_DECISION: Final = frozenset({"site_server", "air_gapped", "frontier"})

#: What a model is chosen for.
Use = Literal["annotation", "questions"]
USES: Final = get_args(Use)

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Axes(BaseModel):
    """What speaks for and against the choice, one text an axis."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_residency: Words = Field(description="Where evidence goes and stays.")
    regulation: Words = Field(description="Which rules apply (EU AI Act, export, contracts), and how they are met.")
    latency: Words = Field(description="How long an answer takes, and whether that is soon enough.")
    capability: Words = Field(description="How well it does: the score card, and what it cannot.")
    cost: Words = Field(description="Machine, licence, operation.")
    lock_in: Words = Field(description="What it takes to go away from it again.")


class DecisionFile(BaseModel):
    """A decision as a person writes it down (``fairlead model decide --file``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rung: Rung | None = Field(None, description="Step of the ladder; needed only where the model does not say it.")
    axes: Axes
    alternatives: tuple[Words, ...] = Field((), max_length=20, description="What else was looked at.")
    reason: Words = Field(description="Why this model, in one paragraph.")


class Decision(BaseModel):
    """
    A recorded choice: for *use*, the site has chosen *model*.

    ``model`` is named as ``llm.model`` names it, without a version: ``registry:plant-7b``, ``builtin:plant-tiny``.
    The newest decision of a use is the one in force.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: Use
    model: str = Field(min_length=1, max_length=300)
    rung: Rung
    axes: Axes
    alternatives: tuple[Words, ...] = ()
    reason: Words
