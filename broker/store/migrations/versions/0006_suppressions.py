"""What people suppressed, and why an episode asks nobody for attention."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}


def upgrade() -> None:
    """Make the table, add the column."""
    op.create_table(
        "suppressions",
        sa.Column("suppression_id", sa.Text(), nullable=False),
        sa.Column("ordinal", INT, nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("from_ns", INT, nullable=False),
        sa.Column("until_ns", INT, nullable=True),
        sa.Column("ended_ns", INT, nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("findings", INT, nullable=False),
        sa.PrimaryKeyConstraint("suppression_id"),
        sa.UniqueConstraint("ordinal"),
        **STRICT,
    )
    op.create_index("suppressions_by_end", "suppressions", ["ended_ns"])
    op.add_column("anomalies", sa.Column("suppressed", sa.Text(), nullable=True))
    op.create_index("anomalies_by_suppressed", "anomalies", ["suppressed", "ordinal"])
