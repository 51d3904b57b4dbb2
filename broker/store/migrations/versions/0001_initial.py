"""
The first layout.

Source of the status names: OPC UA StatusCodes (Part 6, annex A).
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: Final[sa.types.TypeEngine[float]] = sa.Double().with_variant(sa.REAL(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}
CLUSTERED: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}
STATUS_NAMES: Final = (
    (0x00000000, "Good"),
    (0x00300000, "GoodClamped"),
    (0x00960000, "GoodLocalOverride"),
    (0x40000000, "Uncertain"),
    (0x408F0000, "UncertainNoCommunicationLastUsableValue"),
    (0x40900000, "UncertainLastUsableValue"),
    (0x40930000, "UncertainSensorNotAccurate"),
    (0x40940000, "UncertainEngineeringUnitsExceeded"),
    (0x42090000, "UncertainSimulatedValue"),
    (0x80000000, "Bad"),
    (0x80010000, "BadUnexpectedError"),
    (0x80070000, "BadDecodingError"),
    (0x800A0000, "BadTimeout"),
    (0x801F0000, "BadUserAccessDenied"),
    (0x80310000, "BadNoCommunication"),
    (0x80320000, "BadWaitingForInitialData"),
    (0x80330000, "BadNodeIdInvalid"),
    (0x80340000, "BadNodeIdUnknown"),
    (0x803A0000, "BadNotReadable"),
    (0x803E0000, "BadOutOfMemory"),
    (0x80740000, "BadTypeMismatch"),
    (0x80890000, "BadConfigurationError"),
    (0x808A0000, "BadNotConnected"),
    (0x808B0000, "BadDeviceFailure"),
    (0x808C0000, "BadSensorFailure"),
    (0x808D0000, "BadOutOfService"),
    (0x80EE0000, "BadServerTooBusy"),
)


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "annotation_attempts",
        sa.Column("evidence_id", sa.Text(), nullable=False),
        sa.Column("attempts", INT, nullable=False),
        sa.Column("last_ns", INT, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("final", INT, nullable=False),
        sa.PrimaryKeyConstraint("evidence_id"),
        **STRICT,
    )
    op.create_table(
        "annotations",
        sa.Column("annotation_id", sa.Text(), nullable=False),
        sa.Column("ordinal", INT, nullable=False),
        sa.Column("anomaly_id", sa.Text(), nullable=False),
        sa.Column("anomaly_revision", INT, nullable=False),
        sa.Column("evidence_id", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("created_ns", INT, nullable=False),
        sa.Column("cause_id", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("probability", REAL, nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("annotation_id"),
        sa.UniqueConstraint("ordinal"),
        **STRICT,
    )
    op.create_index(op.f("ix_annotations_anomaly_id"), "annotations", ["anomaly_id"], unique=False)
    op.create_index(op.f("ix_annotations_evidence_id"), "annotations", ["evidence_id"], unique=False)
    op.create_table(
        "anomalies",
        sa.Column("anomaly_id", sa.Text(), nullable=False),
        sa.Column("ordinal", INT, nullable=False),
        sa.Column("revision", INT, nullable=False),
        sa.Column("equipment", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", INT, nullable=False),
        sa.Column("ne107", sa.Text(), nullable=False),
        sa.Column("onset_ns", INT, nullable=False),
        sa.Column("updated_ns", INT, nullable=False),
        sa.Column("closed_ns", INT, nullable=True),
        sa.Column("detector_score", REAL, nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("waiting", INT, nullable=False),
        sa.PrimaryKeyConstraint("anomaly_id"),
        sa.UniqueConstraint("ordinal"),
        **STRICT,
    )
    op.create_index("anomalies_by_equipment", "anomalies", ["equipment", "onset_ns"], unique=False)
    op.create_index("anomalies_by_state", "anomalies", ["state", "updated_ns"], unique=False)
    op.create_index("anomalies_by_waiting", "anomalies", ["waiting"], unique=False)
    op.create_table(
        "anomaly_revisions",
        sa.Column("anomaly_id", sa.Text(), nullable=False),
        sa.Column("revision", INT, autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("anomaly_id", "revision"),
        **STRICT,
    )
    op.create_table(
        "audit",
        sa.Column("audit_id", INT, autoincrement=False, nullable=False),
        sa.Column("at_ns", INT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id"),
        **STRICT,
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", INT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **STRICT,
    )
    op.create_table(
        "equipment",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("equipment_class", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("in_map", INT, nullable=False),
        sa.PrimaryKeyConstraint("path"),
        **STRICT,
    )
    op.create_table(
        "evidence",
        sa.Column("evidence_id", sa.Text(), nullable=False),
        sa.Column("ordinal", INT, nullable=False),
        sa.Column("anomaly_id", sa.Text(), nullable=False),
        sa.Column("anomaly_revision", INT, nullable=False),
        sa.Column("at_ns", INT, nullable=False),
        sa.Column("record_seq", INT, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("evidence_id"),
        sa.UniqueConstraint("ordinal"),
        **STRICT,
    )
    op.create_index(op.f("ix_evidence_anomaly_id"), "evidence", ["anomaly_id"], unique=False)
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **STRICT,
    )
    op.create_table(
        "gap_tags",
        sa.Column("gap_id", INT, autoincrement=False, nullable=False),
        sa.Column("tag_id", INT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("gap_id", "tag_id"),
        **CLUSTERED,
    )
    op.create_table(
        "gaps",
        sa.Column("gap_id", INT, autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("from_ns", INT, nullable=False),
        sa.Column("to_ns", INT, nullable=True),
        sa.Column("whole_source", INT, nullable=False),
        sa.Column("tags_digest", sa.Text(), nullable=False),
        sa.Column("backfilled", INT, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("epoch", INT, nullable=False),
        sa.Column("seq", INT, nullable=False),
        sa.PrimaryKeyConstraint("gap_id"),
        sa.UniqueConstraint("source", "cause", "from_ns", "tags_digest", name="gaps_identity"),
        **STRICT,
    )
    op.create_index("gaps_by_end", "gaps", ["to_ns"], unique=False)
    op.create_table(
        "maps",
        sa.Column("revision", sa.LargeBinary(), nullable=False),
        sa.Column("ordinal", INT, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("revision"),
        **STRICT,
    )
    op.create_table(
        "outbox",
        sa.Column("seq", INT, autoincrement=False, nullable=False),
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("time", sa.Text(), nullable=False),
        sa.Column("time_ns", INT, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("document_id"),
        **STRICT,
    )
    op.create_table(
        "quarantine",
        sa.Column("quarantine_id", INT, autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("received_ns", INT, nullable=False),
        sa.Column("epoch", INT, nullable=False),
        sa.Column("seq", INT, nullable=False),
        sa.PrimaryKeyConstraint("quarantine_id"),
        **STRICT,
    )
    op.create_index("quarantine_by_source", "quarantine", ["source", "quarantine_id"], unique=False)
    op.create_table(
        "records",
        sa.Column("seq", INT, autoincrement=False, nullable=False),
        sa.Column("source_ts", INT, nullable=False),
        sa.Column("tag_id", INT, nullable=False),
        sa.Column("value", REAL, nullable=True),
        sa.Column("value_int", INT, nullable=True),
        sa.Column("value_text", sa.Text(), nullable=True),
        sa.Column("status", INT, nullable=False),
        sa.Column("flags", INT, nullable=False),
        sa.Column("server_ts", INT, nullable=True),
        sa.Column("received_ts", INT, nullable=False),
        sa.Column("fingerprint", INT, nullable=False),
        sa.Column("revision", INT, server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("length(value_text) <= 1048576", name="records_text_length"),
        sa.CheckConstraint("status BETWEEN 0 AND 4294967295", name="records_status"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("source_ts", "tag_id", "fingerprint", "revision", name="records_redelivered"),
        **STRICT,
    )
    op.create_table(
        "reviews",
        sa.Column("ordinal", INT, autoincrement=False, nullable=False),
        sa.Column("annotation_id", sa.Text(), nullable=False),
        sa.Column("anomaly_id", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("at_ns", INT, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("annotation_id", "person", "at_ns", name="reviews_identity"),
        **STRICT,
    )
    op.create_index(op.f("ix_reviews_anomaly_id"), "reviews", ["anomaly_id"], unique=False)
    op.create_table(
        "rollup_1h",
        sa.Column("tag_id", INT, autoincrement=False, nullable=False),
        sa.Column("bucket_ns", INT, autoincrement=False, nullable=False),
        sa.Column("revision", INT, autoincrement=False, nullable=False),
        sa.Column("n", INT, nullable=False),
        sa.Column("n_good", INT, nullable=False),
        sa.Column("n_bad", INT, nullable=False),
        sa.Column("n_value", INT, nullable=False),
        sa.Column("min", REAL, nullable=True),
        sa.Column("max", REAL, nullable=True),
        sa.Column("sum", REAL, nullable=True),
        sa.Column("first_ns", INT, nullable=True),
        sa.Column("first", REAL, nullable=True),
        sa.Column("last_ns", INT, nullable=True),
        sa.Column("last", REAL, nullable=True),
        sa.Column("end_ns", INT, nullable=False),
        sa.Column("end_seq", INT, nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "bucket_ns", "revision"),
        **CLUSTERED,
    )
    op.create_table(
        "rollup_1m",
        sa.Column("tag_id", INT, autoincrement=False, nullable=False),
        sa.Column("bucket_ns", INT, autoincrement=False, nullable=False),
        sa.Column("revision", INT, autoincrement=False, nullable=False),
        sa.Column("n", INT, nullable=False),
        sa.Column("n_good", INT, nullable=False),
        sa.Column("n_bad", INT, nullable=False),
        sa.Column("n_value", INT, nullable=False),
        sa.Column("min", REAL, nullable=True),
        sa.Column("max", REAL, nullable=True),
        sa.Column("sum", REAL, nullable=True),
        sa.Column("first_ns", INT, nullable=True),
        sa.Column("first", REAL, nullable=True),
        sa.Column("last_ns", INT, nullable=True),
        sa.Column("last", REAL, nullable=True),
        sa.Column("end_ns", INT, nullable=False),
        sa.Column("end_seq", INT, nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "bucket_ns", "revision"),
        **CLUSTERED,
    )
    op.create_table(
        "sources",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("up", INT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since_ns", INT, nullable=True),
        sa.Column("rows", INT, nullable=False),
        sa.Column("last_received_ns", INT, nullable=True),
        sa.Column("rejected", INT, nullable=False),
        sa.Column("quarantined", INT, nullable=False),
        sa.PrimaryKeyConstraint("source"),
        **STRICT,
    )
    op.create_table(
        "stages",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **STRICT,
    )
    op.create_table(
        "status_names",
        sa.Column("code", INT, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
        **STRICT,
    )
    op.create_table(
        "tags",
        sa.Column("tag_id", INT, autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("equipment", sa.Text(), nullable=False),
        sa.Column("range_low", REAL, nullable=True),
        sa.Column("range_high", REAL, nullable=True),
        sa.Column("enum", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("in_map", INT, nullable=False),
        sa.PrimaryKeyConstraint("tag_id"),
        sa.UniqueConstraint("id"),
        **STRICT,
    )
    op.create_index(op.f("ix_tags_path"), "tags", ["path"], unique=False)
    op.create_table(
        "users",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("disabled", INT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        **STRICT,
    )
    table = sa.table("status_names", sa.column("code", INT), sa.column("name", sa.Text()))
    op.bulk_insert(table, [{"code": code, "name": name} for code, name in STATUS_NAMES])
