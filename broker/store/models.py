"""Models: imports, decisions, incidents, and the answers each has given. Rows stay for good."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa

from broker.store import tables
from broker.store.memory import Memory
from broker.store.text import clean, stored_json
from schemas.annotation import Review
from schemas.ladder import Decision
from schemas.manifest import Manifest

#: crash: its worker ended unasked. quarantined: it is given up. The others: a figure in service was over its limit.
IncidentKind = Literal["crash", "quarantined", "reject_rate", "unknown_rate", "drift"]

_I: Final = tables.model_imports
_D: Final = tables.model_decisions
_X: Final = tables.model_incidents
_N: Final = tables.annotations
_T: Final = tables.annotation_attempts
_E: Final = tables.evidence
_W: Final = tables.reviews


class ImportRow(NamedTuple):
    """
    A model that was imported; the highest ``ordinal`` of a name is the one in use.

    ``sha256`` is of the manifest, ``main_sha256`` of the weights (of the adapter, where there are none), ``signer``
    and ``fingerprint`` name the key. ``rollback`` is the reason why an older version was allowed; empty: it is newer.
    """

    ordinal: int
    name: str
    version: int
    sha256: str
    main_sha256: str
    manifest: Manifest
    signer: str
    fingerprint: str
    actor: str
    at_ns: int
    rollback: str


class DecisionRow(NamedTuple):
    """A recorded choice, and who recorded it."""

    ordinal: int
    decision: Decision
    actor: str
    at_ns: int


class IncidentRow(NamedTuple):
    """What happened to a model; ``ended_ns`` None: it is still so."""

    ordinal: int
    model_key: str
    model: str
    kind: IncidentKind
    detail: str
    at_ns: int
    ended_ns: int | None


class UseRow(NamedTuple):
    """How often and when a model has answered; of what is still kept."""

    model_key: str
    model_sha256: str
    answers: int
    first_ns: int
    last_ns: int


class AnswerRow(NamedTuple):
    """One answer of a model with the evidence it saw (``Evidence.body``)."""

    cause_id: str
    created_ns: int
    evidence: str


def put_import(
    connection: sa.Connection, memory: Memory, manifest: Manifest, signer: tuple[str, str], row: dict[str, Any]
) -> int:
    """Note an import; *signer* is name and fingerprint of the key, *row* has actor, at_ns and rollback. Its ordinal."""
    ordinal = memory.next("model_import")
    connection.execute(
        _I.insert().values(
            ordinal=ordinal,
            name=manifest.name,
            version=manifest.version,
            sha256=manifest.sha256,
            main_sha256=manifest.main.sha256,
            body=manifest.body.decode(),
            signer=clean(signer[0]),
            fingerprint=signer[1],
            actor=clean(row["actor"]),
            at_ns=row["at_ns"],
            rollback=clean(row["rollback"]),
        )
    )
    return ordinal


def list_imports(connection: sa.Connection, name: str | None = None) -> list[ImportRow]:
    """Imports, newest first; *name*: of one model."""
    columns = ("body" if name == "manifest" else name for name in ImportRow._fields)
    query = sa.select(*(_I.c[column] for column in columns)).order_by(_I.c.ordinal.desc())
    if name is not None:
        query = query.where(_I.c.name == name)
    # the body was checked when it came in, and its signature is verified whenever the files are used
    return [
        ImportRow._make((*row[:5], Manifest.model_validate_json(row[5]), *row[6:])) for row in connection.execute(query)
    ]


def put_decision(connection: sa.Connection, memory: Memory, decision: Decision, actor: str, at_ns: int) -> None:
    """Note a decision; the newest of a use is in force."""
    connection.execute(
        _D.insert().values(
            ordinal=memory.next("model_decision"),
            use_case=decision.use,
            model=clean(decision.model),
            body=stored_json(decision),
            actor=clean(actor),
            at_ns=at_ns,
        )
    )


def list_decisions(connection: sa.Connection, limit: int) -> list[DecisionRow]:
    """Decisions, newest first."""
    query = sa.select(_D.c.ordinal, _D.c.body, _D.c.actor, _D.c.at_ns).order_by(_D.c.ordinal.desc()).limit(limit)
    return [
        DecisionRow(ordinal, Decision.model_validate_json(body), actor, at_ns)
        for ordinal, body, actor, at_ns in connection.execute(query)
    ]


def put_incident(
    connection: sa.Connection, memory: Memory, found: tuple[str, str, IncidentKind, str], at_ns: int, *, lasting: bool
) -> None:
    """Note what happened (key, name, kind, detail); *lasting*: it is so until :func:`end_incidents`."""
    key, model, kind, detail = found
    connection.execute(
        _X.insert().values(
            ordinal=memory.next("model_incident"),
            model_key=key,
            model=clean(model),
            kind=kind,
            detail=clean(detail),
            at_ns=at_ns,
            ended_ns=None if lasting else at_ns,
        )
    )


def end_incidents(connection: sa.Connection, key: str, kind: IncidentKind, at_ns: int) -> None:
    """Note that it is so no longer."""
    where = sa.and_(_X.c.model_key == key, _X.c.kind == kind, _X.c.ended_ns.is_(None))
    connection.execute(_X.update().where(where).values(ended_ns=at_ns))


def list_incidents(connection: sa.Connection, limit: int, *, open_only: bool = False) -> list[IncidentRow]:
    """Incidents, newest first."""
    query = sa.select(*(_X.c[name] for name in IncidentRow._fields)).order_by(_X.c.ordinal.desc()).limit(limit)
    if open_only:
        query = query.where(_X.c.ended_ns.is_(None))
    return [IncidentRow._make(row) for row in connection.execute(query)]


def crashes(connection: sa.Connection) -> dict[str, int]:
    """By model key: how often its worker ended unasked."""
    query = sa.select(_X.c.model_key, sa.func.count()).where(_X.c.kind == "crash").group_by(_X.c.model_key)
    return dict(connection.execute(query).all())


def uses(connection: sa.Connection) -> list[UseRow]:
    """Every model that has answered."""
    time = _N.c.created_ns
    query = (
        sa.select(_N.c.model_key, sa.func.max(_N.c.model_sha256), sa.func.count(), sa.func.min(time), sa.func.max(time))
        .where(_N.c.model_key != "")
        .group_by(_N.c.model_key)
        .order_by(_N.c.model_key)
    )
    return [UseRow._make(row) for row in connection.execute(query)]


def answers(
    connection: sa.Connection, key: str, from_ns: int, limit: int, order: Literal["first", "newest"]
) -> list[AnswerRow]:
    """Answers of a model made at *from_ns* or later, the *first* or the *newest* ones, in the order of that word."""
    time = _N.c.created_ns
    query = (
        sa.select(_N.c.cause_id, time, _E.c.body)
        .select_from(_N)
        .join(_E, _E.c.evidence_id == _N.c.evidence_id)
        .where(_N.c.model_key == key, time >= from_ns)
        .order_by(*((time, _N.c.ordinal) if order == "first" else (time.desc(), _N.c.ordinal.desc())))
        .limit(limit)
    )
    return [AnswerRow._make(row) for row in connection.execute(query)]


def counts(connection: sa.Connection, key: str, from_ns: int, unknown: str) -> tuple[int, int, int]:
    """
    (answers, those of cause *unknown*, those that people rejected) of a model since *from_ns*.

    The newest review counts. Who rejects what a person had put in the place of the answer has not rejected the answer.
    """
    word = sa.select(sa.func.max(_W.c.ordinal)).where(_W.c.annotation_id == _N.c.annotation_id)
    rejected = sa.and_(_W.c.ordinal == word.correlate(_N).scalar_subquery(), _W.c.verdict == "rejected")
    mine = sa.and_(_N.c.model_key == key, _N.c.created_ns >= from_ns)
    answers = sa.select(sa.func.count(), sa.func.count(sa.case((_N.c.cause_id == unknown, 1)))).where(mine)
    taken_back = sa.select(_N.c.annotation_id).join(_W, rejected).where(mine).subquery()
    edits = (
        sa.select(_N.c.annotation_id, _N.c.cause_id, _N.c.text, _W.c.body)
        .join(_W, sa.and_(_W.c.annotation_id == _N.c.annotation_id, _W.c.verdict == "edited"))
        .where(_N.c.annotation_id.in_(sa.select(taken_back.c.annotation_id)))
    )
    row = connection.execute(answers).one()
    number = connection.execute(sa.select(sa.func.count()).select_from(taken_back)).scalar_one()
    corrected = {
        annotation_id
        for annotation_id, cause_id, text, body in connection.execute(edits)
        if Review.model_validate_json(body).corrects(cause_id, text)
    }
    return int(row[0]), int(row[1]), int(number) - len(corrected)


def attempts(connection: sa.Connection, key: str, from_ns: int, refused: str) -> tuple[int, int]:
    """(answers that the checks refused, attempts that brought none) of a model since *from_ns*."""
    wrong = _T.c.reason.startswith(refused, autoescape=True)
    query = sa.select(
        sa.func.count(sa.case((wrong, 1))), sa.func.count(sa.case((sa.and_(_T.c.reason != "", ~wrong), 1)))
    ).where(_T.c.model_key == key, _T.c.last_ns >= from_ns)
    row = connection.execute(query).one()
    return int(row[0]), int(row[1])
