"""Corrected events: a row under a revision of its own, behind the one that was pulled before."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}
KEY: Final = ("source", "time_ns", "fingerprint", "revision")
COLUMNS: Final = (
    "seq, source, time_ns, fingerprint, server_ts, received_ts, notifier, equipment, event_id, event_type, type_name, "
    "source_node, source_name, severity, message, flags, condition_id, condition_name, branch_id, retain, enabled, "
    "acked, confirmed, active, state, last_severity, quality, comment, user_name, fields"
)


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, INT, nullable=null)


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null)


def upgrade() -> None:
    """Add the column to the key; on SQLite, where a key is part of the table, the table is copied."""
    if op.get_bind().dialect.name != "sqlite":
        op.add_column("events", sa.Column("revision", INT, nullable=False, server_default=sa.text("0")))
        op.drop_constraint("events_redelivered", "events", type_="unique")
        op.create_unique_constraint("events_redelivered", "events", KEY)
        return
    op.rename_table("events", "events_before")
    for index in ("events_by_equipment", "events_by_time"):
        op.drop_index(index)
    op.create_table(
        "events",
        sa.Column("seq", INT, autoincrement=False, nullable=False),
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
        sa.Column("revision", INT, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint(*KEY, name="events_redelivered"),
        **STRICT,
    )
    op.execute(f"INSERT INTO events ({COLUMNS}) SELECT {COLUMNS} FROM events_before ORDER BY seq")  # noqa: S608 - constants
    op.drop_table("events_before")
    op.create_index("events_by_equipment", "events", ["equipment", "time_ns"])
    op.create_index("events_by_time", "events", ["time_ns"])
