"""Anomalies, evidence, annotations, reviews and documents as they were stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from pydantic_core import to_json

from broker.store import tables
from broker.store.rows import AnnotationEntry, AnomalyDetail, AnomalyRow, PastEpisode, PendingRow
from schemas.annotation import POLICY, Annotation, Review
from schemas.anomaly import Anomaly
from schemas.calendar import Window
from schemas.documents import Document
from schemas.evidence import Evidence
from schemas.tagmap import Equipment, TagMap

_A = tables.anomalies
_B = tables.anomaly_revisions
_E = tables.evidence
_N = tables.annotations
_W = tables.reviews
_O = tables.outbox
#: How far back, in anomalies, the model is asked for what it has not explained yet.
PENDING_SPAN: Final = 500
#: How often the model is asked about one evidence.
ATTEMPTS: Final = 3
#: Origin of what a model without a passing score card said; never the current annotation.
ADVISORY: Final = "advisory"


def anomaly_by_id(connection: sa.Connection, anomaly_id: str) -> Anomaly | None:
    """The newest revision."""
    query = sa.select(_B.c.body).where(_B.c.anomaly_id == anomaly_id).order_by(_B.c.revision.desc()).limit(1)
    body = connection.execute(query).scalar()
    return None if body is None else Anomaly.model_validate_json(body)


def anomaly_at(connection: sa.Connection, anomaly_id: str, revision: int) -> Anomaly | None:
    """The revision that was shown with an annotation; None where it is not in the store."""
    query = sa.select(_B.c.body).where(_B.c.anomaly_id == anomaly_id, _B.c.revision == revision)
    body = connection.execute(query).scalar()
    return None if body is None else Anomaly.model_validate_json(body)


def evidence_by_id(connection: sa.Connection, evidence_id: str) -> Evidence | None:
    """One evidence snapshot."""
    body = connection.execute(sa.select(_E.c.body).where(_E.c.evidence_id == evidence_id)).scalar()
    return None if body is None else Evidence.model_validate_json(body)


def annotation_by_id(connection: sa.Connection, annotation_id: str) -> Annotation | None:
    """One annotation."""
    body = connection.execute(sa.select(_N.c.body).where(_N.c.annotation_id == annotation_id)).scalar()
    return None if body is None else Annotation.model_validate_json(body)


def annotation_ids(connection: sa.Connection, beginning: str) -> list[str]:
    """Ids that begin with a text, two at most: more than one is ambiguous."""
    query = sa.select(_N.c.annotation_id).where(_N.c.annotation_id.startswith(beginning, autoescape=True))
    return list(connection.execute(query.order_by(_N.c.annotation_id).limit(2)).scalars())


def reviews_of(connection: sa.Connection, anomaly_id: str) -> list[Review]:
    """All reviews of all annotations of an anomaly, oldest first."""
    query = sa.select(_W.c.body).where(_W.c.anomaly_id == anomaly_id).order_by(_W.c.ordinal)
    return [Review.model_validate_json(body) for body in connection.execute(query).scalars()]


def equipment_by_path(connection: sa.Connection, path: str) -> Equipment | None:
    """The equipment as the newest map that names it has it."""
    table = tables.equipment
    body = connection.execute(sa.select(table.c.body).where(table.c.path == path)).scalar()
    return None if body is None else Equipment.model_validate_json(body)


def map_by_revision(connection: sa.Connection, revision: bytes | None) -> TagMap | None:
    """A registered map; None asks for the one that came into force last."""
    table = tables.maps
    query = sa.select(table.c.body).order_by(table.c.ordinal.desc()).limit(1)
    body = connection.execute(query if revision is None else query.where(table.c.revision == revision)).scalar()
    return None if body is None else TagMap.from_body(bytes(body))


class _Calendar(msgspec.Struct):
    """What is decoded of a map's body; its tags are passed over."""

    calendar: list[dict[str, Any]] = []


def shifts(connection: sa.Connection) -> tuple[Window, ...]:
    """The shifts of the map that came into force last."""
    table = tables.maps
    body = connection.execute(sa.select(table.c.body).order_by(table.c.ordinal.desc()).limit(1)).scalar()
    windows = msgspec.json.decode(bytes(body), type=_Calendar).calendar if body is not None else []
    return tuple(Window.model_validate(one) for one in windows if one.get("kind") == "shift")


