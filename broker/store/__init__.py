"""
The SQL store: one writer, many readers; SQLite by default, PostgreSQL by URL.

Tables are ours to change; the ``v_*`` views (docs/sql-views.md) are the contract with SQL readers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.store.options import StoreOptions
    from broker.store.reader import Reader
    from broker.store.store import Store
    from broker.store.transaction import Transaction

__all__ = ["Reader", "Store", "StoreOptions", "Transaction"]

_HOMES = {"Reader": "reader", "Store": "store", "StoreOptions": "options", "Transaction": "transaction"}


def __getattr__(name: str) -> Any:
    # whoever needs the options, or the lock alone, shall not pay 30 MB for SQLAlchemy
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(name)
