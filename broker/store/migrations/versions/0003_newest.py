"""The newest row of each tag by name, and up to which row a roll-up counts: roll-ups may be written later than rows."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}


def upgrade() -> None:
    """Make and fill the table, add the column."""
    op.create_table(
        "newest",
        sa.Column("tag_id", INT, autoincrement=False, nullable=False),
        sa.Column("source_ts", INT, nullable=False),
        sa.Column("seq", INT, nullable=False),
        sa.PrimaryKeyConstraint("tag_id"),
        **STRICT,
    )
    op.execute(
        "INSERT INTO newest SELECT h.tag_id, h.end_ns, h.end_seq FROM rollup_1h h WHERE NOT EXISTS (SELECT 1 "
        "FROM rollup_1h n WHERE n.tag_id = h.tag_id AND (n.bucket_ns > h.bucket_ns "
        "OR (n.bucket_ns = h.bucket_ns AND n.revision > h.revision)))"
    )
    for table in ("rollup_1m", "rollup_1h"):
        # a bucket from before counts no row that comes after
        op.add_column(table, sa.Column("counted_seq", INT, nullable=False, server_default=sa.text("0")))
