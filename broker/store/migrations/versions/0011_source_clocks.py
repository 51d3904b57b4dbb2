"""How far the clock of each source was off, minute by minute."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "source_clocks",
        sa.Column("minute_ns", INT, autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("ahead_ns", INT, nullable=False),
        sa.Column("beyond_limit", INT, nullable=False),
        sa.PrimaryKeyConstraint("minute_ns", "source"),
        **STRICT,
    )
