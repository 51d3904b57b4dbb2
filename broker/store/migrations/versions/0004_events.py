"""Events, alarms and conditions of servers, and how many each source has."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, INT, nullable=null)


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null)


def upgrade() -> None:
    """Make the table, add the column."""
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
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("source", "time_ns", "fingerprint", name="events_redelivered"),
        **STRICT,
    )
    op.create_index("events_by_equipment", "events", ["equipment", "time_ns"])
    op.create_index("events_by_time", "events", ["time_ns"])
    op.add_column("sources", sa.Column("events", INT, nullable=False, server_default=sa.text("0")))
