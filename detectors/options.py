"""Options of ``detection``."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.quantities import Duration, Share

_BUDGET: Final = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?) per tag per (day|week)\s*$")
_EQUIPMENT_BUDGET: Final = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?) per equipment per (day|week)\s*$")
_PERIOD_S: Final = {"day": 86_400.0, "week": 604_800.0}

Health = Literal[
    "missing",
    "late",
    "stale",
    "clock",
    "out_of_range",
    "rate",
    "flatline",
    "spike",
    "saturation",
    "quantization",
]
Spc = Literal["shewhart", "ewma", "cusum", "nelson"]
Shape = Literal["level_shift", "trend", "variance", "oscillation"]
Loop = Literal["deviation", "windup", "stiction"]


def _budget(text: str) -> str:
    match = _BUDGET.match(text)
    if match is None or float(match.group(1)) <= 0:
        raise ValueError(
            f"{text!r} is no false-alarm budget; write it like '1 per tag per week' or '0.5 per tag per day'"
        )
    return text


def _equipment_budget(text: str) -> str:
    match = _EQUIPMENT_BUDGET.match(text)
    if match is None or float(match.group(1)) <= 0:
        raise ValueError(f"{text!r} is no false-alarm budget; write it like '1 per equipment per week'")
    return text


def _per_s(match: re.Match[str] | None) -> float:
    assert match is not None
    return float(match.group(1)) / _PERIOD_S[match.group(2)]


class Budget(NamedTuple):
    """False alarms that one chart of a healthy tag may give, per second; and those of its equipment's tags together."""

    tag_per_s: float
    equipment_per_s: float

    def per_s(self, tags: NDArray[np.intp]) -> NDArray[np.float64]:
        """False alarms per second that each of so many tags of one piece of equipment may give."""
        return np.minimum(self.tag_per_s, self.equipment_per_s / np.maximum(tags, 1))


class MultivariateOptions(BaseModel):
    """Options of ``detection.multivariate``: how the tags of one piece of equipment move together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: Annotated[bool, Field(description="false: tags are judged one by one only.")] = True
    false_alarms: Annotated[
        str,
        AfterValidator(_equipment_budget),
        Field(description="False alarms that healthy equipment may give: `<n> per equipment per day|week`."),
    ] = "0.5 per equipment per week"
    tags: Annotated[
        int, Field(ge=2, le=128, description="Most tags of one model; equipment with more is cut into equal groups.")
    ] = 64
    modes: Annotated[
        int, Field(ge=1, le=32, description="Operating modes (state and set points) that are kept for each group.")
    ] = 6
    hold: Annotated[
        Duration, Field(gt=0, description="The last value of a tag counts for so long, and for three scans at least.")
    ] = 600.0
    returned: Annotated[
        float,
        Field(ge=0, lt=1, description="A condition that has fallen to this part of its peak is over; 0: only inside."),
    ] = 0.3

    def alarms_per_s(self) -> float:
        """The false-alarm budget of one piece of equipment per second."""
        return _per_s(_EQUIPMENT_BUDGET.match(self.false_alarms))


class RejectOptions(BaseModel):
    """Options of ``detection.rejects``: when a detector whose findings people reject is told of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: Annotated[Duration, Field(ge=10, description="How often core looks.")] = 300.0
    least: Annotated[
        int,
        Field(
            ge=2, le=500, description="Anomalies of a detector and week with a decision, below which none is judged."
        ),
    ] = 5
    rate: Annotated[
        Share, Field(description="Most of them that people reject for any reason but a wrong cause; above, a notice.")
    ] = 0.3


class DetectionOptions(BaseModel):
    """Options of ``detection``; descriptions are the reference."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: Annotated[bool, Field(description="false: records only, no findings.")] = True
    false_alarms: Annotated[
        str,
        AfterValidator(_budget),
        Field(description="False alarms a healthy tag may give: `<n> per tag per day|week`."),
    ] = "1 per tag per week"
    equipment_false_alarms: Annotated[
        str,
        AfterValidator(_equipment_budget),
        Field(
            description="What the tags of healthy equipment may give together, one by one: `<n> per equipment per "
            "day|week`. Its tags share it equally where that is less than `false_alarms`."
        ),
    ] = "0.5 per equipment per week"
    clean_window: Annotated[
        Duration, Field(gt=0, description="Steady time from which a tag's normal is learned; until then health only.")
    ] = 600.0
    relearn_after: Annotated[
        Duration,
        Field(gt=0, description="A mean that has shifted and stayed at one level for so long is learned as normal."),
    ] = 28_800.0
    hold_off: Annotated[
        Duration, Field(ge=0, description="Quiet time after a change of state or set point; equipment may differ.")
    ] = 120.0
    group_window: Annotated[
        Duration, Field(ge=0, description="Findings this close on one piece of equipment are one anomaly.")
    ] = 60.0
    close_after: Annotated[Duration, Field(gt=0, description="Quiet time after which an anomaly is closed.")] = 300.0
    settle: Annotated[Duration, Field(gt=0, description="Time a control loop may be away from its set point.")] = 120.0
    health: Annotated[
        tuple[Health, ...], Field(description="Signal checks that run; what they find gates the rest.")
    ] = get_args(Health)
    spc: Annotated[
        tuple[Spc, ...], Field(description="Control charts that run. `nelson` (run rules) keeps no budget.")
    ] = ("shewhart", "ewma", "cusum")
    shape: Annotated[tuple[Shape, ...], Field(description="Looks at the last 32 points of each chart that run.")] = (
        get_args(Shape)
    )
    loop: Annotated[
        tuple[Loop, ...], Field(description="Checks of control loops that run, where the map names their tags.")
    ] = get_args(Loop)
    extreme: Annotated[
        bool,
        Field(description="Tell values further out than all before; for tags that burst or wander, as no chart fits."),
    ] = False
    slow_trend: Annotated[bool, Field(description="Look for trends over weeks in daily means.")] = True
    multivariate: MultivariateOptions = MultivariateOptions()
    rejects: Annotated[
        RejectOptions, Field(description="When a detector whose anomalies people reject is told of.")
    ] = RejectOptions()

    def charts(self) -> tuple[str, ...]:
        """The detectors that share a tag's false-alarm budget."""
        return (*self.spc, *self.shape, *(("extreme",) if self.extreme else ()))

    def chart_budget(self) -> Budget:
        """The false-alarm budget of each of :meth:`charts`."""
        count = max(len(self.charts()), 1)
        return Budget(self.alarms_per_s() / count, _per_s(_EQUIPMENT_BUDGET.match(self.equipment_false_alarms)) / count)

    def alarms_per_s(self) -> float:
        """The false-alarm budget of one tag per second."""
        return _per_s(_BUDGET.match(self.false_alarms))
