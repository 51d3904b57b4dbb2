"""Roll-ups behind a replay are made anew in small steps: which of them still have to be."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": False}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "stale_buckets",
        *(sa.Column(name, INT, autoincrement=False, nullable=False) for name in ("level", "bucket_ns", "tag_id")),
        sa.PrimaryKeyConstraint("level", "bucket_ns", "tag_id"),
        **STRICT,
    )
