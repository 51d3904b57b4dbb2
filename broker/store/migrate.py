"""
Bring a database to the newest table layout, with the migrations that ship in the package.

The only importer of Alembic: 10 MB that a process needs when there is something to migrate.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from broker.store import views
from broker.store.layout import FOLDER
from broker.store.tables import STORE_ID, facts


def config(connection: sa.Connection | None = None) -> Config:
    """Alembic's configuration without an ini file; *connection* is used by ``migrations/env.py``."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    made.set_main_option("path_separator", "newline")
    made.attributes["connection"] = connection
    return made


def is_known(revision: str) -> bool:
    """Whether this program has the migration *revision*; if not, a newer one made the database."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(config()).walk_revisions())


def upgrade(connection: sa.Connection) -> None:
    """
    Run the missing migrations and make the views anew, all in the caller's transaction.

    Raises:
        StoreError: somebody's view is built on one of ours that has to change (PostgreSQL).
    """
    views.prepare(connection)
    with _renaming(connection), views.naming_dependents():
        command.upgrade(config(connection), "head")
    _give_name(connection)
    views.create(connection)


@contextmanager
def _renaming(connection: sa.Connection) -> Iterator[None]:
    """Let Alembic's batches rename tables on SQLite although somebody's view is built on one that is gone for now."""
    if connection.dialect.name != "sqlite":
        yield
        return
    connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
    try:
        yield
    finally:
        connection.exec_driver_sql("PRAGMA legacy_alter_table=OFF")


def _give_name(connection: sa.Connection) -> None:
    """A random name for a new store, so that a cursor of another one is noticed."""
    if connection.execute(sa.select(facts.c.value).where(facts.c.name == STORE_ID)).first() is None:
        connection.execute(facts.insert().values(name=STORE_ID, value=secrets.token_hex(6)))
