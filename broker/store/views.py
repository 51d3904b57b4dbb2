# ruff: noqa: S608 - the parts are constants of this module
"""
The ``v_*`` views: what SQL readers may rely on (docs/sql-views.md).

Views are code, not history: an upgrade makes them anew after the migrations, and their digest is kept, so that a
changed view is noticed without a migration of its own. Others may build views on them, whatever their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from broker.store import bulk
from broker.store.tables import EVENTS, facts
from schemas.errors import StoreError

#: Names that earlier versions gave to views and that this one does not.
FORMER: tuple[str, ...] = ()
#: PostgreSQL's errors where another view is built on one that is to change or to go.
_DEPENDED_ON: Final = ("errors.DependentObjectsStillExist", "errors.FeatureNotSupported")

_QUALITY: Final = "CASE {c} / 1073741824 WHEN 0 THEN 'good' WHEN 1 THEN 'uncertain' ELSE 'bad' END"


def _time(dialect: str, column: str) -> str:
    """RFC 3339 text with nine digits of a second, also before 1970."""
    if dialect == "sqlite":
        rest = f"(({column} % 1000000000 + 1000000000) % 1000000000)"
        seconds = f"(({column} - {rest}) / 1000000000)"
        return f"strftime('%Y-%m-%dT%H:%M:%S', {seconds}, 'unixepoch') || '.' || printf('%09d', {rest}) || 'Z'"
    rest = f"mod(mod({column}, 1000000000) + 1000000000, 1000000000)"
    seconds = f"(({column} - {rest}) / 1000000000)"
    return (
        f"to_char(to_timestamp({seconds}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') || '.' || "
        f"lpad(({rest})::text, 9, '0') || 'Z'"
    )


def _enum_text(dialect: str) -> str:
    """What the map called the number of record ``r`` when it was stored; one seek."""
    if dialect == "sqlite":
        number = "coalesce(r.value_int, CASE WHEN r.value = CAST(r.value AS INTEGER) THEN CAST(r.value AS INTEGER) END)"
        text = f"""json_extract(m.body, '$.enum."' || {number} || '"')"""
    else:
        number = (
            "coalesce(r.value_int, CASE WHEN abs(r.value) < 1e15 AND r.value = trunc(r.value) THEN r.value::bigint END)"
        )
        text = f"m.body::json -> 'enum' ->> ({number})::text"
    return f"""(SELECT {text} FROM tag_meanings m WHERE m.tag_id = r.tag_id AND m.revision IN (0, r.revision)
            AND m.from_seq <= r.seq ORDER BY m.revision DESC, m.from_seq DESC LIMIT 1)"""


def _records(dialect: str, where: str, more: str = "") -> str:
    return f"""
        SELECT r.seq, t.id AS tag, t.path, t.equipment, t.unit, r.value, r.value_int, r.value_text,
            {_QUALITY.format(c="r.status")} AS quality, r.status, n.name AS status_name, r.flags,
            r.source_ts AS source_ns, {_time(dialect, "r.source_ts")} AS source_time,
            r.server_ts AS server_ns, {_time(dialect, "r.server_ts")} AS server_time,
            r.received_ts AS received_ns, {_time(dialect, "r.received_ts")} AS received_time,
            r.revision{more}, r.increase,
            {_enum_text(dialect)} AS enum_text
        FROM records r JOIN tags t ON t.tag_id = r.tag_id
        LEFT JOIN status_names n ON n.code = r.status / 65536 * 65536
        {where}"""


_NEWER: Final = """EXISTS (SELECT 1 FROM records h WHERE h.source_ts = r.source_ts AND h.tag_id = r.tag_id
            AND h.revision > r.revision)"""


#: The oldest gap that is open for the tag of the row; of a source, of every source or of tags. A row that came since,
#: and is not bad, says that the tag is sampled: the end of a gap may lie in a hole of the journal.
_OPEN_GAP: Final = f"""LEFT JOIN gaps g ON g.gap_id = (SELECT min(o.gap_id) FROM gaps o
            WHERE o.to_ns IS NULL AND o.tags_digest <> '{EVENTS}'
            AND (r.received_ts <= o.from_ns OR r.status >= 2147483648) AND CASE o.whole_source
                WHEN 1 THEN o.source IN (t.source, '')
                ELSE EXISTS (SELECT 1 FROM gap_tags x WHERE x.gap_id = o.gap_id AND x.tag_id = t.tag_id) END)"""


#: The tag went back to a unit in which it has said nothing since: what it said long ago is not its present value.
_NEWER_ELSEWHERE: Final = """EXISTS (SELECT 1 FROM tags u CROSS JOIN newest k WHERE u.id = t.id
            AND u.tag_id <> t.tag_id AND k.tag_id = u.tag_id AND k.source_ts > r.source_ts)"""


def _events(dialect: str, where: str) -> str:
    return f"""
        SELECT e.seq, e.source, e.equipment, e.time_ns AS source_ns, {_time(dialect, "e.time_ns")} AS source_time,
            e.server_ts AS server_ns, {_time(dialect, "e.server_ts")} AS server_time,
            e.received_ts AS received_ns, {_time(dialect, "e.received_ts")} AS received_time,
            e.severity, e.message, e.event_id, e.event_type, e.type_name, e.source_node, e.source_name, e.notifier,
            e.condition_id, e.condition_name, e.branch_id, e.active, e.acked, e.confirmed, e.enabled, e.retain,
            e.state, e.last_severity, e.quality AS status, n.name AS status_name, e.comment, e.user_name, e.flags,
            e.fields, e.fingerprint, e.revision
        FROM events e LEFT JOIN status_names n ON n.code = e.quality / 65536 * 65536
        {where}"""


_NEWER_EVENT: Final = """EXISTS (SELECT 1 FROM events h WHERE h.source = e.source AND h.time_ns = e.time_ns
            AND h.fingerprint = e.fingerprint AND h.revision > e.revision)"""


def _rollup(dialect: str, table: str) -> str:
    return f"""
        SELECT t.id AS tag, t.path, t.unit, b.bucket_ns, {_time(dialect, "b.bucket_ns")} AS bucket_time,
            b.n, b.n_good, b.n_bad, b.n_value, b.min, b.max,
            CASE WHEN b.n_value > 0 THEN b.sum / b.n_value END AS mean, b.sum,
            b.first_ns, b.first, b.last_ns, b.last, b.increase, b.counter_resets, b.counter_uncertain
        FROM {table} b JOIN tags t ON t.tag_id = b.tag_id
        WHERE NOT EXISTS (SELECT 1 FROM {table} h WHERE h.tag_id = b.tag_id AND h.bucket_ns = b.bucket_ns
            AND h.revision > b.revision)"""


def _of_body(dialect: str, name: str, otherwise: str) -> str:
    """A member of ``data`` of a document."""
    if dialect == "sqlite":
        return f"coalesce(json_extract(o.body, '$.data.{name}'), {otherwise})"
    cast = "::bigint" if name == "revision" else ""
    # an escaped NUL, which earlier versions stored, is no text for PostgreSQL: one such row would fail every query
    body = r"replace(o.body, '\u0000', '\ufffd')"
    return f"coalesce(({body}::json -> 'data' ->> '{name}'){cast}, {otherwise})"


def definitions(dialect: str) -> dict[str, str]:
    """SELECT of each view for ``sqlite`` or ``postgresql``."""

    def at(column: str) -> str:
        return _time(dialect, column)

    return {
        "v_records": _records(dialect, f"WHERE NOT {_NEWER}"),
        "v_record_history": _records(dialect, ""),
        # one seek a tag, no search
        "v_current": _records(
            dialect,
            f"{_OPEN_GAP} WHERE r.seq IN (SELECT c.seq FROM newest c) AND t.former = 0 AND NOT {_NEWER_ELSEWHERE}",
            f", g.cause AS gap_cause, g.from_ns AS gap_from_ns, {at('g.from_ns')} AS gap_from_time",
        ),
        "v_tags": """
            SELECT t.id AS tag, t.path, t.source, t.address, t.type, t.unit, t.range_low, t.range_high, t.description,
                t.role, t.enum, t.equipment, e.equipment_class, t.in_map
            FROM tags t LEFT JOIN equipment e ON e.path = t.equipment WHERE t.former = 0""",
        "v_rollup_1m": _rollup(dialect, "rollup_1m"),
        "v_rollup_1h": _rollup(dialect, "rollup_1h"),
        "v_gaps": f"""
            SELECT g.gap_id, g.source, t.path, g.cause, g.from_ns, {at("g.from_ns")} AS from_time,
                g.to_ns, {at("g.to_ns")} AS to_time, g.backfilled, g.detail,
                CASE g.tags_digest WHEN '{EVENTS}' THEN 'events' ELSE 'samples' END AS scope, t.id AS tag
            FROM gaps g LEFT JOIN gap_tags x ON x.gap_id = g.gap_id LEFT JOIN tags t ON t.tag_id = x.tag_id""",
        "v_source_clocks": f"""
            SELECT k.source, k.minute_ns, {at("k.minute_ns")} AS minute_time, k.ahead_ns, k.beyond_limit
            FROM source_clocks k""",
        "v_events": _events(dialect, f"WHERE NOT {_NEWER_EVENT}"),
        "v_event_history": _events(dialect, ""),
        "v_replays": f"""
            SELECT p.revision, p.state, p.actor, p.reason, p.sources, p.from_ns, {at("p.from_ns")} AS from_time,
                p.to_ns, {at("p.to_ns")} AS to_time, p.started_ns, {at("p.started_ns")} AS started_time,
                p.ended_ns, {at("p.ended_ns")} AS ended_time, p.rows AS records, p.detail
            FROM replays p""",
        "v_quarantine": f"""
            SELECT q.quarantine_id, q.source, q.place, q.reason, q.raw, q.received_ns,
                {at("q.received_ns")} AS received_time FROM quarantine q""",
        "v_anomalies": f"""
            SELECT a.anomaly_id, a.revision, a.equipment, a.title, a.state, a.kind, a.severity, a.ne107,
                a.onset_ns, {at("a.onset_ns")} AS onset_time, a.updated_ns, {at("a.updated_ns")} AS updated_time,
                a.closed_ns, {at("a.closed_ns")} AS closed_time, a.detector_score, a.suppressed
            FROM anomalies a""",
        "v_suppressions": f"""
            SELECT s.suppression_id, s.mode, s.target, s.kind, s.actor, s.reason,
                s.from_ns, {at("s.from_ns")} AS from_time, s.until_ns, {at("s.until_ns")} AS until_time,
                s.ended_ns, {at("s.ended_ns")} AS ended_time, s.ended_by, s.findings
            FROM suppressions s""",
        "v_annotations": f"""
            SELECT n.annotation_id, n.anomaly_id, n.anomaly_revision, n.evidence_id, a.equipment, n.origin,
                n.cause_id, n.cause, n.probability, n.text, n.model_sha256,
                n.created_ns, {at("n.created_ns")} AS created_time,
                w.verdict, w.person AS reviewed_by, w.at_ns AS reviewed_ns, {at("w.at_ns")} AS reviewed_time
            FROM annotations n JOIN anomalies a ON a.anomaly_id = n.anomaly_id
            LEFT JOIN reviews w ON w.ordinal = (SELECT max(v.ordinal) FROM reviews v
                WHERE v.annotation_id = n.annotation_id)""",
        # what was released before there were revisions says nothing of them
        "v_documents": f"""
            SELECT o.seq, o.document_id, o.type, o.subject, o.time_ns, o.time, o.body,
                {_of_body(dialect, "revision", "0")} AS revision, {_of_body(dialect, "status", "'released'")} AS status
            FROM outbox o""",
    }


def digest(dialect: str) -> str:
    """64 hex digits over all definitions."""
    text = "\n".join(f"{name}:{body}" for name, body in definitions(dialect).items())
    return hashlib.sha256(text.encode()).hexdigest()


def prepare(connection: sa.Connection) -> None:
    """
    Make way for the migrations.

    SQLite holds no view back and keeps no grants: ours go. On PostgreSQL they stay, with the grants on them and the
    views that others built on them; a migration that changes a column under a view drops that view itself.
    """
    if connection.dialect.name == "sqlite":
        for name in (*definitions("sqlite"), *FORMER):
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def create(connection: sa.Connection) -> None:
    """
    Make the views, or replace what they say, and note their digest; views with other names are not touched.

    Raises:
        StoreError: a view of somebody else is built on one that has to go; nothing may be committed.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        for name, body in definitions(dialect).items():
            connection.exec_driver_sql(f"CREATE VIEW {name} AS {body}")
    else:
        with naming_dependents():
            for name, body in definitions(dialect).items():
                _replace(connection, name, body)
            for name in FORMER:
                connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
    connection.execute(facts.delete().where(facts.c.name == "views"))
    connection.execute(facts.insert().values(name="views", value=digest(dialect)))


def _replace(connection: sa.Connection, name: str, body: str) -> None:
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {name} AS {body}")
    except sa.exc.DBAPIError as error:
        # only columns at the end may be new; another change needs a new view
        if not isinstance(error.orig, bulk.postgres_errors("errors.InvalidTableDefinition")):
            raise
        connection.exec_driver_sql(f"DROP VIEW {name}")
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {body}")


@contextmanager
def naming_dependents() -> Iterator[None]:
    """Raise StoreError, with the names of the views in the way, where PostgreSQL refuses to change or drop ours."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        cause = error.orig
        if not isinstance(cause, bulk.postgres_errors(*_DEPENDED_ON)):
            raise
        diagnosis: Any = getattr(cause, "diag", None)
        detail = (diagnosis.message_detail or "").replace("\n", "; ")
        raise StoreError(
            f"the store cannot be upgraded: {diagnosis.message_primary} ({detail}); save the definition of the view "
            "that is built on ours, drop it, start again, and create it anew"
        ) from error