def past_episodes(connection: sa.Connection, equipment: str, before_ns: int, limit: int) -> list[PastEpisode]:
    """
    Closed episodes that began before *before_ns*, latest first, with what the newest review said.

    Reviews come from people, not from the journal: evidence made by a replay into a fresh store differs from the
    first in its history facts (and passages of manuals), and in nothing else.
    """
    query = (
        sa.select(_A.c.anomaly_id, _B.c.body)
        .join(_B, sa.and_(_B.c.anomaly_id == _A.c.anomaly_id, _B.c.revision == _A.c.revision))
        .where(_A.c.equipment == equipment, _A.c.onset_ns < before_ns, _A.c.state == "closed")
        .where(_A.c.suppressed.is_(None))
        .order_by(_A.c.onset_ns.desc(), _A.c.ordinal.desc())
        .limit(limit)
    )
    rows = connection.execute(query).all()
    return [_judged(connection, anomaly_id, Anomaly.model_validate_json(body)) for anomaly_id, body in rows]


def _judged(connection: sa.Connection, anomaly_id: str, anomaly: Anomaly) -> PastEpisode:
    # what a policy released nobody has looked at: it is no verdict
    reviews = [review for review in reviews_of(connection, anomaly_id) if not review.by_policy]
    if not reviews:
        return PastEpisode(anomaly)
    review = reviews[-1]
    annotation = annotation_by_id(connection, review.annotation_id)
    first = annotation.causes[0] if annotation is not None else None
    cause_id, cause = (None, None) if first is None else (first.id, first.text)
    # what a rejection withdraws may name a person's own cause, and speaks then against that one
    released = (one for one in reversed(reviews) if one.verdict != "rejected")
    decision = next((one for one in released if one.annotation_id == review.annotation_id), review)
    if decision.verdict == "edited" and decision.cause_id not in (None, cause_id):
        evidence = evidence_by_id(connection, annotation.evidence_id) if annotation is not None else None
        options = evidence.causes if evidence is not None else ()
        cause_id = decision.cause_id
        cause = next((option.text for option in options if option.id == cause_id), cause_id)
    return PastEpisode(anomaly, review.verdict, cause_id, cause, review.reason, review.comment)


def list_anomalies(
    connection: sa.Connection,
    state: str | None,
    review: str | None,
    limit: int,
    before: int | None,
    suppressed: bool | None = None,
) -> list[AnomalyRow]:
    """
    Episodes, newest first, behind the cursor *before*.

    *state* is ``open`` or ``closed``; *review* a verdict of the newest review, ``pending`` for none yet, or ``policy``
    for what a policy released and nobody has looked at.
    *suppressed*: only those that ask nobody for attention, or only the others.
    """
    counts = sa.and_(_N.c.anomaly_id == _A.c.anomaly_id, _N.c.origin != ADVISORY)
    newest_note = sa.select(sa.func.max(_N.c.ordinal)).where(counts).correlate(_A).scalar_subquery()
    beside = _N.alias("beside")
    advisory = sa.and_(beside.c.anomaly_id == _A.c.anomaly_id, beside.c.origin == ADVISORY)
    newest_advisory = (
        sa.select(beside.c.annotation_id).where(advisory).order_by(beside.c.ordinal.desc()).limit(1).correlate(_A)
    ).scalar_subquery()
    newest_word = (
        sa.select(sa.func.max(_W.c.ordinal)).where(_W.c.anomaly_id == _A.c.anomaly_id).correlate(_A).scalar_subquery()
    )
    before_it = _W.alias("before_it")
    was_released = sa.exists().where(before_it.c.anomaly_id == _A.c.anomaly_id, before_it.c.verdict != "rejected")
    query = (
        sa.select(
            _A.c.ordinal,
            _B.c.body,
            _N.c.annotation_id,
            _N.c.origin,
            _N.c.cause_id,
            _N.c.cause,
            _N.c.probability,
            _W.c.verdict,
            _W.c.person,
            newest_advisory,
            _W.c.annotation_id,
            sa.and_(_W.c.verdict == "rejected", was_released.correlate(_A)),
        )
        .select_from(_A)
        .join(_B, sa.and_(_B.c.anomaly_id == _A.c.anomaly_id, _B.c.revision == _A.c.revision))
        .outerjoin(_N, _N.c.ordinal == newest_note)
        .outerjoin(_W, _W.c.ordinal == newest_word)
        .order_by(_A.c.ordinal.desc())
        .limit(limit)
    )
    if state is not None:
        query = query.where(_A.c.state == state)
    if before is not None:
        query = query.where(_A.c.ordinal < before)
    if suppressed is not None:
        query = query.where(_A.c.suppressed.is_not(None) if suppressed else _A.c.suppressed.is_(None))
    if review == "pending":
        # what is suppressed is not explained, so that nobody can review it
        query = query.where(_W.c.ordinal.is_(None), _A.c.suppressed.is_(None))
    elif review == "policy":
        query = query.where(_W.c.person.startswith(POLICY, autoescape=True))
    elif review is not None:
        query = query.where(_W.c.verdict == review)
    return [
        AnomalyRow(ordinal, Anomaly.model_validate_json(body), *[*rest, bool(withdrawn)])
        for ordinal, body, *rest, withdrawn in connection.execute(query)
    ]


