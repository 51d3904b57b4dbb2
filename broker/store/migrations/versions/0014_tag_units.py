"""One row a tag and unit: what was stored before a change of the unit keeps the one that it was made with."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: Final[sa.types.TypeEngine[float]] = sa.Double().with_variant(sa.REAL(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}
COLUMNS: Final = (
    "tag_id, id, path, source, address, type, unit, role, equipment, range_low, range_high, enum, description, in_map"
)


def upgrade() -> None:
    """Let the key be id and unit; on SQLite, where a key is part of the table, the table is copied."""
    if op.get_bind().dialect.name != "sqlite":
        op.add_column("tags", sa.Column("former", INT, nullable=False, server_default=sa.text("0")))
        op.drop_constraint("tags_id_key", "tags", type_="unique")
        op.create_unique_constraint("tags_identity", "tags", ["id", "unit"])
        return
    op.rename_table("tags", "tags_before")
    op.drop_index("ix_tags_path")
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
        sa.Column("former", INT, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("tag_id"),
        sa.UniqueConstraint("id", "unit", name="tags_identity"),
        **STRICT,
    )
    op.execute(f"INSERT INTO tags ({COLUMNS}) SELECT {COLUMNS} FROM tags_before")  # noqa: S608 - constants
    op.drop_table("tags_before")
    op.create_index("ix_tags_path", "tags", ["path"])
