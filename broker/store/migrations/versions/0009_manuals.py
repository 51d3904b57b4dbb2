"""The site's own manuals and maintenance logs, cut into passages."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, INT, nullable=null)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    """Make the tables; the full-text index is made with the first import (``broker/store/manuals.py``)."""
    op.create_table(
        "manuals",
        sa.Column("manual_id", INT, autoincrement=False, nullable=False),
        _text("name"),
        _text("kind"),
        _text("state"),
        _text("sha256"),
        _int("size"),
        _int("pages", null=True),
        _int("passages"),
        _text("equipment"),
        _text("classes"),
        _text("actor"),
        _int("imported_ns"),
        sa.PrimaryKeyConstraint("manual_id"),
        **STRICT,
    )
    op.create_index("manuals_by_name", "manuals", ["name"])
    op.create_table(
        "passages",
        sa.Column("passage_id", INT, autoincrement=False, nullable=False),
        _int("manual_id"),
        _int("page", null=True),
        _int("line", null=True),
        _text("heading"),
        _text("text"),
        _text("equipment"),
        _text("words"),
        sa.PrimaryKeyConstraint("passage_id"),
        **STRICT,
    )
    op.create_index("passages_by_manual", "passages", ["manual_id"])
