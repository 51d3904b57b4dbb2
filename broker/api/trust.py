"""Accept or reject the certificate of an OPC UA server; acquire sees it at its next attempt to connect."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from broker.api.services import PersonOf, ServicesOf
from schemas.errors import Refused

if TYPE_CHECKING:
    from adapters.opcua.pki import Pki
    from broker.config.model import Config


class Decision(BaseModel):
    """What a person decided about the certificate with this fingerprint."""

    model_config = ConfigDict(extra="forbid")

    fingerprint: str = Field(max_length=200, description="SHA-256 in hex, at least its first 8 digits.")
    decision: Literal["accept", "reject"]


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.post("/api/v1/sources/{source}/trust")(decide)


def pki_of(config: Config, source: str) -> Pki:
    """The certificate folders of an OPC UA source. Raises Refused for another source."""
    if config.kinds.get(source) != "opcua":
        known = ", ".join(name for name, kind in config.kinds.items() if kind == "opcua") or "none"
        raise Refused(f"there is no OPC UA source {source!r}; there are: {known}")
    from adapters.opcua.pki import Pki

    return Pki(config.state_dir(source) / "pki", source)


def carry_out(
    config: Config, source: str, decision: str, fingerprint: str, note: Callable[[str, str, dict[str, object]], None]
) -> dict[str, str]:
    """
    Move the certificate, once ``note(action, source, detail)`` has written the decision down.

    Raises Refused where there is no such source or certificate, and whatever *note* raises; then nothing was moved.
    """
    from adapters.opcua.pki import DECISIONS

    pki = pki_of(config, source)
    origin, target = DECISIONS[decision]
    entry = pki.find(fingerprint, origin)
    detail = {"fingerprint": f"sha256:{entry.fingerprint}", "subject": entry.certificate.subject.rfc4514_string()}
    note(f"certificate_{decision}ed", source, dict(detail))
    pki.move(entry, target)
    return {"source": source, "folder": target, **detail}


def decide(services: ServicesOf, person: PersonOf, source: str, decision: Decision) -> dict[str, str]:
    """Move a certificate between ``rejected`` and ``trusted``; the audit chain says who did it."""

    def note(action: str, name: str, detail: dict[str, object]) -> None:
        services.write(lambda tx: tx.audit(person.name, action, name, detail))

    return carry_out(services.config, source, decision.decision, decision.fingerprint, note)
