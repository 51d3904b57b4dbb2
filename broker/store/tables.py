"""
Tables of the store.

Times are UTC ns. ``seq`` is the primary key of records and the pull order; UNIQUE (source_ts, tag_id, fingerprint,
revision) begins with the time because a key in order of arrival is 2-3 times cheaper to fill than one by tag.
No index by tag beside it: with bundles of 10,000 rows of 1,000 tags on SQLite, (tag_id, source_ts) takes the CPU time
of a stored row from 2.1 to 11.2 µs, (tag_id, seq) to 10.5 µs, since every bundle dirties a page a tag; ten minutes of
one such tag (600 of 600,000 rows) take 49 ms to read without it and 15 ms with it.
Records carry no foreign key: PostgreSQL would look it up for every row, and only one writer exists.
"""

from typing import Any

import sqlalchemy as sa

from broker.store.text import MAX_TEXT

METADATA = sa.MetaData()

Int64: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Real: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
Blob = sa.LargeBinary()


def _table(name: str, *items: Any, with_rowid: bool = True) -> sa.Table:
    return sa.Table(name, METADATA, *items, sqlite_strict=True, sqlite_with_rowid=with_rowid)


def _int(name: str, *, null: bool = False, **kw: Any) -> sa.Column[int]:
    return sa.Column(name, Int64, nullable=null, **kw)


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, Int64, primary_key=True, autoincrement=False, nullable=False)


def _text(name: str, *, null: bool = False, **kw: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null, **kw)


def _real(name: str) -> sa.Column[float]:
    return sa.Column(name, Real, nullable=True)


def _text_key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=True, nullable=False)


#: Counters and the stream position: ``record_seq``, ``outbox_seq``, ``epoch``, ``seq``, …
counters = _table("counters", _text_key("name"), _int("value"))
#: Texts about the store itself: digest of the views, and the name that cursors carry.
STORE_ID = "store_id"
facts = _table("facts", _text_key("name"), _text("value"))
stages = _table("stages", _text_key("name"), sa.Column("state", Blob, nullable=False))

maps = _table(
    "maps", sa.Column("revision", Blob, primary_key=True), _int("ordinal"), sa.Column("body", Blob, nullable=False)
)
tags = _table(
    "tags",
    _key("tag_id"),
    _text("id", unique=True),
    _text("path", index=True),
    _text("source"),
    _text("address"),
    _text("type", null=True),
    _text("unit"),
    _text("role", null=True),
    _text("equipment"),
    _real("range_low"),
    _real("range_high"),
    _text("enum", null=True),
    _text("description"),
    _int("in_map"),
)
#: What the map said of a tag's values (JSON ``type`` and ``enum``) from a record on. ``revision`` above 0: of what
#: that replay stored; else 0.
tag_meanings = _table(
    "tag_meanings", _key("tag_id"), _key("revision"), _key("from_seq"), _text("body"), with_rowid=False
)
equipment = _table("equipment", _text_key("path"), _text("equipment_class", null=True), _text("body"), _int("in_map"))
sources = _table(
    "sources",
    _text_key("source"),
    _int("up", null=True),
    _text("reason"),
    _int("since_ns", null=True),
    _int("rows"),
    _int("last_received_ns", null=True),
    _int("rejected"),
    _int("quarantined"),
    _int("events", server_default=sa.text("0")),
)

records = _table(
    "records",
    _key("seq"),
    _int("source_ts"),
    _int("tag_id"),
    _real("value"),
    _int("value_int", null=True),
    _text("value_text", null=True),
    _int("status"),
    _int("flags"),
    _int("server_ts", null=True),
    _int("received_ts"),
    _int("fingerprint"),
    _int("revision", server_default=sa.text("0")),
    sa.UniqueConstraint("source_ts", "tag_id", "fingerprint", "revision", name="records_redelivered"),
    sa.CheckConstraint(f"length(value_text) <= {MAX_TEXT}", name="records_text_length"),
    sa.CheckConstraint("status BETWEEN 0 AND 4294967295", name="records_status"),
)
#: Between which times the records of ``seq / 65536`` lie.
record_blocks = _table("record_blocks", _key("block"), _int("first_ns"), _int("last_ns"))


def _rollup(name: str) -> sa.Table:
    """
    ``n`` rows, of which ``n_value`` (finite, not bad) make min to last; ``end_*`` is the newest row of any kind.

    Live rows up to ``counted_seq`` are in it. ``revision`` is 0: a replay corrects buckets in place.
    """
    return _table(
        name,
        _key("tag_id"),
        _key("bucket_ns"),
        _key("revision"),
        _int("n"),
        _int("n_good"),
        _int("n_bad"),
        _int("n_value"),
        _real("min"),
        _real("max"),
        _real("sum"),
        _int("first_ns", null=True),
        _real("first"),
        _int("last_ns", null=True),
        _real("last"),
        _int("end_ns"),
        _int("end_seq"),
        _int("counted_seq", server_default=sa.text("0")),
        with_rowid=False,
    )


