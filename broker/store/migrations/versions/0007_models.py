"""Models: what was imported, why one was chosen, what happened to it; and which one each answer came from."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True, "sqlite_with_rowid": True}


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, INT, nullable=null, autoincrement=False)


def upgrade() -> None:
    """Make the tables, add the columns."""
    op.create_table(
        "model_imports",
        _int("ordinal"),
        _text("name"),
        _int("version"),
        _text("sha256"),
        _text("main_sha256"),
        _text("body"),
        _text("signer"),
        _text("fingerprint"),
        _text("actor"),
        _int("at_ns"),
        _text("rollback"),
        sa.PrimaryKeyConstraint("ordinal"),
        **STRICT,
    )
    op.create_index("model_imports_by_name", "model_imports", ["name", "ordinal"])
    op.create_table(
        "model_decisions",
        _int("ordinal"),
        _text("use_case"),
        _text("model"),
        _text("body"),
        _text("actor"),
        _int("at_ns"),
        sa.PrimaryKeyConstraint("ordinal"),
        **STRICT,
    )
    op.create_table(
        "model_incidents",
        _int("ordinal"),
        _text("model_key"),
        _text("model"),
        _text("kind"),
        _text("detail"),
        _int("at_ns"),
        _int("ended_ns", null=True),
        sa.PrimaryKeyConstraint("ordinal"),
        **STRICT,
    )
    op.create_index("model_incidents_by_key", "model_incidents", ["model_key", "ordinal"])
    for table, time in (("annotations", "created_ns"), ("annotation_attempts", "last_ns")):
        op.add_column(table, sa.Column("model_key", sa.Text(), nullable=False, server_default=sa.text("''")))
        op.create_index(f"{table}_by_model", table, ["model_key", time])
    op.execute("UPDATE annotations SET model_key = model_sha256")
