"""Options of the registry of models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.quantities import Duration, Keep, Share


class WatchOptions(BaseModel):
    """Limits of a model in service; over one of them a notice is raised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: Annotated[Duration, Field(ge=10, description="How often core looks.")] = 300.0
    window: Annotated[Keep, Field(ge=3600, description="The time that is judged, up to now.")] = 7 * 86400.0
    least: Annotated[int, Field(ge=5, le=500, description="Answers in the window below which nothing is judged.")] = 30
    baseline: Annotated[
        int, Field(ge=20, le=500, description="The model's first answers, with which the window is compared.")
    ] = 200
    reject_rate: Annotated[
        Share, Field(description="Most answers that the checks refuse or people reject, of all in the window.")
    ] = 0.2
    unknown_rate: Annotated[Share, Field(description="Most answers that name no cause of the catalogue.")] = 0.5
    drift: Annotated[
        float,
        Field(gt=0, description="Largest population stability index; 0.1 is a small shift, 0.25 a large one."),
    ] = 0.25


class ModelsOptions(BaseModel):
    """Options of the registry of models (``models`` in fairlead.yaml)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trust: Annotated[
        Path | None,
        Field(description="Folder of the public keys (`*.pub`) whose media are accepted; default: in `data_dir`."),
    ] = None
    watch: Annotated[WatchOptions, Field(description="Limits of a model in service.")] = WatchOptions()
