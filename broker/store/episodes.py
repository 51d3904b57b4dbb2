"""Anomalies and what explains them: evidence, annotations, reviews, documents. All are told apart by their own ids."""

from __future__ import annotations

import calendar
import re
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from broker.store import tables
from broker.store.memory import Memory
from broker.store.text import clean, stored_json
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly
from schemas.documents import Document
from schemas.evidence import Evidence

_FRACTION: Final = re.compile(r"\.(\d+)")


def put_anomaly(connection: sa.Connection, memory: Memory, anomaly: Anomaly) -> None:
    """Store a revision; the head follows the highest revision. A revision that is there already stays as it is."""
    revisions, heads = tables.anomaly_revisions, tables.anomalies
    same = (revisions.c.anomaly_id == anomaly.anomaly_id) & (revisions.c.revision == anomaly.revision)
    if connection.execute(sa.select(revisions.c.revision).where(same)).first() is not None:
        return
    connection.execute(
        revisions.insert().values(anomaly_id=anomaly.anomaly_id, revision=anomaly.revision, body=stored_json(anomaly))
    )
    head = {
        "revision": anomaly.revision,
        "equipment": clean(anomaly.equipment),
        "state": anomaly.state,
        "kind": anomaly.kind.value,
        "severity": int(anomaly.severity),
        "ne107": anomaly.ne107,
        "onset_ns": anomaly.onset_ns,
        "updated_ns": anomaly.updated_ns,
        "closed_ns": anomaly.closed_ns,
        "detector_score": anomaly.detector_score,
        "title": clean(anomaly.title),
        "suppressed": anomaly.suppressed,
    }
    known = connection.execute(sa.select(heads.c.revision).where(heads.c.anomaly_id == anomaly.anomaly_id)).scalar()
    if known is None:
        ordinal = memory.next("anomaly")
        connection.execute(heads.insert().values(anomaly_id=anomaly.anomaly_id, ordinal=ordinal, waiting=0, **head))
        _wait(connection, anomaly.anomaly_id)
    elif known < anomaly.revision:
        connection.execute(heads.update().where(heads.c.anomaly_id == anomaly.anomaly_id).values(**head))


def put_evidence(connection: sa.Connection, memory: Memory, evidence: Evidence) -> None:
    """Store an evidence snapshot."""
    table = tables.evidence
    if _exists(connection, table.c.evidence_id, evidence.evidence_id):
        return
    connection.execute(
        table.insert().values(
            evidence_id=evidence.evidence_id,
            ordinal=memory.next("evidence"),
            anomaly_id=evidence.anomaly_id,
            anomaly_revision=evidence.anomaly_revision,
            at_ns=evidence.at_ns,
            record_seq=evidence.record_seq,
            body=clean(evidence.body.decode()),
        )
    )


def put_annotation(connection: sa.Connection, memory: Memory, annotation: Annotation) -> None:
    """Store an annotation; its first cause is the one the lists show."""
    table = tables.annotations
    if _exists(connection, table.c.annotation_id, annotation.annotation_id):
        return
    first = annotation.causes[0]
    connection.execute(
        table.insert().values(
            annotation_id=annotation.annotation_id,
            ordinal=memory.next("annotation"),
            anomaly_id=annotation.anomaly_id,
            anomaly_revision=annotation.anomaly_revision,
            evidence_id=annotation.evidence_id,
            origin=annotation.origin,
            created_ns=annotation.created_ns,
            cause_id=first.id,
            cause=clean(first.text),
            probability=first.probability,
            text=clean(annotation.text),
            model_sha256=annotation.provenance.model_sha256,
            # as it is: its id is the hash of the words in it
            body=clean(annotation.model_dump_json()),
            model_key=annotation.provenance.model_key,
        )
    )
    _wait(connection, annotation.anomaly_id)


def _wait(connection: sa.Connection, anomaly_id: str) -> None:
    """Let an anomaly wait for a person when it is explained and nobody has reviewed it."""
    heads, notes, words = tables.anomalies, tables.annotations, tables.reviews
    explained = sa.exists().where(notes.c.anomaly_id == anomaly_id)
    reviewed = sa.exists().where(words.c.anomaly_id == anomaly_id)
    where = sa.and_(heads.c.anomaly_id == anomaly_id, heads.c.waiting == 0, explained, ~reviewed)
    connection.execute(heads.update().where(where).values(waiting=1))


def put_attempt(
    connection: sa.Connection, evidence_id: str, at_ns: int, reason: str, final: bool, model_key: str
) -> None:
    """Note that the model was asked about an evidence; the last attempt says why there is no answer."""
    table = tables.annotation_attempts
    values: dict[str, object] = {"last_ns": at_ns, "reason": clean(reason), "final": int(final), "model_key": model_key}
    if _exists(connection, table.c.evidence_id, evidence_id):
        values["attempts"] = table.c.attempts + 1
        connection.execute(table.update().where(table.c.evidence_id == evidence_id).values(**values))
    else:
        connection.execute(table.insert().values(evidence_id=evidence_id, attempts=1, **values))


def put_review(connection: sa.Connection, memory: Memory, review: Review) -> None:
    """
    Store a review; the same person at the same time on the same annotation is the same review.

    Raises:
        ValueError: the annotation is not in the store.
    """
    table, annotations = tables.reviews, tables.annotations
    query = sa.select(annotations.c.anomaly_id).where(annotations.c.annotation_id == review.annotation_id)
    anomaly_id = connection.execute(query).scalar()
    if anomaly_id is None:
        raise ValueError(f"annotation {review.annotation_id} is not in the store")
    person = clean(review.person)
    same = (
        (table.c.annotation_id == review.annotation_id) & (table.c.person == person) & (table.c.at_ns == review.at_ns)
    )
    if connection.execute(sa.select(table.c.ordinal).where(same)).first() is not None:
        return
    connection.execute(
        table.insert().values(
            ordinal=memory.next("review"),
            annotation_id=review.annotation_id,
            anomaly_id=anomaly_id,
            verdict=review.verdict,
            person=person,
            at_ns=review.at_ns,
            body=stored_json(review),
        )
    )
    heads = tables.anomalies
    connection.execute(heads.update().where(heads.c.anomaly_id == anomaly_id).values(waiting=0))


def put_document(connection: sa.Connection, memory: Memory, document: Document) -> int:
    """Put a document into the outbox and return its place; a document that is there already keeps its place."""
    table = tables.outbox
    place = connection.execute(sa.select(table.c.seq).where(table.c.document_id == document.id)).scalar()
    if place is not None:
        return int(place)
    seq = memory.next("outbox_seq")
    memory.set("documents", memory.last("documents") + 1)
    connection.execute(
        table.insert().values(
            seq=seq,
            document_id=document.id,
            type=document.type,
            subject=clean(document.subject),
            time=document.time,
            time_ns=parse_time(document.time),
            body=stored_json(document, exclude={"sequence"}),
        )
    )
    return seq


def parse_time(text: str) -> int:
    """UTC ns of an RFC 3339 time with any number of digits of a second. Raises ValueError."""
    fraction = _FRACTION.search(text)
    rest_ns = int(fraction.group(1)[:9].ljust(9, "0")) if fraction else 0
    moment = datetime.fromisoformat(_FRACTION.sub("", text, count=1))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no offset from UTC")
    return calendar.timegm(moment.utctimetuple()) * 1_000_000_000 + rest_ns


def _exists(connection: sa.Connection, column: sa.Column[str], value: str) -> bool:
    return connection.execute(sa.select(column).where(column == value)).first() is not None
