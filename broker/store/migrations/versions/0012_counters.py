"""Counters: how far they went on since the record before, and the sums of it."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: Final[sa.types.TypeEngine[float]] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add the columns; no row is written anew."""
    op.add_column("records", sa.Column("increase", REAL, nullable=True))
    for table in ("rollup_1m", "rollup_1h"):
        op.add_column(table, sa.Column("increase", REAL, nullable=True))
        for name in ("counter_resets", "counter_uncertain"):
            op.add_column(table, sa.Column(name, INT, nullable=False, server_default=sa.text("0")))
