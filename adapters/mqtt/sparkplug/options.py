"""Options of ``sparkplug``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adapters.base import Options
from schemas.quantities import Duration


class SparkplugOptions(Options):
    """How this source takes part in Sparkplug B; by default it only listens."""

    role: Annotated[
        Literal["secondary_passive", "secondary_active", "primary"],
        Field(
            description="secondary_passive publishes nothing; secondary_active may ask for births; primary also "
            "publishes its STATE, which edge nodes wait for."
        ),
    ] = "secondary_passive"
    host_id: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="Name of the host application in its STATE topic; primary."),
    ] = None
    rebirth: Annotated[
        Literal["never", "on_need"],
        Field(
            description="on_need: publish the command Node Control/Rebirth where a birth is missing. The only command "
            "towards OT that exists. never: behind a lost message, or a restart in which one passed, values are "
            "uncertain until the node's next birth."
        ),
    ] = "never"
    rebirth_every: Annotated[
        Duration,
        Field(gt=0, description="Shortest time between two rebirth requests to one edge node; doubles to 60s."),
    ] = 1.0
    reorder: Annotated[
        Duration, Field(ge=0, le=5, description="How long a message waits for one that should have come before it.")
    ] = 0.25
    groups: Annotated[
        tuple[str, ...] | None, Field(description="Groups to read; absent: all that the filters bring.")
    ] = None

    def listening(self) -> SparkplugOptions:
        """These options without anything that is published: no STATE, no command."""
        return self.model_copy(update={"role": "secondary_passive", "host_id": None, "rebirth": "never"})

    @model_validator(mode="after")
    def _agree(self) -> SparkplugOptions:
        if self.rebirth == "on_need" and self.role == "secondary_passive":
            raise ValueError("rebirth: on_need publishes commands: set role: secondary_active or primary")
        if self.role == "secondary_active" and self.rebirth == "never":
            raise ValueError("role: secondary_active asks for births only with rebirth: on_need")
        if (self.role == "primary") != (self.host_id is not None):
            raise ValueError("role: primary and host_id belong together")
        if self.host_id is not None and set("/+#") & set(self.host_id):
            raise ValueError("host_id is one level of a topic: no /, + or #")
        return self
