"""The metadata that every table belongs to, and columns as the tables have them."""

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()
Int64: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Real: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
Blob = sa.LargeBinary()


def table(name: str, *items: Any, with_rowid: bool = True) -> sa.Table:
    """A table whose types SQLite enforces; *with_rowid* False: the rows lie in the order of the primary key."""
    return sa.Table(name, METADATA, *items, sqlite_strict=True, sqlite_with_rowid=with_rowid)


def integer(name: str, *, null: bool = False, **kw: Any) -> sa.Column[int]:
    """64 bits."""
    return sa.Column(name, Int64, nullable=null, **kw)


def key(name: str) -> sa.Column[int]:
    """A 64-bit member of the primary key; the store gives the numbers."""
    return sa.Column(name, Int64, primary_key=True, autoincrement=False, nullable=False)


def text(name: str, *, null: bool = False, **kw: Any) -> sa.Column[str]:
    """Text of any length."""
    return sa.Column(name, sa.Text(), nullable=null, **kw)


def real(name: str) -> sa.Column[float]:
    """A double, or NULL."""
    return sa.Column(name, Real, nullable=True)


def text_key(name: str) -> sa.Column[str]:
    """A member of the primary key that is text."""
    return sa.Column(name, sa.Text(), primary_key=True, nullable=False)
