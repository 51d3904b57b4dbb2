"""Options of the API and the pages."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from schemas.quantities import Duration


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsOptions(_Options):
    """Certificate and key of the server, PEM; names are relative to the folder of `fairlead.yaml`."""

    cert: Annotated[Path, Field(description="Certificate chain, PEM.")]
    key: Annotated[Path, Field(description="Private key, PEM.")]


class SessionOptions(_Options):
    """Life of a sign-in."""

    idle: Annotated[Duration, Field(gt=0, description="A session ends after so long without a request.")] = 900.0
    absolute: Annotated[Duration, Field(gt=0, description="A session ends after so long in any case.")] = 28800.0


class LockoutOptions(_Options):
    """Answer to guessed passwords."""

    failures: Annotated[int, Field(ge=1, description="Failed sign-ins in a row before the pause.")] = 5
    pause: Annotated[Duration, Field(gt=0, description="Time in which a name cannot sign in.")] = 900.0


class ApiOptions(_Options):
    """Where the API and the pages listen."""

    listen: Annotated[str, Field(description="`ip:port`; an address other than loopback needs `tls`.")] = (
        "127.0.0.1:8080"
    )
    tls: Annotated[TlsOptions | None, Field(description="Certificate and key; none: plain HTTP on loopback.")] = None
    hosts: Annotated[
        tuple[str, ...], Field(description="Further names in the Host header; the address itself is always allowed.")
    ] = ()
    session: Annotated[SessionOptions, Field(description="Life of a sign-in.")] = SessionOptions()
    lockout: Annotated[LockoutOptions, Field(description="Answer to guessed passwords.")] = LockoutOptions()

    @field_validator("listen")
    @classmethod
    def _address(cls, text: str) -> str:
        host, _, port = text.rpartition(":")
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError(f"{text!r} is not ip:port; write it like 127.0.0.1:8080 or [::1]:8080") from None
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} has no port between 1 and 65535")
        return text

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if self.tls is None and not ipaddress.ip_address(self.host).is_loopback:
            raise PydanticCustomError(
                "insecure_listen",
                "listen is not a loopback address and there is no tls: passwords would cross the network readable",
            )
        return self

    @property
    def host(self) -> str:
        """IP address without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """TCP port."""
        return int(self.listen.rpartition(":")[2])