rollup_1m = _rollup("rollup_1m")
rollup_1h = _rollup("rollup_1h")
#: Buckets that a replay has corrected rows in, to be made anew; ``level`` 0: minutes, 1: hours.
stale_buckets = _table("stale_buckets", _key("level"), _key("bucket_ns"), _key("tag_id"), with_rowid=False)
#: The valid row with the newest device time of each tag.
newest = _table("newest", _key("tag_id"), _int("source_ts"), _int("seq"))

#: ``changed``: place of the gap's begin, end or repair among those of all gaps, in which it is pulled again.
#: In the place of ``tags_digest``: events are missing, and no sample of any tag.
EVENTS = "events"
gaps = _table(
    "gaps",
    _key("gap_id"),
    _text("source"),
    _text("cause"),
    _int("from_ns"),
    _int("to_ns", null=True),
    _int("whole_source"),
    _text("tags_digest"),
    _int("backfilled"),
    _text("detail"),
    _int("epoch"),
    _int("seq"),
    _int("changed", server_default=sa.text("0")),
    sa.UniqueConstraint("source", "cause", "from_ns", "tags_digest", name="gaps_identity"),
    sa.Index("gaps_by_end", "to_ns"),
    sa.Index("gaps_by_change", "changed"),
)
#: How far the clock of a source was ahead of ours, minute by minute of reception.
source_clocks = _table(
    "source_clocks", _key("minute_ns"), _text_key("source"), _int("ahead_ns"), _int("beyond_limit"), with_rowid=False
)
gap_tags = _table("gap_tags", _key("gap_id"), _key("tag_id"), with_rowid=False)
quarantine = _table(
    "quarantine",
    _key("quarantine_id"),
    _text("source"),
    _text("place"),
    _text("reason"),
    sa.Column("raw", Blob, nullable=False),
    _int("received_ns"),
    _int("epoch"),
    _int("seq"),
    sa.Index("quarantine_by_source", "source", "quarantine_id"),
)

#: Events of servers, in the order in which they came; ``fingerprint`` is over what two events of one time differ in.
#: ``server_ts`` is the ReceiveTime of the server; the two-state variables are 0, 1 or NULL. ``revision`` counts the
#: corrections of an event after it was stored: each is a row behind all others, so that a pull meets it.
events = _table(
    "events",
    _key("seq"),
    _text("source"),
    _int("time_ns"),
    _int("fingerprint"),
    _int("server_ts", null=True),
    _int("received_ts"),
    _text("notifier"),
    _text("equipment"),
    _text("event_id"),
    _text("event_type"),
    _text("type_name"),
    _text("source_node"),
    _text("source_name"),
    _int("severity"),
    _text("message"),
    _int("flags"),
    _text("condition_id", null=True),
    _text("condition_name", null=True),
    _text("branch_id", null=True),
    _int("retain", null=True),
    _int("enabled", null=True),
    _int("acked", null=True),
    _int("confirmed", null=True),
    _int("active", null=True),
    _text("state", null=True),
    _int("last_severity", null=True),
    _int("quality", null=True),
    _text("comment", null=True),
    _text("user_name", null=True),
    _text("fields"),
    _int("revision", server_default=sa.text("0")),
    sa.UniqueConstraint("source", "time_ns", "fingerprint", "revision", name="events_redelivered"),
    sa.Index("events_by_equipment", "equipment", "time_ns"),
    sa.Index("events_by_time", "time_ns"),
)

#: One row an anomaly, as its newest revision says; ``ordinal`` counts anomalies in order of first appearance.
#: ``waiting`` 1: it is explained, and nobody has reviewed it.
anomalies = _table(
    "anomalies",
    _text_key("anomaly_id"),
    _int("ordinal", unique=True),
    _int("revision"),
    _text("equipment"),
    _text("state"),
    _text("kind"),
    _int("severity"),
    _text("ne107"),
    _int("onset_ns"),
    _int("updated_ns"),
    _int("closed_ns", null=True),
    _real("detector_score"),
    _text("title"),
    _int("waiting"),
    _text("suppressed", null=True),
    sa.Index("anomalies_by_suppressed", "suppressed", "ordinal"),
    sa.Index("anomalies_by_equipment", "equipment", "onset_ns"),
    sa.Index("anomalies_by_state", "state", "updated_ns"),
    sa.Index("anomalies_by_waiting", "waiting"),
)
anomaly_revisions = _table(
    "anomaly_revisions",
    _text_key("anomaly_id"),
    _key("revision"),
    sa.Column("body", sa.Text(), nullable=False),
)
evidence = _table(
    "evidence",
    _text_key("evidence_id"),
    _int("ordinal", unique=True),
    _text("anomaly_id", index=True),
    _int("anomaly_revision"),
    _int("at_ns"),
    _int("record_seq"),
    _text("body"),
)
annotations = _table(
    "annotations",
    _text_key("annotation_id"),
    _int("ordinal", unique=True),
    _text("anomaly_id", index=True),
    _int("anomaly_revision"),
    _text("evidence_id", index=True),
    _text("origin"),
    _int("created_ns"),
    _text("cause_id"),
    _text("cause"),
    _real("probability"),
    _text("text"),
    _text("model_sha256"),
    _text("body"),
    _text("model_key", server_default=sa.text("''")),
    sa.Index("annotations_by_model", "model_key", "created_ns"),
)
#: Why no answer of ``model_key`` stands; ``final`` 0: what was in the way may pass, so that the model is asked again.
annotation_attempts = _table(
    "annotation_attempts",
    _text_key("evidence_id"),
    _int("attempts"),
    _int("last_ns"),
    _text("reason"),
    _int("final"),
    _text("model_key", server_default=sa.text("''")),
    sa.Index("annotation_attempts_by_model", "model_key", "last_ns"),
)
reviews = _table(
    "reviews",
    _key("ordinal"),
    _text("annotation_id"),
    _text("anomaly_id", index=True),
    _text("verdict"),
    _text("person"),
    _int("at_ns"),
    _text("body"),
    sa.UniqueConstraint("annotation_id", "person", "at_ns", name="reviews_identity"),
)
outbox = _table(
    "outbox",
    _key("seq"),
    _text("document_id", unique=True),
    _text("type"),
    _text("subject"),
    _text("time"),
    _int("time_ns"),
    _text("body"),
)

