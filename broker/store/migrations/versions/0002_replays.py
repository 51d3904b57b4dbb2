"""Replays: which records were made anew, by whom, with which map."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "replays",
        sa.Column("revision", INT, autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("from_ns", INT, nullable=False),
        sa.Column("to_ns", INT, nullable=False),
        sa.Column("map_revision", sa.LargeBinary(), nullable=False),
        sa.Column("map_body", sa.LargeBinary(), nullable=False),
        sa.Column("started_ns", INT, nullable=False),
        sa.Column("ended_ns", INT, nullable=True),
        sa.Column("at_ns", INT, nullable=True),
        sa.Column("entries", INT, nullable=False),
        sa.Column("rows", INT, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision"),
        **STRICT,
    )
