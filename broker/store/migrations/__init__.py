"""Alembic environment and versions of the store."""
