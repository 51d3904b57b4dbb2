"""The registry of models: what there is, what comes in, why one was chosen, which keys are trusted."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from broker.api.services import PersonOf, ReaderOf, ServicesOf
from broker.models import overview, registry
from broker.models.figures import shown
from schemas.ladder import Decision


class NewImport(BaseModel):
    """A model whose files lie in the store's folder already; core verifies the signature once more."""

    model_config = ConfigDict(extra="forbid")

    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rollback: str = Field("", max_length=registry.MAX_REASON, description="Why an older version may come in.")


class Refusal(BaseModel):
    """A medium that the command line refused, for the audit."""

    model_config = ConfigDict(extra="forbid")

    medium: str = Field(max_length=500)
    reason: str = Field(max_length=2000)


class NewKey(BaseModel):
    """A public key to trust."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64)
    pem: str = Field(max_length=4000)


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/models")(models)
    app.post("/api/v1/models/imports")(put_import)
    app.post("/api/v1/models/refusals")(put_refusal)
    app.post("/api/v1/models/decisions")(put_decision)
    app.post("/api/v1/models/keys")(put_key)


def models(services: ServicesOf, reader: ReaderOf) -> dict[str, Any]:
    """Every model with its state, the decisions, newest first, and how the one in service does."""
    watch = services.watch
    state = services.reasoner.state
    return {
        "models": overview.overview(services.config, reader),
        "decisions": [overview.shown_decision(row) for row in reader.model_decisions()],
        "incidents": [overview.shown_incident(row) for row in reader.model_incidents()],
        "serving": {
            "status": state.status,
            "reason": state.reason,
            "model": state.model_name,
            "model_key": state.model_key,
            "figures": None if watch is None or watch.last is None else shown(watch.last, services.config.models.watch),
            "notices": [] if watch is None else watch.notices,
        },
    }


def put_import(services: ServicesOf, person: PersonOf, wanted: NewImport) -> dict[str, Any]:
    """Take files that were placed into the registry; 409 where no trusted key signed them, or for a rollback."""
    held = registry.shelf_of(services.config).read(wanted.manifest_sha256)
    kept = registry.highest_kept(services.config, held.manifest)
    row = services.write(lambda tx: registry.register(tx, held, person.name, wanted.rollback, kept))
    return overview.shown_import(row)


def put_refusal(services: ServicesOf, person: PersonOf, refusal: Refusal) -> dict[str, Any]:
    """Note in the audit that a medium was refused, and why."""
    told = refusal.model_dump(mode="json")
    services.write(lambda tx: tx.audit(person.name, "model_refused", refusal.medium, told))
    return told


def put_decision(services: ServicesOf, person: PersonOf, decision: Decision) -> dict[str, Any]:
    """Record why a model was chosen; it takes effect at the next start of core."""
    services.write(lambda tx: registry.decide(tx, decision, person.name))
    return {**decision.model_dump(mode="json"), "decided_by": person.name}


def put_key(services: ServicesOf, person: PersonOf, key: NewKey) -> dict[str, str]:
    """Trust the key of who signs models; the audit chain says who did it."""

    def note(action: str, name: str, detail: dict[str, object]) -> None:
        services.write(lambda tx: tx.audit(person.name, action, name, detail))

    return registry.trust_key(services.config, key.name, key.pem.encode(), note)
