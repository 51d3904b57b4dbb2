"""Models, imports, decisions and incidents in plain values: for the list, the API and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from broker.models.entries import Entry, entries
from broker.models.locate import decided_name
from broker.store import Reader
from broker.store.models import DecisionRow, ImportRow, IncidentRow
from schemas.documents import rfc3339
from schemas.manifest import REGISTRY
from schemas.scorecard import ScoreCard

if TYPE_CHECKING:
    from broker.config.model import Config


def overview(config: Config, reader: Reader) -> list[dict[str, Any]]:
    """Every model in plain values, for the list, the API and programs."""
    uses = {use.model_key: use for use in reader.model_uses()}
    crashes = reader.model_crashes()
    decided: dict[str, DecisionRow] = {row.decision.use: row for row in reversed(reader.model_decisions())}
    return [_shown(entry, uses, crashes, decided) for entry in entries(config, reader)]


def _shown(
    entry: Entry, uses: Mapping[str, Any], crashes: Mapping[str, int], decided: Mapping[str, DecisionRow]
) -> dict[str, Any]:
    # the empty key is of everything whose hash nobody knew
    use, row = uses.get(entry.key) if entry.key else None, entry.row
    model = entry.name if entry.parts is None else decided_name(entry.parts.model)
    chosen_for = [name for name, one in decided.items() if one.decision.model == model and entry.current]
    return {
        "name": entry.name,
        "version": entry.version,
        "kind": entry.kind,
        "state": entry.state,
        "problem": entry.problem,
        "rung": entry.rung,
        "licence": entry.licence,
        "origin": entry.origin,
        "what": entry.what,
        "sha256": entry.key,
        "parts": None if entry.parts is None else asdict(entry.parts),
        "current": entry.current,
        "configured": entry.configured,
        "chosen_for": chosen_for,
        "card": None if entry.card is None else card_summary(entry.card),
        "answers": 0 if use is None else use.answers,
        "last_answer": None if use is None else rfc3339(use.last_ns),
        "crashes": crashes.get(entry.key, 0) if entry.key else 0,
        "imported": None if row is None else rfc3339(row.at_ns),
        "imported_by": None if row is None else row.actor,
        "signer": None if row is None else row.signer,
        "fingerprint": None if row is None else row.fingerprint,
        "rollback": None if row is None else row.rollback,
        "manifest_sha256": None if row is None else row.sha256,
    }


def card_summary(card: ScoreCard) -> dict[str, Any]:
    """The figures of a score card that say most."""
    figures = card.model.overall
    return {
        "passed": card.passed,
        "suite": card.suite,
        "scenarios": card.scenarios,
        "made_at": card.made_at,
        "top1": None if figures is None else figures.top1,
        "ece": None if figures is None else figures.ece,
        "unknown_auroc": None if figures is None else figures.unknown_auroc,
        "reasons": list(card.reasons),
    }


def shown_import(row: ImportRow) -> dict[str, Any]:
    """An import in plain values."""
    return {
        "name": f"{REGISTRY}{row.name}",
        "version": row.version,
        "manifest_sha256": row.sha256,
        "sha256": row.main_sha256,
        "signer": row.signer,
        "fingerprint": row.fingerprint,
        "imported_by": row.actor,
        "imported": rfc3339(row.at_ns),
        "rollback": row.rollback,
    }


def shown_decision(row: DecisionRow) -> dict[str, Any]:
    """A decision in plain values."""
    return {**row.decision.model_dump(mode="json"), "decided_by": row.actor, "decided": rfc3339(row.at_ns)}


def shown_incident(row: IncidentRow) -> dict[str, Any]:
    """An incident in plain values."""
    return {
        "model": row.model,
        "model_key": row.model_key,
        "kind": row.kind,
        "detail": row.detail,
        "at": rfc3339(row.at_ns),
        "ended": None if row.ended_ns is None else rfc3339(row.ended_ns),
    }
