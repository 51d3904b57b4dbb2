"""Anomalies, what is said and decided of them, the documents that came of it, and what people suppressed."""

import sqlalchemy as sa

from broker.store.tables.metadata import integer, key, real, table, text, text_key

#: One row an anomaly, as its newest revision says; ``ordinal`` counts anomalies in order of first appearance.
#: ``waiting`` 1: it is explained, and nobody has reviewed it.
anomalies = table(
    "anomalies",
    text_key("anomaly_id"),
    integer("ordinal", unique=True),
    integer("revision"),
    text("equipment"),
    text("state"),
    text("kind"),
    integer("severity"),
    text("ne107"),
    integer("onset_ns"),
    integer("updated_ns"),
    integer("closed_ns", null=True),
    real("detector_score"),
    text("title"),
    integer("waiting"),
    text("suppressed", null=True),
    sa.Index("anomalies_by_suppressed", "suppressed", "ordinal"),
    sa.Index("anomalies_by_equipment", "equipment", "onset_ns"),
    sa.Index("anomalies_by_state", "state", "updated_ns"),
    sa.Index("anomalies_by_waiting", "waiting"),
)
anomaly_revisions = table(
    "anomaly_revisions",
    text_key("anomaly_id"),
    key("revision"),
    sa.Column("body", sa.Text(), nullable=False),
)
evidence = table(
    "evidence",
    text_key("evidence_id"),
    integer("ordinal", unique=True),
    text("anomaly_id", index=True),
    integer("anomaly_revision"),
    integer("at_ns"),
    integer("record_seq"),
    text("body"),
)
annotations = table(
    "annotations",
    text_key("annotation_id"),
    integer("ordinal", unique=True),
    text("anomaly_id", index=True),
    integer("anomaly_revision"),
    text("evidence_id", index=True),
    text("origin"),
    integer("created_ns"),
    text("cause_id"),
    text("cause"),
    real("probability"),
    text("text"),
    text("model_sha256"),
    text("body"),
    text("model_key", server_default=sa.text("''")),
    sa.Index("annotations_by_model", "model_key", "created_ns"),
)
#: Why no answer of ``model_key`` stands; ``final`` 0: what was in the way may pass, so that the model is asked again.
annotation_attempts = table(
    "annotation_attempts",
    text_key("evidence_id"),
    integer("attempts"),
    integer("last_ns"),
    text("reason"),
    integer("final"),
    text("model_key", server_default=sa.text("''")),
    sa.Index("annotation_attempts_by_model", "model_key", "last_ns"),
)
reviews = table(
    "reviews",
    key("ordinal"),
    text("annotation_id"),
    text("anomaly_id", index=True),
    text("verdict"),
    text("person"),
    integer("at_ns"),
    text("body"),
    sa.UniqueConstraint("annotation_id", "person", "at_ns", name="reviews_identity"),
)
outbox = table(
    "outbox",
    key("seq"),
    text("document_id", unique=True),
    text("type"),
    text("subject"),
    text("time"),
    integer("time_ns"),
    text("body"),
)
#: What people suppressed; ``until_ns`` NULL: until a person ends it, ``ended_by`` empty: time did. ``findings``: those
#: that it held.
suppressions = table(
    "suppressions",
    text_key("suppression_id"),
    integer("ordinal", unique=True),
    text("mode"),
    text("target"),
    text("kind"),
    text("actor"),
    text("reason"),
    integer("from_ns"),
    integer("until_ns", null=True),
    integer("ended_ns", null=True),
    text("ended_by", null=True),
    integer("findings"),
    sa.Index("suppressions_by_end", "ended_ns"),
)
