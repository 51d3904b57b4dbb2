"""Alembic's entry point: runs in the connection and transaction that ``broker.store.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from broker.store.tables import METADATA

connection = context.config.attributes["connection"]
if connection is None:
    raise RuntimeError("run migrations by `fairlead db upgrade`")
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=connection.dialect.name == "sqlite",
    # the caller commits, so that migrations and views become visible together
    transactional_ddl=False,
)
context.run_migrations()
