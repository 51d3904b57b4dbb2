"""Suppressions for the templates: what is in force, and what holds one episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from broker.store.rows.episodes import SuppressionRow
from broker.web.moments import moment
from schemas.anomaly import Anomaly
from schemas.suppression import Mode, Suppression


def in_force(rows: Sequence[SuppressionRow], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Suppressions in the order in which they began."""
    return [_shown(row, zone) for row in reversed(rows)]


def covering(anomaly: Anomaly, rows: Sequence[SuppressionRow], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Those in force that mean a member of this episode."""
    found = []
    for row in rows:
        mode: Mode = "shelf" if row.mode == "shelf" else "maintenance"
        one = Suppression(
            row.suppression_id, mode, row.target, row.kind, row.actor, row.reason, row.from_ns, row.until_ns
        )
        if any(one.covers(member.path, anomaly.equipment, member.kind) for member in anomaly.members):
            found.append(_shown(row, zone))
    return found


def _shown(row: SuppressionRow, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "id": row.suppression_id,
        "mode": row.mode,
        "target": row.target,
        "name": row.target.rsplit("/", 1)[-1],
        "kind": row.kind.replace("_", " "),
        "actor": row.actor,
        "reason": row.reason,
        "until": None if row.until_ns is None else moment(row.until_ns, zone),
        "findings": row.findings,
    }
