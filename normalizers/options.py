"""Options of ``normalize``."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.quantities import Duration


class NormalizerOptions(BaseModel):
    """Options of ``normalize``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    future_limit: Annotated[
        Duration, Field(gt=0, description="A device time further ahead of ours is replaced by the time of arrival.")
    ] = 300.0
    skew_warn: Annotated[Duration, Field(gt=0, description="A source whose clock is off by more is shown as such.")] = (
        10.0
    )
