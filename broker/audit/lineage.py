"""
Everything an annotation rests on: model, prompt and choices, evidence, the records behind it, their journal entries,
and what people did with it.

Hashes are computed again here, so that a change in the database afterwards is told: of the annotation as people saw it,
of its evidence, of each review (the audit has its hash) and of the audit chain. No hash covers the annotation's
provenance and time of creation (``audit replay`` makes the answer again), records, and documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from pydantic import BaseModel, ConfigDict

from broker.documents.build import document_ids
from broker.documents.sendings import sendings
from broker.journal.lookup import Place, Wanted, find
from broker.review import review_sha256
from broker.store import Reader
from broker.store.rows.people import AuditRow
from broker.store.rows.records import RecordRow
from schemas.annotation import Annotation, Provenance, Review, ReviewVerdict, phrase, render
from schemas.errors import Refused
from schemas.evidence import Evidence, Fact
from schemas.scorecard import ScoreCard

#: Records looked up in the journal for one annotation.
MAX_RECORDS: Final = 20


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JournalPlace(_Frozen):
    """The journal entry of a record: ``value`` is what the device sent, before any scale."""

    epoch: int
    seq: int
    row: int
    segment: str
    wall_ns: int
    map_revision: str
    value: Any
    status: int


class Source(_Frozen):
    """
    The stored row that shows a fact, and the entry it came from.

    ``journal`` is None where retention has removed the entry, or where the journal is not on this machine.
    """

    seq: int
    path: str
    source: str
    source_ns: int
    received_ns: int
    value: float | None
    unit: str
    quality: str
    revision: int
    journal: JournalPlace | None


class FactLineage(_Frozen):
    """One fact as a person read it, and the row that shows it, where it is about values of a tag."""

    fact: Fact
    rendered: str
    cited: bool
    record: Source | None


class Step(_Frozen):
    """A row of the audit chain."""

    audit_id: int
    at_ns: int
    actor: str
    action: str
    detail: str


class Lineage(_Frozen):
    """
    One annotation with all it rests on.

    ``holds`` names the hashes that were computed again and whether they are those that were stored. ``model_card`` is
    what is known of the model with this hash; None where nothing is. ``score_card`` is the very card that was in force
    when the annotation was made; None where there was none, or it is no longer kept.
    """

    annotation_id: str
    annotation: Annotation
    rendered: str
    provenance: Provenance
    model_card: dict[str, Any] | None
    score_card: ScoreCard | None
    evidence: Evidence | None
    facts: tuple[FactLineage, ...]
    reviews: tuple[Review, ...]
    documents: tuple[str, ...]
    audit: tuple[Step, ...]
    superseded_by: str | None
    holds: dict[str, bool]


#: What is known of a model by its sha256; None where nothing is.
CardOf = Callable[[str], dict[str, Any] | None]
#: The score card with an id, by :func:`schemas.annotation.model_key` of its model; None where it is not kept.
ScoreOf = Callable[[str, str], ScoreCard | None]


def _of_an_anomaly(reader: Reader, text: str) -> str:
    """What to say of the id of an anomaly; empty where it is none."""
    detail = reader.anomaly(text)
    if detail is None:
        return ""
    notes = [f"{one.annotation.annotation_id} ({one.annotation.origin})" for one in detail.annotations]
    has = f"its annotations, the current one first: {', '.join(notes)}" if notes else "it has no annotation"
    return f"{text} is the id of an anomaly, not of an annotation; {has}"


def trace(
    reader: Reader,
    journal: Path,
    annotation_id: str,
    *,
    card_of: CardOf = lambda _: None,
    score_of: ScoreOf = lambda _key, _card_id: None,
) -> Lineage:
    """
    The lineage of one annotation; an unambiguous beginning of its id is enough.

    Raises:
        Refused: there is no such annotation, or several.
        StoreError: the store cannot be read.
        OSError: the journal cannot be read.
    """
    full = reader.annotation_ids(annotation_id)
    if len(full) != 1:
        raise Refused(
            _of_an_anomaly(reader, annotation_id)
            or f"{'no' if not full else 'more than one'} annotation has an id that begins with {annotation_id!r}"
        )
    note = reader.annotation_by_id(full[0])
    detail = None if note is None else reader.anomaly(note.anomaly_id)
    if note is None or detail is None:
        raise Refused(f"annotation {full[0]} is no longer kept")
    evidence = reader.evidence_by_id(note.evidence_id)
    entry = next(one for one in detail.annotations if one.annotation.annotation_id == note.annotation_id)
    cited = {fact_id for cause in note.causes for fact_id in cause.cites}
    rows = {} if evidence is None else _rows(reader, evidence)
    places = _places(reader, journal, list(rows.values()))
    sent = [one for one in sendings(detail.reviews) if one.review.annotation_id == full[0]]
    ids = [one for sending in sent for one in document_ids(note.anomaly_id, sending)]
    documents = [one for one in ids if reader.document(one) is not None]
    newest = next(
        one.annotation.annotation_id
        for one in detail.annotations
        if (one.annotation.origin == "advisory") == (note.origin == "advisory")
    )
    return Lineage(
        annotation_id=full[0],
        annotation=note,
        rendered=render(note.text, evidence) if evidence is not None else note.text,
        provenance=note.provenance,
        model_card=card_of(note.provenance.model_sha256) if note.provenance.model_sha256 else None,
        score_card=score_of(note.provenance.model_key, note.provenance.card_id) if note.provenance.card_id else None,
        evidence=evidence,
        facts=tuple(
            FactLineage(
                fact=fact,
                rendered=phrase(fact),
                cited=fact.id in cited,
                record=_source(rows[fact.id], places) if fact.id in rows else None,
            )
            for fact in (evidence.facts if evidence is not None else ())
        ),
        reviews=tuple(entry.reviews),
        documents=tuple(documents),
        audit=tuple(map(_step, reader.audit_of([full[0], *documents]))),
        superseded_by=newest if newest != full[0] else None,
        holds={
            "annotation": note.annotation_id == full[0],
            "evidence": evidence is not None and evidence.evidence_id == note.evidence_id,
            "reviews": _reviewed(entry.reviews, reader.audit_of([full[0]])),
            "audit_chain": reader.verify_audit() is None,
        },
    )


def _step(row: AuditRow) -> Step:
    return Step(audit_id=row.audit_id, at_ns=row.at_ns, actor=row.actor, action=row.action, detail=row.detail)


def _reviewed(reviews: Sequence[Review], audit: Sequence[AuditRow]) -> bool:
    """Whether reviews and their rows of the audit tell the same; older rows have no hash of the review."""
    told = [row for row in audit if row.action.removeprefix("annotation_") in get_args(ReviewVerdict)]
    if len(told) != len(reviews):
        return False
    for review, row in zip(reviews, told, strict=True):
        known = msgspec.json.decode(row.detail).get("review_sha256")
        if (row.actor, row.action) != (review.person, f"annotation_{review.verdict}"):
            return False
        if known is not None and known != review_sha256(review):
            return False
    return True


def _rows(reader: Reader, evidence: Evidence) -> dict[str, tuple[RecordRow, str]]:
    """By fact id: the row that shows it, and the source of its tag."""
    sources = {tag.path: tag.source for tag in reader.tags()}
    found: dict[str, tuple[RecordRow, str]] = {}
    for fact in evidence.facts:
        if fact.path is None or fact.path not in sources or len(found) >= MAX_RECORDS:
            continue
        row = _shows(reader, fact, evidence.at_ns)
        if row is not None:
            found[fact.id] = (row, sources[fact.path])
    return found


def _shows(reader: Reader, fact: Fact, at_ns: int) -> RecordRow | None:
    """
    A deviation's extreme; of what stayed normal, of states and of set points the newest row that was seen.

    The fact may say more than any stored row: the detector sees what the deadband keeps out of the store.
    """
    assert fact.path is not None
    if fact.kind == "deviation" and fact.value is not None and fact.from_ns is not None and fact.from_ns <= at_ns:
        found = reader.summary(fact.path, fact.from_ns, at_ns + 1, fact.unit)
        extremes = () if found is None else (found.at_max, found.at_min)
        exact = next((row for row in extremes if row is not None and row.value == fact.value), None)
        if exact is not None or found is None:
            return exact
        if fact.direction in ("rose", "fell"):
            return found.at_max if fact.direction == "rose" else found.at_min
    return None if fact.kind == "gap" else reader.last_before(fact.path, at_ns + 1, fact.unit)


def _wanted(row: RecordRow, source: str) -> Wanted:
    return Wanted(source, row.path, row.source_ns, row.received_ns)


def _places(reader: Reader, journal: Path, rows: list[tuple[RecordRow, str]]) -> dict[Wanted, Place]:
    maps: dict[bytes, dict[str, int]] = {}

    def number_of(revision: bytes, path: str) -> int | None:
        if revision not in maps:
            tag_map = reader.map(revision)
            maps[revision] = {} if tag_map is None else {tag.path: tag.number for tag in tag_map.tags}
        return maps[revision].get(path)

    return find(journal, [_wanted(row, source) for row, source in rows], number_of)


def _source(told: tuple[RecordRow, str], places: dict[Wanted, Place]) -> Source:
    row, source = told
    place = places.get(_wanted(row, source))
    return Source(
        seq=row.seq,
        path=row.path,
        source=source,
        source_ns=row.source_ns,
        received_ns=row.received_ns,
        value=row.value,
        unit=row.unit,
        quality=row.quality,
        revision=row.revision,
        journal=None
        if place is None
        else JournalPlace(
            epoch=place.epoch,
            seq=place.seq,
            row=place.row,
            segment=place.segment,
            wall_ns=place.wall_ns,
            map_revision=place.map_revision.hex(),
            value=place.value,
            status=place.status,
        ),
    )