def episodes_between(
    connection: sa.Connection, equipment: Sequence[str], paths: Sequence[str], from_ns: int, to_ns: int, limit: int
) -> list[Anomaly]:
    """
    Newest revisions of episodes on *equipment* with a moment in ``from_ns <= t < to_ns``; the latest *limit*.

    *paths*: only those in which one of these tags takes part.
    """
    query = (
        _newest(connection, equipment, paths)
        .where(_A.c.onset_ns < to_ns, sa.or_(_A.c.closed_ns.is_(None), _A.c.closed_ns >= from_ns))
        .order_by(_A.c.onset_ns.desc(), _A.c.ordinal.desc())
        .limit(limit)
    )
    return [Anomaly.model_validate_json(body) for body in connection.execute(query).scalars()][::-1]


def episodes_begun(
    connection: sa.Connection, equipment: Sequence[str], paths: Sequence[str], from_ns: int, to_ns: int, limit: int
) -> tuple[int, list[Anomaly]]:
    """How many episodes began in ``from_ns <= t < to_ns``, and the first *limit*; *paths* as above."""
    query = _newest(connection, equipment, paths).where(_A.c.onset_ns >= from_ns, _A.c.onset_ns < to_ns)
    number = connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar() or 0
    query = query.order_by(_A.c.onset_ns, _A.c.ordinal).limit(limit)
    return number, [Anomaly.model_validate_json(body) for body in connection.execute(query).scalars()]


def _newest(connection: sa.Connection, equipment: Sequence[str], paths: Sequence[str]) -> sa.Select[Any]:
    """Bodies of the newest revisions."""
    query = (
        sa.select(_B.c.body)
        .select_from(_A)
        .join(_B, sa.and_(_B.c.anomaly_id == _A.c.anomaly_id, _B.c.revision == _A.c.revision))
        .where(_A.c.equipment.in_(list(equipment)))
    )
    if not paths:
        return query
    # members stand in the body only; a path with its key and quotes stands there where the tag is a member
    place = sa.func.instr if connection.dialect.name == "sqlite" else sa.func.strpos
    members = [f'"path":{to_json(path).decode()}' for path in paths]
    return query.where(sa.or_(*(place(_B.c.body, text) > 0 for text in members)))


def anomaly_detail(connection: sa.Connection, anomaly_id: str) -> AnomalyDetail | None:
    """Everything that is known of one episode."""

    def bodies(column: sa.ColumnElement[str], owner: sa.ColumnElement[str], order: sa.ColumnElement[Any]) -> list[str]:
        query = sa.select(column).where(owner == anomaly_id).order_by(order)
        return list(connection.execute(query).scalars())

    revisions = [Anomaly.model_validate_json(b) for b in bodies(_B.c.body, _B.c.anomaly_id, _B.c.revision)]
    if not revisions:
        return None
    evidence = [Evidence.model_validate_json(b) for b in bodies(_E.c.body, _E.c.anomaly_id, _E.c.ordinal)]
    told = [Annotation.model_validate_json(b) for b in bodies(_N.c.body, _N.c.anomaly_id, _N.c.ordinal.desc())]
    notes = [note for note in told if note.origin != ADVISORY]
    beside = [note for note in told if note.origin == ADVISORY]
    reviews = reviews_of(connection, anomaly_id)
    reasons = _reasons(connection, anomaly_id)
    for note in told:
        if note.origin != "rules":
            reasons.pop(note.evidence_id, None)
    entries = [
        AnnotationEntry(
            note,
            place > 0 or bool(notes and note.evidence_id != notes[0].evidence_id),
            [one for one in reviews if one.annotation_id == note.annotation_id],
            reasons.get(note.evidence_id, ""),
        )
        for some in (notes, beside)
        for place, note in enumerate(some)
    ]
    changed = bool(notes and evidence and notes[0].evidence_id != evidence[-1].evidence_id)
    return AnomalyDetail(revisions[-1], revisions, evidence, entries, reviews, changed)


