"""
The SQL store: one writer, many readers; SQLite by default, PostgreSQL by URL.

Tables are ours to change; the ``v_*`` views (docs/sql-views.md) are the contract with SQL readers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from broker.store.options import StoreOptions

if TYPE_CHECKING:
    from broker.store.reader import Reader
    from broker.store.store import Store
    from broker.store.transaction import Transaction

__all__ = ["Reader", "Store", "StoreOptions", "Transaction"]

_HOMES = {"Reader": "reader", "Store": "store", "Transaction": "transaction"}


def __getattr__(name: str) -> Any:
    # acquire reads StoreOptions with the rest of the configuration; it shall not pay 30 MB for SQLAlchemy
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(name)