#: The site's own manuals and maintenance logs; ``state``: importing, ready, removed (its passages go by and by).
#: ``equipment`` and ``classes`` are JSON lists of what it is about; both empty: the whole site.
manuals = _table(
    "manuals",
    _key("manual_id"),
    _text("name"),
    _text("kind"),
    _text("state"),
    _text("sha256"),
    _int("size"),
    _int("pages", null=True),
    _int("passages"),
    _text("equipment"),
    _text("classes"),
    _text("actor"),
    _int("imported_ns"),
    sa.Index("manuals_by_name", "name"),
)
#: ``words`` is what the full-text index of the database is made of, ``equipment`` the short name of what an entry of a
#: log is about, in the form of ``manuals.short``; empty where it names none.
passages = _table(
    "passages",
    _key("passage_id"),
    _int("manual_id"),
    _int("page", null=True),
    _int("line", null=True),
    _text("heading"),
    _text("text"),
    _text("equipment"),
    _text("words"),
    sa.Index("passages_by_manual", "manual_id"),
)

#: What people suppressed; ``until_ns`` NULL: until a person ends it, ``ended_by`` empty: time did. ``findings``: those
#: that it held.
suppressions = _table(
    "suppressions",
    _text_key("suppression_id"),
    _int("ordinal", unique=True),
    _text("mode"),
    _text("target"),
    _text("kind"),
    _text("actor"),
    _text("reason"),
    _int("from_ns"),
    _int("until_ns", null=True),
    _int("ended_ns", null=True),
    _text("ended_by", null=True),
    _int("findings"),
    sa.Index("suppressions_by_end", "ended_ns"),
)
#: Runs that made records anew; ``at_ns`` is the wall time of the journal that a running one has come to.
replays = _table(
    "replays",
    _key("revision"),
    _text("state"),
    _text("actor"),
    _text("reason"),
    _text("sources"),
    _int("from_ns"),
    _int("to_ns"),
    sa.Column("map_revision", Blob, nullable=False),
    sa.Column("map_body", Blob, nullable=False),
    _int("started_ns"),
    _int("ended_ns", null=True),
    _int("at_ns", null=True),
    _int("entries"),
    _int("rows"),
    _text("detail"),
)
#: Models that came in from signed media; ``sha256`` and ``body`` are of the manifest, ``rollback`` a reason or empty.
model_imports = _table(
    "model_imports",
    _key("ordinal"),
    _text("name"),
    _int("version"),
    _text("sha256"),
    _text("main_sha256"),
    _text("body"),
    _text("signer"),
    _text("fingerprint"),
    _text("actor"),
    _int("at_ns"),
    _text("rollback"),
    sa.Index("model_imports_by_name", "name", "ordinal"),
)
#: Why a model was chosen for a use.
model_decisions = _table(
    "model_decisions",
    _key("ordinal"),
    _text("use_case"),
    _text("model"),
    _text("body"),
    _text("actor"),
    _int("at_ns"),
)
#: What happened to a model in service; ``ended_ns`` NULL: it is still so.
model_incidents = _table(
    "model_incidents",
    _key("ordinal"),
    _text("model_key"),
    _text("model"),
    _text("kind"),
    _text("detail"),
    _int("at_ns"),
    _int("ended_ns", null=True),
    sa.Index("model_incidents_by_key", "model_key", "ordinal"),
)
users = _table("users", _text_key("name"), _text("roles"), _text("password_hash"), _int("disabled"))
audit = _table(
    "audit",
    _key("audit_id"),
    _int("at_ns"),
    _text("actor"),
    _text("action"),
    _text("object_id"),
    _text("detail"),
    _text("prev_hash"),
    _text("hash"),
)
#: Names of common status codes for the views; filled by the migration.
status_names = _table("status_names", _key("code"), _text("name"))
