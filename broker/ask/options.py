"""Options of questions."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.quantities import Duration

_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class AskOptions(BaseModel):
    """Options of questions (``ask`` in fairlead.yaml)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shifts: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=12, description="Begins of the shifts, `HH:MM` in the site's time zone."),
    ] = ("06:00", "14:00", "22:00")
    longest: Annotated[Duration, Field(gt=0, description="Longest window that a question may have.")] = 31 * 86400.0
    model_deadline: Annotated[
        Duration,
        Field(gt=0, le=8, description="Longest wait for a model to read a question that the common forms do not fit."),
    ] = 6.0

    @field_validator("shifts")
    @classmethod
    def _clocks(cls, shifts: tuple[str, ...]) -> tuple[str, ...]:
        for text in shifts:
            if not _CLOCK.fullmatch(text):
                raise ValueError(f"{text!r} is not a time of day; write it like 06:00")
        if list(shifts) != sorted(set(shifts)):
            raise ValueError("the begins of the shifts are not in rising order")
        return shifts
