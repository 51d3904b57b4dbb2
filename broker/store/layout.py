"""Which table layout a database has, and which one this program expects: asked at every start, without Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from broker.store import views
from broker.store.tables import facts

FOLDER: Final = Path(__file__).parent / "migrations"
#: Alembic's table.
_VERSION: Final = sa.table("alembic_version", sa.column("version_num", sa.Text))


def head() -> str:
    """The newest revision that this program knows; migrations are numbered, and so are their files."""
    found = max((file.name for file in (FOLDER / "versions").glob("[0-9]*.py")), default=None)
    if found is None:
        raise RuntimeError("the package ships no migration")
    return found.partition("_")[0]


def current(connection: sa.Connection) -> str | None:
    """The revision a database has, None for an empty one."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    revision: str | None = connection.execute(sa.select(_VERSION.c.version_num)).scalar()
    return revision


def is_current(connection: sa.Connection) -> bool:
    """Whether tables and views are what this program expects."""
    if current(connection) != head():
        return False
    made = connection.execute(sa.select(facts.c.value).where(facts.c.name == "views")).scalar()
    return made == views.digest(connection.dialect.name)
