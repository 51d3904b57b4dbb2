"""The model that explains: whether it answers, what its answers count for, and by which score card."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from broker.api.services import Services, ServicesOf
from broker.scorecard.standing import Standing


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/model")(model)


def standing_now(services: Services) -> Standing | None:
    """What the answers of the model that serves count for; None while none does."""
    state = services.reasoner.state
    # of a model on a server no file is known, so that no card can be its
    key = state.model_key if state.model_sha256 else ""
    return services.standing_of(key) if state.status == "ready" else None


def model_notes(services: Services) -> list[str]:
    """Why rules explain, or stand in front of the model; nothing where the model's answers count."""
    state = services.reasoner.state
    standing = standing_now(services)
    if standing is None:
        why = f" ({state.reason})" if state.reason else ""
        return [f"reasoning is {state.status}{why}: rules explain"]
    if standing.mode == "annotate":
        return []
    return [f"model {state.model_name} is advisory ({standing.reason}): rules explain; {standing.help}"]


def model(services: ServicesOf) -> dict[str, Any]:
    """The configured model: state of its worker, what its answers count for, and by which score card."""
    return model_now(services)


def model_now(services: Services) -> dict[str, Any]:
    """
    The configured model: state of its worker, ``mode`` of its answers, score card.

    ``mode`` is ``annotate`` (they count), ``advisory`` (they stand beside the rules', ``reason`` says why and ``help``
    what to do), or ``rules`` while no model serves.
    """
    state = services.reasoner.state
    standing = standing_now(services)
    card = None if standing is None else standing.card
    return {
        "name": state.model_name,
        "sha256": state.model_sha256,
        "status": state.status,
        "mode": "rules" if standing is None else standing.mode,
        "reason": state.reason if standing is None else standing.reason,
        "help": "" if standing is None else standing.help,
        "answered": state.answered,
        "fallbacks": state.fallbacks,
        "crashes": state.crashes,
        "card": None
        if card is None
        else {
            "card_id": card.card_id,
            "suite": card.suite,
            "scenarios": card.scenarios,
            "made_at": card.made_at,
            "passed": card.passed,
            "reasons": list(card.reasons),
            "figures": None if card.model.overall is None else card.model.overall.model_dump(),
        },
    }
