"""An answer while it is written: lines, and the rows they cite, each with its number, unit and time put in by code."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from broker.ask.names import Names, last_part
from broker.store import Reader
from broker.store.rows.records import RecordRow
from schemas.annotation import with_unit
from schemas.anomaly import Anomaly
from schemas.documents import rfc3339
from schemas.question import Citation, CitationKind, Query, Span

_LETTER: Final[dict[CitationKind, str]] = {"record": "R", "aggregate": "S", "episode": "A", "gap": "G"}


@dataclass(slots=True)
class Draft:
    """An answer while it is written."""

    reader: Reader
    names: Names
    zone: ZoneInfo
    query: Query
    lines: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def cite(self, kind: CitationKind, text: str, body: dict[str, Any]) -> str:
        """Add a citation, once; its mark for the text."""
        for one in self.citations:
            if one.kind == kind and one.body == body:
                return f"[{one.id}]"
        number_ = 1 + sum(one.kind == kind for one in self.citations)
        self.citations.append(Citation(id=f"{_LETTER[kind]}{number_}", kind=kind, text=text, body=body))
        return f"[{self.citations[-1].id}]"

    def time(self, ns: int) -> str:
        """A moment in the site's zone."""
        return f"{datetime.fromtimestamp(ns // 1_000_000_000, self.zone):%Y-%m-%d %H:%M:%S %Z}"

    def window(self, span: Span) -> str:
        """A window in words."""
        return f"from {self.time(span.from_ns)} to {self.time(span.to_ns)}"

    def value(self, path: str, value: float, unit: str) -> str:
        """A number of a tag with its unit, or the name that the tag has for it."""
        tag = self.names.by_path.get(path)
        if tag is not None and tag.enum and value in tag.enum:
            return tag.enum[int(value)]
        return with_unit(value, unit)

    def label(self, path: str) -> str:
        """A tag as people call it: its equipment and its name."""
        tag = self.names.by_path.get(path)
        owner = last_part(tag.equipment) if tag is not None and tag.equipment else ""
        return f"{owner} {last_part(path)}".strip()

    def record(self, row: RecordRow) -> str:
        """Cite one record."""
        shown = row.value_text or "" if row.value is None else self.value(row.path, row.value, row.unit)
        text = f"{row.path} = {shown} at {self.time(row.source_ns)} ({row.quality})"
        body = {
            "seq": str(row.seq),
            "path": row.path,
            "source_time": rfc3339(row.source_ns),
            "value": row.value,
            "unit": row.unit,
            "quality": row.quality,
            "revision": row.revision,
        }
        return self.cite("record", text, body)

    def episode(self, anomaly: Anomaly) -> str:
        """Cite one episode."""
        end = "open" if anomaly.closed_ns is None else f"until {self.time(anomaly.closed_ns)}"
        text = f"{last_part(anomaly.equipment)}: {anomaly.title}, since {self.time(anomaly.onset_ns)}, {end}"
        body = {
            "anomaly_id": anomaly.anomaly_id,
            "revision": anomaly.revision,
            "equipment": anomaly.equipment,
            "title": anomaly.title,
            "severity": int(anomaly.severity),
            "state": anomaly.state,
            "onset": rfc3339(anomaly.onset_ns),
        }
        return self.cite("episode", text, body)
