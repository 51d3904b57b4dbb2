"""Stores of both kinds for the core's tests."""

from __future__ import annotations

from tests.broker.store.conftest import cluster, new_database, open_store, url

__all__ = ["cluster", "new_database", "open_store", "url"]