def _reasons(connection: sa.Connection, anomaly_id: str) -> dict[str, str]:
    """By evidence of an anomaly: why the model's last attempt brought no answer."""
    tried = tables.annotation_attempts
    query = (
        sa.select(tried.c.evidence_id, tried.c.reason)
        .join(_E, _E.c.evidence_id == tried.c.evidence_id)
        .where(_E.c.anomaly_id == anomaly_id)
    )
    return dict(connection.execute(query).all())


def annotations_pending(connection: sa.Connection, limit: int) -> list[PendingRow]:
    """
    Evidence that the model shall be asked about: that of the most severe anomalies first, of equals the oldest.

    It was not asked yet, or fewer than ``ATTEMPTS`` times and in vain for a reason that may pass.

    Only the newest evidence of an anomaly counts, and only the latest ``PENDING_SPAN`` anomalies.
    """
    tried = tables.annotation_attempts
    over = sa.or_(tried.c.final == 1, tried.c.attempts >= ATTEMPTS)
    latest = sa.select(_A).order_by(_A.c.ordinal.desc()).limit(PENDING_SPAN).subquery()
    ordinal = sa.select(sa.func.max(_E.c.ordinal)).where(_E.c.anomaly_id == latest.c.anomaly_id)
    newest = ordinal.correlate(latest).scalar_subquery()
    query = (
        sa.select(_E.c.evidence_id, latest.c.severity, _E.c.ordinal, latest.c.detector_score)
        .select_from(latest)
        .join(_E, _E.c.ordinal == newest)
        .where(~sa.exists().where(_N.c.evidence_id == _E.c.evidence_id, _N.c.origin != "rules"))
        .where(~sa.exists().where(tried.c.evidence_id == _E.c.evidence_id, over))
        .order_by(latest.c.severity, _E.c.ordinal)
        .limit(limit)
    )
    return [PendingRow._make(row) for row in connection.execute(query)]


def annotations_passed_over(connection: sa.Connection, limit: int) -> list[str]:
    """
    Newest evidence of anomalies before the latest ``PENDING_SPAN`` that the model was never asked about, as ids.

    It will not be: so many newer anomalies came. Looked at are as many anomalies before them.
    """
    tried = tables.annotation_attempts
    before = sa.select(_A).order_by(_A.c.ordinal.desc()).offset(PENDING_SPAN).limit(PENDING_SPAN).subquery()
    ordinal = sa.select(sa.func.max(_E.c.ordinal)).where(_E.c.anomaly_id == before.c.anomaly_id)
    query = (
        sa.select(_E.c.evidence_id)
        .select_from(before)
        .join(_E, _E.c.ordinal == ordinal.correlate(before).scalar_subquery())
        .where(~sa.exists().where(_N.c.evidence_id == _E.c.evidence_id, _N.c.origin == "model"))
        .where(~sa.exists().where(tried.c.evidence_id == _E.c.evidence_id))
        .order_by(_E.c.ordinal)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def document_span(connection: sa.Connection) -> tuple[int | None, int]:
    """(lowest place of the outbox still kept or None, highest ever given)."""
    first = connection.execute(sa.select(sa.func.min(_O.c.seq))).scalar()
    counters = tables.counters.c
    last = connection.execute(sa.select(counters.value).where(counters.name == "outbox_seq")).scalar()
    return first, last or 0


def list_documents(connection: sa.Connection, after: int, limit: int, kind: str | None) -> list[tuple[int, Document]]:
    """(place in the outbox, document) behind *after*, in order."""
    query = sa.select(_O.c.seq, _O.c.body).where(_O.c.seq > after).order_by(_O.c.seq).limit(limit)
    if kind is not None:
        query = query.where(_O.c.type == kind)
    return [(seq, _document(seq, body)) for seq, body in connection.execute(query)]


def document_by_id(connection: sa.Connection, document_id: str) -> Document | None:
    """One document with its place in the outbox."""
    row = connection.execute(sa.select(_O.c.seq, _O.c.body).where(_O.c.document_id == document_id)).first()
    return None if row is None else _document(row.seq, row.body)


def _document(seq: int, body: str) -> Document:
    return Document.model_validate_json(body).model_copy(update={"sequence": str(seq)})
