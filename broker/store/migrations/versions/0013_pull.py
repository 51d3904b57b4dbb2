"""What a pull needs: meanings of tags by record, the times of blocks of records, the order in which gaps changed."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

INT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STRICT: Final[dict[str, Any]] = {"sqlite_strict": True}


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, INT, autoincrement=False, nullable=False)


def upgrade() -> None:
    """
    Make the tables and fill them from what is there.

    Of records from before, the texts are those of the newest map, since no other was kept with its place.
    """
    op.create_table(
        "tag_meanings",
        _key("tag_id"),
        _key("revision"),
        _key("from_seq"),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "revision", "from_seq"),
        **STRICT,
        sqlite_with_rowid=False,
    )
    # an escaped NUL is no text for PostgreSQL: the row would fail every query of the view
    op.execute(
        "INSERT INTO tag_meanings (tag_id, revision, from_seq, body) SELECT tag_id, 0, 0, "
        r"""'{"enum":' || replace(enum, '\u0000', '\ufffd') || '}' FROM tags WHERE enum IS NOT NULL"""
    )
    op.create_table(
        "record_blocks",
        _key("block"),
        sa.Column("first_ns", INT, nullable=False),
        sa.Column("last_ns", INT, nullable=False),
        sa.PrimaryKeyConstraint("block"),
        **STRICT,
        sqlite_with_rowid=True,
    )
    _fill_blocks(op.get_bind())
    op.add_column("gaps", sa.Column("changed", INT, nullable=False, server_default=sa.text("0")))
    op.execute("UPDATE gaps SET changed = gap_id")
    op.create_index("gaps_by_change", "gaps", ["changed"])
    op.execute("INSERT INTO counters (name, value) SELECT 'gap_change', value FROM counters WHERE name = 'gap_id'")


def _fill_blocks(connection: sa.Connection) -> None:
    head = "INSERT INTO record_blocks (block, first_ns, last_ns) "
    if connection.dialect.name != "sqlite":
        times = "SELECT seq / 65536, min(source_ts), max(source_ts) FROM records GROUP BY seq / 65536"
        connection.execute(sa.text(head + times))
        return
    # SQLite groups by a sort of all records; the key gives them block by block, and passes over what is gone
    times = "SELECT :block, min(source_ts), max(source_ts) FROM records WHERE seq >= :low AND seq < :high"
    following = sa.text("SELECT min(seq) FROM records WHERE seq >= :low")
    seq = connection.execute(following, {"low": 0}).scalar()
    while seq is not None:
        low = seq - seq % 65536
        block = {"block": low // 65536, "low": low, "high": low + 65536}
        connection.execute(sa.text(head + times), block)
        seq = connection.execute(following, {"low": low + 65536}).scalar()
