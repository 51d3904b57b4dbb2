"""What the templates show: texts and figures, made from the store's rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, get_args

from broker.api.accounts import Person
from broker.store.rows import AnomalyDetail, AnomalyRow
from schemas.annotation import UNKNOWN, Annotation, RejectReason, number, phrase
from schemas.anomaly import Anomaly, Member
from schemas.documents import Document, rfc3339
from schemas.evidence import Evidence, Fact

_SEVERITY: Final = {1: "critical", 2: "high", 3: "medium", 4: "low"}
_NE107: Final = {
    "F": "failure",
    "C": "check function",
    "S": "out of specification",
    "M": "maintenance required",
}
_CITATION: Final = re.compile(r"\[(E[1-9][0-9]?)\]")
MAX_TRENDS: Final = 4
#: A trend shows at least so much before the onset, and never less than the episode's own length.
LEAD_NS: Final = 60_000_000_000
MAX_LEAD_NS: Final = 3_600_000_000_000


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _clock(ns: int) -> str:
    return rfc3339(ns)[:19].replace("T", " ") + " UTC"


def list_view(rows: Sequence[AnomalyRow]) -> dict[str, Any]:
    """Context of the list."""
    items = []
    for row in rows:
        review = row.verdict or ("waits for review" if row.annotation_id else "being explained")
        items.append(
            {
                "anomaly_id": row.anomaly.anomaly_id,
                "open": row.anomaly.state == "open",
                "severity": int(row.anomaly.severity),
                "severity_name": _SEVERITY[int(row.anomaly.severity)],
                "equipment_name": _name(row.anomaly.equipment),
                "title": row.anomaly.title,
                "cause": row.cause or "",
                "onset_iso": rfc3339(row.anomaly.onset_ns),
                "onset_text": _clock(row.anomaly.onset_ns),
                "review": f"{review} by {row.person}" if row.verdict else review,
                "review_class": "" if row.verdict else "waiting",
            }
        )
    return {"rows": items, "open_count": sum(item["open"] for item in items)}


def detail_view(found: AnomalyDetail, documents: Sequence[Document], person: Person, now_ns: int) -> dict[str, Any]:
    """
    Context of one anomaly.

    Shown is the annotation that was released, if one was; else the newest one.
    """
    anomaly = found.anomaly
    released = [e for e in found.annotations if any(r.verdict != "rejected" for r in e.reviews)]
    entry = next(iter(released or found.annotations), None)
    evidence = {item.evidence_id: item for item in found.evidence}
    seen = evidence.get(entry.annotation.evidence_id) if entry else None
    newest = found.evidence[-1] if found.evidence else None
    end_ns = anomaly.closed_ns or now_ns
    lead = min(max(LEAD_NS, end_ns - anomaly.onset_ns), MAX_LEAD_NS)
    reviews = entry.reviews if entry else []
    decided = bool(reviews)
    return {
        "anomaly_id": anomaly.anomaly_id,
        "equipment": anomaly.equipment,
        "equipment_name": _name(anomaly.equipment),
        "title": anomaly.title,
        "severity": int(anomaly.severity),
        "severity_name": _SEVERITY[int(anomaly.severity)],
        "ne107": anomaly.ne107,
        "ne107_text": _NE107[anomaly.ne107],
        "onset_iso": rfc3339(anomaly.onset_ns),
        "onset_text": _clock(anomaly.onset_ns),
        "closed_iso": rfc3339(anomaly.closed_ns) if anomaly.closed_ns else "",
        "closed_text": _clock(anomaly.closed_ns) if anomaly.closed_ns else "",
        "score": number(anomaly.detector_score),
        "onset_ms": anomaly.onset_ns // 1_000_000,
        "end_ms": end_ns // 1_000_000,
        "trend_from_ms": (anomaly.onset_ns - lead) // 1_000_000,
        "trend_to_ms": min(end_ns + lead // 4, max(now_ns, end_ns)) // 1_000_000,
        "trends": [_trend(member) for member in _trended(anomaly)],
        "annotation": _annotation(entry.annotation, seen) if entry else None,
        "facts": [_fact(fact) for fact in seen.facts] if seen else [],
        "evidence_changed": bool(entry and newest and newest.evidence_id != entry.annotation.evidence_id),
        "reviewed_as": reviews[-1].verdict if reviews else "written",
        "reviews": [
            {
                "person": one.person,
                "verdict": one.verdict,
                "reason": (one.reason or "").replace("_", " "),
                "comment": one.comment,
                "at_iso": rfc3339(one.at_ns),
                "at_text": _clock(one.at_ns),
            }
            for one in reviews
        ],
        "may_review": bool(entry) and not decided and "engineer" in person.roles,
        "reject_reasons": get_args(RejectReason),
        "cause_options": _options(seen),
        "documents": [{"id": one.id, "type": one.type} for one in documents],
    }


def _trended(anomaly: Anomaly) -> list[Member]:
    """The first members in order of onset, one a tag."""
    chosen: dict[str, Member] = {}
    for member in anomaly.members:
        chosen.setdefault(member.path, member)
    return list(chosen.values())[:MAX_TRENDS]


def _trend(member: Member) -> dict[str, Any]:
    return {
        "path": member.path,
        "name": _name(member.path),
        "unit": "" if member.unit == "1" else member.unit,
        "low": "" if member.low is None else repr(member.low),
        "high": "" if member.high is None else repr(member.high),
    }


def _options(evidence: Evidence | None) -> list[dict[str, str]]:
    options = [{"id": cause.id, "text": cause.text} for cause in evidence.causes] if evidence else []
    return [*options, {"id": UNKNOWN, "text": "Unknown"}]


def _annotation(annotation: Annotation, evidence: Evidence | None) -> dict[str, Any]:
    return {
        "annotation_id": annotation.annotation_id,
        "origin": annotation.origin,
        "model": annotation.provenance.model_name,
        "fallback": annotation.provenance.fallback_reason,
        "causes": [
            {
                "id": cause.id,
                "text": cause.text,
                "mechanism": cause.mechanism,
                "probability": f"{cause.probability:.3f}",
                "percent": f"{100 * cause.probability:.0f} %",
                "cites": cause.cites,
            }
            for cause in annotation.causes
        ],
        "text": annotation.text,
        "parts": _parts(annotation.text, evidence),
        "actions": annotation.actions,
    }


def _parts(text: str, evidence: Evidence | None) -> list[dict[str, str]]:
    """The text cut at its citations, each followed by the measured fact."""
    parts: list[dict[str, str]] = []
    for i, piece in enumerate(_CITATION.split(text)):
        if i % 2 == 0:
            if piece:
                parts.append({"cite": "", "text": piece})
        else:
            fact = evidence.fact(piece) if evidence else None
            parts.append({"cite": piece, "text": phrase(fact) if fact else ""})
    return parts


def _fact(fact: Fact) -> dict[str, Any]:
    unit = "" if fact.unit == "1" else f" {fact.unit}"

    def shown(value: float | None) -> str:
        return "" if value is None else f"{number(value)}{unit}"

    return {
        "id": fact.id,
        "kind": fact.kind,
        "text": phrase(fact),
        "baseline": shown(fact.baseline),
        "value": shown(fact.value) if fact.kind != "state" else "",
        "sigmas": "" if fact.sigmas is None else f"{fact.sigmas:.1f}",
        "samples": fact.samples or "",
    }
