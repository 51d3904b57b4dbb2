"""Open the store for one command and close it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from broker.config import Config, load_config
from schemas.errors import StoreError

if TYPE_CHECKING:
    from broker.store import Reader, Store


@contextmanager
def reading(path: Path) -> Iterator[tuple[Config, Reader]]:
    """The configuration in *path* and a reader of its store. Raises ConfigError, StoreError."""
    from broker.store import Store

    config = load_config(path)
    store = Store.open(config.store, config.data_dir, write=False)
    try:
        if not store.is_current():
            raise StoreError(
                "there is no store yet, or it has an older schema; fairlead run or fairlead db upgrade makes it"
            )
        yield config, store.reader()
    finally:
        store.close()


@contextmanager
def writing(config: Config) -> Iterator[Store]:
    """The store with its writer lock, at the newest schema. Raises StoreLocked while another process writes."""
    from broker.store import Store

    config.data_dir.mkdir(parents=True, exist_ok=True)
    store = Store.open(config.store, config.data_dir, write=True)
    try:
        store.upgrade()
        yield store
    finally:
        store.close()
