"""What the templates show: texts and figures, made from the store's rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from broker.api.accounts import Person
from broker.store.rows import AnnotationEntry, AnomalyDetail, AnomalyRow
from schemas.annotation import UNKNOWN, RejectReason, Review, number, phrase, symbol, with_unit
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
_DOCUMENTS: Final = {"anomaly.annotation.v1": "Annotation", "maintenance.request.v1": "Maintenance request"}
MAX_TRENDS: Final = 4
#: A trend shows at least so much before the onset, and never less than the episode's own length.
LEAD_NS: Final = 60_000_000_000
MAX_LEAD_NS: Final = 3_600_000_000_000


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _moment(ns: int, zone: ZoneInfo) -> dict[str, str]:
    """One time for people: exact in ``iso``, in the site's zone in ``text`` (and ``short``, without the year)."""
    local = datetime.fromtimestamp(ns // 1_000_000_000, zone)
    return {"iso": rfc3339(ns), "text": f"{local:%Y-%m-%d %H:%M:%S %Z}", "short": f"{local:%d %b %H:%M:%S}"}


def version(anomaly: Anomaly, annotation_id: str | None, verdict: str | None) -> str:
    """A text that differs when a page shows something older than the store has."""
    return f"{anomaly.revision}.{(annotation_id or '')[:8]}.{verdict or ''}"


def list_view(rows: Sequence[AnomalyRow], zone: ZoneInfo) -> dict[str, Any]:
    """Context of the list."""
    items = []
    for row in rows:
        waiting = "to review" if row.annotation_id else "being explained"
        items.append(
            {
                "anomaly_id": row.anomaly.anomaly_id,
                "version": version(row.anomaly, row.annotation_id, row.verdict),
                "state": row.anomaly.state,
                "severity": int(row.anomaly.severity),
                "severity_name": _SEVERITY[int(row.anomaly.severity)],
                "equipment": row.anomaly.equipment,
                "equipment_name": _name(row.anomaly.equipment),
                "title": row.anomaly.title,
                "cause": row.cause or "",
                "onset": _moment(row.anomaly.onset_ns, zone),
                "review": f"{row.verdict} by {row.person}" if row.verdict else waiting,
                "waiting": row.verdict is None,
            }
        )
    return {"rows": items}


def detail_view(
    found: AnomalyDetail, documents: Sequence[Document], person: Person, now_ns: int, zone: ZoneInfo
) -> dict[str, Any]:
    """
    Context of one anomaly.

    Shown is the annotation that was released, if one was; else the newest one.
    """
    anomaly = found.anomaly
    entry = _shown(found)
    seen = next((e for e in found.evidence if entry and e.evidence_id == entry.annotation.evidence_id), None)
    newest = found.annotations[0].annotation.annotation_id if found.annotations else None
    end_ns = anomaly.closed_ns or max(now_ns, anomaly.updated_ns)
    lead = min(max(LEAD_NS, end_ns - anomaly.onset_ns), MAX_LEAD_NS)
    reviews = entry.reviews if entry else []
    return {
        "anomaly_id": anomaly.anomaly_id,
        "version": version(anomaly, newest, found.reviews[-1].verdict if found.reviews else None),
        "equipment": anomaly.equipment,
        "equipment_name": _name(anomaly.equipment),
        "title": anomaly.title,
        "severity": int(anomaly.severity),
        "severity_name": _SEVERITY[int(anomaly.severity)],
        "ne107": anomaly.ne107,
        "ne107_text": _NE107[anomaly.ne107],
        "state": anomaly.state,
        "onset": _moment(anomaly.onset_ns, zone),
        "closed": _moment(anomaly.closed_ns, zone) if anomaly.closed_ns else None,
        "score": number(anomaly.detector_score),
        "onset_ms": anomaly.onset_ns // 1_000_000,
        "end_ms": end_ns // 1_000_000,
        "from_ms": (anomaly.onset_ns - lead) // 1_000_000,
        "to_ms": min(end_ns + lead // 4, max(now_ns, end_ns)) // 1_000_000,
        "trends": [_trend(member) for member in _trended(anomaly)],
        "more_trends": max(0, len({member.path for member in anomaly.members}) - MAX_TRENDS),
        "annotation": _annotation(entry, seen) if entry else None,
        "facts": [_fact(fact) for fact in seen.facts] if seen else [],
        "evidence_changed": _evidence_changed(found, entry),
        "reviewed_as": reviews[-1].verdict if reviews else "written",
        "reviews": [_review(one, zone) for one in reviews],
        "may_review": bool(entry) and not reviews and "engineer" in person.roles,
        "reject_reasons": get_args(RejectReason),
        "cause_options": _options(seen),
        "documents": [{"id": one.id, "type": one.type, "title": _DOCUMENTS[one.type]} for one in documents],
    }


def _shown(found: AnomalyDetail) -> AnnotationEntry | None:
    released = [entry for entry in found.annotations if any(one.verdict != "rejected" for one in entry.reviews)]
    return next(iter(released or found.annotations), None)


def _evidence_changed(found: AnomalyDetail, entry: AnnotationEntry | None) -> bool:
    newest = found.evidence[-1].evidence_id if found.evidence else None
    return entry is not None and newest is not None and newest != entry.annotation.evidence_id


def _review(review: Review, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "person": review.person,
        "verdict": review.verdict,
        "reason": (review.reason or "").replace("_", " "),
        "comment": review.comment,
        "at": _moment(review.at_ns, zone),
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
        "unit": symbol(member.unit),
        "low": "" if member.low is None else repr(member.low),
        "high": "" if member.high is None else repr(member.high),
        "direction": member.direction,
        "peak": "" if member.peak is None else with_unit(member.peak, member.unit),
    }


def _options(evidence: Evidence | None) -> list[dict[str, str]]:
    options = [{"id": cause.id, "text": cause.text} for cause in evidence.causes] if evidence else []
    return [*options, {"id": UNKNOWN, "text": "Unknown"}]


def _annotation(entry: AnnotationEntry, evidence: Evidence | None) -> dict[str, Any]:
    annotation = entry.annotation
    return {
        "annotation_id": annotation.annotation_id,
        "origin": annotation.origin,
        "model": annotation.provenance.model_name,
        "fallback": entry.reason if annotation.origin == "rules" else "",
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
        "parts": list(_parts(annotation.text, evidence)),
        "actions": annotation.actions,
    }


def _parts(text: str, evidence: Evidence | None) -> Iterator[dict[str, str]]:
    """The text cut at its citations; the first of each is followed by the measured fact, later ones only name it."""
    told: set[str] = set()
    for i, piece in enumerate(_CITATION.split(text)):
        if i % 2:
            fact = evidence.fact(piece) if evidence else None
            words = phrase(fact) if fact else ""
            yield {"cite": piece, "fact": words, "text": "" if piece in told else words}
            told.add(piece)
        elif piece:
            yield {"cite": "", "fact": "", "text": piece}


def _fact(fact: Fact) -> dict[str, Any]:
    def shown(value: float | None) -> str:
        return "" if value is None else with_unit(value, fact.unit)

    return {
        "id": fact.id,
        "kind": fact.kind,
        "text": phrase(fact),
        "baseline": shown(fact.baseline),
        "value": shown(fact.value) if fact.kind != "state" else "",
        "sigmas": "" if fact.sigmas is None else f"{fact.sigmas:.1f}",
        "samples": fact.samples or "",
    }
