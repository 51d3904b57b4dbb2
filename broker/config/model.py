"""
The whole configuration, as ``fairlead.yaml`` and the environment give it.

Each section is the options class of the part that uses it; sources are the options classes of the adapters.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator

from adapters.base import SourceOptions
from broker.api.options import ApiOptions
from broker.ask.options import AskOptions
from broker.journal.options import JournalOptions
from broker.models.options import ModelsOptions
from broker.release import ReviewOptions
from broker.store.options import StoreOptions
from detectors.detection import DetectionOptions
from llm.options import ReasonerOptions
from normalizers.options import NormalizerOptions

#: The version of both kinds of file that this program reads.
VERSION: Final = 1
#: Names of sources; they are metric labels and stand in every record.
NAME: Final = re.compile(r"^[a-z][a-z0-9_]*$")


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteOptions(_Options):
    """The site that this broker serves."""

    path: Annotated[str, Field(description="ISA-95 `enterprise/site`; the path of every tag starts with it.")]
    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9_.-]*$|^$",
            description="Short name for labels and documents; default: last part of `path`, lower case.",
        ),
    ] = ""
    timezone: Annotated[str, Field(description="IANA zone of the pages; everything stored is UTC.")] = "UTC"

    @field_validator("path")
    @classmethod
    def _levels(cls, path: str) -> str:
        parts = path.split("/")
        if len(parts) < 2 or any(not part or part != part.strip() for part in parts):
            raise ValueError(f"{path!r} is not enterprise/site; write it like Acme/Lyon")
        return path

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is not an IANA time zone such as Europe/Paris") from None
        return name


class LogOptions(_Options):
    """What is written to stderr, one JSON object a line."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="The least urgent event that is written.")
    ] = "info"


class RootOptions(_Options):
    """Options at the top of the file."""

    version: Annotated[int, Field(description="Version of the file's form; 1.")]
    site: Annotated[SiteOptions, Field(description="The site.")]
    data_dir: Annotated[Path, Field(description="Folder of journal, store and keys; nothing else is written.")] = Path(
        "var"
    )
    tag_maps: Annotated[tuple[str, ...], Field(description="Globs of the tag-map files.")] = (
        "maps/*.yaml",
        "maps/*.csv",
    )


#: Sections of the file and their options classes; an absent section has its defaults.
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "journal": JournalOptions,
    "store": StoreOptions,
    "normalize": NormalizerOptions,
    "detection": DetectionOptions,
    "llm": ReasonerOptions,
    "models": ModelsOptions,
    "review": ReviewOptions,
    "ask": AskOptions,
    "api": ApiOptions,
    "log": LogOptions,
}


class Config(BaseModel):
    """
    Effective configuration: file, then environment, then defaults.

    ``base_dir`` (folder of the file) and ``data_dir`` are absolute. ``kinds`` gives the adapter kind of each source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = VERSION
    site: SiteOptions
    data_dir: Path
    base_dir: Path
    path: Path = Field(description="The configuration file.")
    tag_maps: tuple[str, ...]
    sources: dict[str, SerializeAsAny[SourceOptions]]
    kinds: dict[str, str]
    journal: SerializeAsAny[JournalOptions]
    store: SerializeAsAny[StoreOptions]
    normalize: SerializeAsAny[NormalizerOptions]
    detection: SerializeAsAny[DetectionOptions]
    llm: SerializeAsAny[ReasonerOptions]
    models: ModelsOptions
    review: ReviewOptions
    ask: AskOptions
    api: ApiOptions
    log: LogOptions

    def state_dir(self, source: str) -> Path:
        """Folder of one source that survives restarts; not made here."""
        return self.data_dir / "sources" / source


def named_site(site: SiteOptions) -> SiteOptions:
    """*site* with its default name filled in."""
    if site.name:
        return site
    name = re.sub(r"[^a-z0-9_.-]+", "-", site.path.rsplit("/", 1)[-1].lower()).strip("-")
    return site.model_copy(update={"name": name or "site"})


def section_defaults() -> dict[str, Any]:
    """Every section with its defaults."""
    return {name: model() for name, model in SECTIONS.items()}
