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
        # one pass: the hours of a tag are many, and none has a revision above 0 in an older store
        "INSERT INTO newest SELECT h.tag_id, h.end_ns, h.end_seq FROM rollup_1h h JOIN (SELECT tag_id, "
        "max(bucket_ns) AS bucket_ns FROM rollup_1h WHERE revision = 0 GROUP BY tag_id) m "
        "ON m.tag_id = h.tag_id AND m.bucket_ns = h.bucket_ns WHERE h.revision = 0"
    )
    for table in ("rollup_1m", "rollup_1h"):
        # a bucket from before counts no row that comes after
        op.add_column(table, sa.Column("counted_seq", INT, nullable=False, server_default=sa.text("0")))
