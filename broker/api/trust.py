"""Accept or reject the certificate or the device of an OPC UA source; acquire sees it when it connects next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from broker.api.services import PersonOf, ServicesOf
from schemas.errors import Refused

if TYPE_CHECKING:
    from adapters.opcua.device import DeviceFile
    from adapters.opcua.pki import Pki
    from broker.config.model import Config


class Decision(BaseModel):
    """What a person decided about the certificate with this fingerprint."""

    model_config = ConfigDict(extra="forbid")

    fingerprint: str = Field(max_length=200, description="SHA-256 in hex, at least its first 8 digits.")
    decision: Literal["accept", "reject"]


class Acceptance(BaseModel):
    """The other device that a person accepts, as it was shown."""

    model_config = ConfigDict(extra="forbid")

    device: str = Field(max_length=5000, description="The words in which the source's fact `device` tells of it.")


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.post("/api/v1/sources/{source}/trust")(decide)
    app.post("/api/v1/sources/{source}/device")(accept_device)


def _check_opcua(config: Config, source: str) -> None:
    if config.kinds.get(source) != "opcua":
        known = ", ".join(name for name, kind in config.kinds.items() if kind == "opcua") or "none"
        raise Refused(f"there is no OPC UA source {source!r}; there are: {known}")


def pki_of(config: Config, source: str) -> Pki:
    """The certificate folders of an OPC UA source. Raises Refused for another source."""
    _check_opcua(config, source)
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


def device_of(config: Config, source: str) -> DeviceFile:
    """What is kept of the device behind an OPC UA source. Raises Refused for another source, or a damaged file."""
    _check_opcua(config, source)
    from adapters.opcua import device

    folder = config.state_dir(source)
    try:
        return device.recall(folder, config.sources[source].endpoint)  # type: ignore[attr-defined]
    except (OSError, ValueError) as error:
        raise Refused(f"{folder / device.NAME} cannot be read ({error}); mend or remove it") from None


def replace_device(
    config: Config, source: str, shown: str, note: Callable[[str, str, dict[str, object]], None]
) -> dict[str, str]:
    """
    Let the device that was met be the known one, once ``note(action, source, detail)`` has written it down.

    *shown* is the device as the person saw it. Raises Refused where no other device was met, or another than that, and
    whatever *note* raises; then nothing was changed.
    """
    from adapters.opcua import device

    kept = device_of(config, source)
    if kept.met is None:
        raise Refused(f"{source} has met no other device than the known one")
    if str(kept.met) != shown:
        raise Refused(f"{source} has met another device since: {kept.met}")
    detail = {"device": str(kept.met), "before": str(kept.known)}
    note("device_accepted", source, dict(detail))
    device.keep(config.state_dir(source), device.accept(kept))
    return {"source": source, **detail}


def accept_device(services: ServicesOf, person: PersonOf, source: str, acceptance: Acceptance) -> dict[str, str]:
    """Read from another device from now on; the audit chain says who decided it."""

    def note(action: str, name: str, detail: dict[str, object]) -> None:
        services.write(lambda tx: tx.audit(person.name, action, name, detail))

    return replace_device(services.config, source, acceptance.device, note)
