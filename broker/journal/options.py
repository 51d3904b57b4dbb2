"""Options of the journal, as they stand under ``journal`` in ``fairlead.yaml``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.quantities import Duration, Share, Size


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Commit(_Frozen):
    """When waiting entries are made durable: whichever comes first."""

    bytes: Annotated[Size, Field(gt=0, description="Commit when so much waits.")] = 1 << 20
    every: Annotated[
        Duration, Field(gt=0, le=1, description="Commit when the oldest waiting entry is so old; 50ms on eMMC.")
    ] = 0.01


class DiskShares(_Frozen):
    """What gives way when the disk fills, as shares of the budget (`max_size`, or less where the disk has less)."""

    derived: Annotated[
        Share,
        Field(gt=0, lt=1, description="Unread entries take so much: the model explains nothing and replays wait."),
    ] = 0.70
    expire: Annotated[
        Share, Field(gt=0, lt=1, description="What core has read is removed from here on, also before `keep` is over.")
    ] = 0.80
    stop_ack: Annotated[
        Share,
        Field(gt=0, lt=1, description="Accept no samples from here on; gaps, links, maps and ticks use the rest."),
    ] = 0.95
    reserve: Annotated[
        Size,
        Field(
            ge=0,
            description="Space taken at the start, beside `max_size` and at most a tenth of it, and given up piece by "
            "piece when gaps, links, maps and notices find the disk full; `0B`: none.",
        ),
    ] = 64 << 20

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if not self.derived < self.expire < self.stop_ack:
            raise ValueError("the shares must rise: derived, expire, stop_ack")
        return self


class JournalOptions(_Frozen):
    """The journal on disk."""

    commit: Annotated[Commit, Field(description="When waiting entries are made durable.")] = Commit()
    keep: Annotated[
        Duration, Field(gt=0, description="Keep what core has read for so long; what it has not read is kept anyway.")
    ] = 72 * 3600.0
    max_size: Annotated[Size, Field(gt=0, description="Budget of all segments and damaged files together.")] = 20 << 30
    segment: Annotated[Size, Field(gt=0, description="Size of one segment file.")] = 64 << 20
    disk: Annotated[DiskShares, Field(description="What gives way when the disk fills.")] = DiskShares()

    @model_validator(mode="after")
    def _segments_fit(self) -> Self:
        if self.segment * 4 > self.max_size:
            raise ValueError("max_size must hold at least four segments; raise max_size or lower segment")
        return self
