"""What the templates show: texts and figures, made from the store's rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args
from zoneinfo import ZoneInfo

from broker.api.access import SHELVER
from broker.api.accounts import Person
from broker.evidence import strongest
from broker.store.rows.episodes import AnnotationEntry, AnomalyDetail, AnomalyRow
from broker.web.moments import duration, moment
from schemas.annotation import (
    UNKNOWN,
    RejectReason,
    Review,
    ReviewVerdict,
    brief,
    number,
    phrase,
    seen,
    symbol,
    with_unit,
)
from schemas.anomaly import Anomaly, Member
from schemas.documents import Document
from schemas.evidence import Evidence, Fact

_SEVERITY: Final = {1: "critical", 2: "high", 3: "medium", 4: "low"}
_NE107: Final = {
    "F": "failure",
    "C": "check function",
    "S": "out of specification",
    "M": "maintenance required",
}
_CAUSES: Final[dict[str | None, str]] = {
    "shelved": "shelved",
    "by_design": "suppressed by design",
    "maintenance": "in maintenance",
}
_CITATION: Final = re.compile(r"\[(E[1-9][0-9]?)\]")
_DOCUMENTS: Final = {"anomaly.annotation.v1": "Annotation", "maintenance.request.v1": "Maintenance request"}
MAX_TRENDS: Final = 4
#: Members of an episode that is not explained; of a flood the first ones say what began it.
MAX_MEMBERS: Final = 20
#: A trend shows at least so much before the onset, and never less than the episode's own length.
LEAD_NS: Final = 60_000_000_000
MAX_LEAD_NS: Final = 3_600_000_000_000


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def version(anomaly: Anomaly, annotation_id: str | None, said: tuple[str, str] | None, advisory_id: str | None) -> str:
    """A text that differs when a page shows something older than the store has; *said*: newest verdict, and whose."""
    return f"{anomaly.revision}.{(annotation_id or '')[:8]}.{':'.join(said or ())}.{(advisory_id or '')[:8]}"


def list_view(rows: Sequence[AnomalyRow], zone: ZoneInfo) -> dict[str, Any]:
    """Context of the list."""
    items = []
    for row in rows:
        suppressed = row.anomaly.suppressed
        closed_ns, onset_ns = row.anomaly.closed_ns, row.anomaly.onset_ns
        waiting = "to review" if row.annotation_id else "being explained"
        items.append(
            {
                "anomaly_id": row.anomaly.anomaly_id,
                "version": version(
                    row.anomaly,
                    row.annotation_id,
                    (row.verdict, row.person) if row.verdict and row.person else None,
                    row.advisory_id,
                ),
                "state": row.anomaly.state,
                "severity": int(row.anomaly.severity),
                "severity_name": _SEVERITY[int(row.anomaly.severity)],
                "equipment": row.anomaly.equipment,
                "equipment_name": _name(row.anomaly.equipment),
                "title": row.anomaly.title,
                "cause": row.cause or "",
                "onset": moment(row.anomaly.onset_ns, zone),
                # of one that is open the list would change with every look
                "lasted": f", {duration(closed_ns - onset_ns)}" if closed_ns else "",
                "review": _reviewed(row) or _CAUSES.get(suppressed, waiting),
                "waiting": row.verdict is None and suppressed is None,
            }
        )
    return {"rows": items}


def _reviewed(row: AnomalyRow) -> str:
    withdrawn = "; withdrawn" if row.withdrawn else ""
    return f"{row.verdict} by {row.person}{withdrawn}" if row.verdict else ""


def detail_view(
    found: AnomalyDetail, documents: Sequence[Document], person: Person, now_ns: int, zone: ZoneInfo
) -> dict[str, Any]:
    """
    Context of one anomaly.

    Shown is the annotation that was released, if one was; else the newest one that counts. What an advisory model said
    of the same evidence stands beside it.
    """
    anomaly = found.anomaly
    entry = _shown(found)
    seen = next((e for e in found.evidence if entry and e.evidence_id == entry.annotation.evidence_id), None)
    beside = found.advisory_to(entry.annotation) if entry else None
    newest = found.annotations[0].annotation.annotation_id if found.annotations else None
    told = next((one.annotation for one in found.annotations if one.annotation.origin == "advisory"), None)
    end_ns = anomaly.closed_ns or max(now_ns, anomaly.updated_ns)
    lead = min(max(LEAD_NS, end_ns - anomaly.onset_ns), MAX_LEAD_NS)
    reviews = entry.reviews if entry else []
    return {
        "anomaly_id": anomaly.anomaly_id,
        "version": version(
            anomaly,
            newest,
            (found.reviews[-1].verdict, found.reviews[-1].person) if found.reviews else None,
            told.annotation_id if told else None,
        ),
        "equipment": anomaly.equipment,
        "equipment_name": _name(anomaly.equipment),
        "title": anomaly.title,
        "kind": anomaly.kind.value,
        "severity": int(anomaly.severity),
        "severity_name": _SEVERITY[int(anomaly.severity)],
        "ne107": anomaly.ne107,
        "ne107_text": _NE107[anomaly.ne107],
        "state": anomaly.state,
        "onset": moment(anomaly.onset_ns, zone),
        "closed": moment(anomaly.closed_ns, zone) if anomaly.closed_ns else None,
        "lasted": duration(end_ns - anomaly.onset_ns),
        "suppressed": _CAUSES.get(anomaly.suppressed, ""),
        "score": number(anomaly.detector_score),
        "onset_ms": anomaly.onset_ns // 1_000_000,
        "end_ms": end_ns // 1_000_000,
        "from_ms": (anomaly.onset_ns - lead) // 1_000_000,
        "to_ms": min(end_ns + lead // 4, max(now_ns, end_ns)) // 1_000_000,
        "trends": [_trend(member) for member in strongest(anomaly.members)[:MAX_TRENDS]],
        "more_trends": max(0, len({member.path for member in anomaly.members}) - MAX_TRENDS),
        "annotation": _annotation(entry, seen) if entry else None,
        "advisory": _annotation(beside, seen) if beside else None,
        "facts": [_fact(fact, anomaly.onset_ns) for fact in seen.facts] if seen else [],
        "members": [_member(member, anomaly.onset_ns, end_ns) for member in anomaly.members[:MAX_MEMBERS]],
        "more_members": max(0, len(anomaly.members) - MAX_MEMBERS),
        "targets": _targets(anomaly),
        "may_suppress": anomaly.state == "open" and bool(person.roles & SHELVER),
        "evidence_changed": _evidence_changed(found, entry),
        "reviewed_as": reviews[-1].verdict if reviews else "written",
        "reviews": [_review(one, one not in reviews, zone) for one in found.reviews],
        "decisions": _decisions(reviews) if entry and "engineer" in person.roles else (),
        "released": bool(reviews) and reviews[-1].verdict != "rejected",
        "by_policy": bool(reviews) and reviews[-1].by_policy,
        "reject_reasons": get_args(RejectReason),
        "cause_options": _options(seen),
        "documents": [_document(one) for one in documents],
    }


def _decisions(reviews: Sequence[Review]) -> tuple[ReviewVerdict, ...]:
    """What a person may still say of an annotation; see :func:`broker.review.decide`."""
    if not reviews or reviews[-1].by_policy:
        return "approved", "rejected", "edited"
    return () if reviews[-1].verdict == "rejected" else ("rejected",)


def _document(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "type": document.type,
        "title": _DOCUMENTS[document.type],
        "status": document.data.get("status", "released"),
        "revision": document.data.get("revision", 0),
    }


def _shown(found: AnomalyDetail) -> AnnotationEntry | None:
    released = [entry for entry in found.annotations if entry.reviews and entry.reviews[-1].verdict != "rejected"]
    return next(iter(released or found.annotations), None)


def _evidence_changed(found: AnomalyDetail, entry: AnnotationEntry | None) -> bool:
    newest = found.evidence[-1].evidence_id if found.evidence else None
    return entry is not None and newest is not None and newest != entry.annotation.evidence_id


def _review(review: Review, elsewhere: bool, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "elsewhere": elsewhere,
        "person": review.person,
        "verdict": review.verdict,
        "reason": (review.reason or "").replace("_", " "),
        "comment": review.comment,
        "at": moment(review.at_ns, zone),
    }


def _trend(member: Member) -> dict[str, Any]:
    return {
        "path": member.path,
        "name": _name(member.path),
        "unit": symbol(member.unit),
        "ucum": member.unit,
        "low": "" if member.low is None else repr(member.low),
        "high": "" if member.high is None else repr(member.high),
        "did": seen(member.kind, member.direction) or member.direction,
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
        "shared": annotation.provenance.shared_with,
        "advisory_reason": annotation.provenance.advisory_reason,
        "causes": [
            {
                "id": cause.id,
                "text": cause.text,
                "mechanism": cause.mechanism,
                "probability": None if cause.probability is None else f"{cause.probability:.3f}",
                "percent": "?" if cause.probability is None else f"{100 * cause.probability:.0f} %",
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
            yield {"cite": piece, "fact": words, "text": "" if piece in told or fact is None else brief(fact)}
            told.add(piece)
        elif piece:
            yield {"cite": "", "fact": "", "text": piece}


def _targets(anomaly: Anomaly) -> list[dict[str, str]]:
    """What a person may shelve from here: one of the tags, or the equipment."""
    paths = dict.fromkeys(member.path for member in anomaly.members[:MAX_MEMBERS])
    tags = [{"path": path, "text": f"only {_name(path)}"} for path in paths]
    return [*tags, {"path": anomaly.equipment, "text": f"everything on {_name(anomaly.equipment)}"}]


def _member(member: Member, onset_ns: int, end_ns: int) -> dict[str, Any]:
    return {
        "name": _name(member.path),
        "path": member.path,
        "kind": member.kind.value.replace("_", " "),
        "did": seen(member.kind, member.direction) or member.direction,
        "after": f"+{duration(member.onset_ns - onset_ns)}",
        "lasted": duration((end_ns if member.active else member.last_ns) - member.onset_ns),
        "peak": "" if member.peak is None else with_unit(member.peak, member.unit),
        "active": member.active,
    }


def _fact(fact: Fact, onset_ns: int) -> dict[str, Any]:
    def shown(value: float | None) -> str:
        return "" if value is None else with_unit(value, fact.unit)

    return {
        "id": fact.id,
        "kind": fact.kind,
        "text": phrase(fact),
        "baseline": shown(fact.baseline),
        "value": shown(fact.value) if fact.kind != "state" else "",
        "after": "" if fact.rank is None or fact.from_ns is None else f"+{duration(fact.from_ns - onset_ns)}",
        "share": None if fact.contribution is None else f"{fact.contribution:.3f}",
        "percent": "" if fact.contribution is None else f"{100 * fact.contribution:.0f} %",
        "sigmas": "" if fact.sigmas is None else f"{fact.sigmas:.1f}",
        "samples": fact.samples or "",
    }
