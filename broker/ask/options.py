"""Options of questions."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.quantities import Duration


class AskOptions(BaseModel):
    """Options of questions (``ask`` in fairlead.yaml)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    longest: Annotated[Duration, Field(gt=0, description="Longest window that a question may have.")] = 31 * 86400.0
    model_deadline: Annotated[
        Duration,
        Field(gt=0, le=8, description="Longest wait for a model to read a question that the common forms do not fit."),
    ] = 6.0
