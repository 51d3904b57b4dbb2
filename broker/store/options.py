"""Options of the store, section ``store`` of ``fairlead.yaml``."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.quantities import Duration, Keep

#: What a URL may begin with; the PostgreSQL driver is always psycopg.
SCHEMES: Final = ("sqlite", "postgresql", "postgresql+psycopg")
_DAY_S: Final = 86400.0


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeepOptions(_Options):
    """How long rows stay; retention removes whole days."""

    records: Annotated[Keep, Field(ge=_DAY_S, description="Records, by time of arrival.")] = 90 * _DAY_S
    rollups_1m: Annotated[
        Keep, Field(ge=_DAY_S, description="1 min roll-ups and the clocks of the sources; 1 h roll-ups stay.")
    ] = 400 * _DAY_S
    documents: Annotated[
        Keep, Field(ge=_DAY_S, description="Documents, and closed anomalies with all that explains them.")
    ] = 720 * _DAY_S
    events: Annotated[Keep, Field(ge=_DAY_S, description="Events and alarms of servers, by time of arrival.")] = (
        400 * _DAY_S
    )
    quarantine: Annotated[
        Keep, Field(ge=_DAY_S, description="Refused rows and payloads; of each source the newest 100,000.")
    ] = 90 * _DAY_S


class StoreOptions(_Options):
    """Where records are kept, for how long, and what a reader may ask for."""

    url: Annotated[
        str | None,
        Field(
            description="`sqlite:///file` (relative to `data_dir`) or `postgresql://user@host/database`; "
            "default `sqlite:///store.db`. Never with a password."
        ),
    ] = None
    password: Annotated[
        str | None, Field(description="Password of the database: a reference `env:NAME`, `file:NAME` or `cred:NAME`.")
    ] = None
    keep: Annotated[KeepOptions, Field(description="Retention.")] = KeepOptions()
    query_limit: Annotated[
        Duration,
        Field(gt=0, description="Longest time one query of a page or the API may take; a command may take 30 s."),
    ] = 2.0
    page_limit: Annotated[int, Field(ge=1, le=100_000, description="Most rows one page holds.")] = 10_000

    @field_validator("url")
    @classmethod
    def _known_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"begins with {parts.scheme or 'nothing'}:, want one of {', '.join(SCHEMES)}")
        if parts.password is not None or "password=" in parts.query:
            raise ValueError("a password in the URL is refused; put a reference into `password`")
        return url

    @field_validator("password")
    @classmethod
    def _reference(cls, password: str | None) -> str | None:
        if password is not None and not password.startswith(("env:", "file:", "cred:")):
            raise ValueError("a secret must be a reference: env:NAME, file:NAME or cred:NAME")
        return password
