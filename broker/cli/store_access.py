"""Open the store for one command and close it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker.config import Config, load_config
from schemas.errors import StoreError, StoreMissing

if TYPE_CHECKING:
    from broker.store import Reader, Store, StoreOptions


#: A person at a terminal waits longer than a page or an MES does: ``store.query_limit`` counts where it is more.
PATIENCE_S: Final = 30.0


def patient(config: Config) -> StoreOptions:
    """The options of the store for a person who waits."""
    limit_s = max(PATIENCE_S, config.store.query_limit)
    return config.store.model_copy(update={"query_limit": limit_s})


@contextmanager
def reading(path: Path) -> Iterator[tuple[Config, Reader]]:
    """The configuration in *path* and a reader of its store. Raises ConfigError, StoreError, StoreMissing."""
    from broker.store import Store

    config = load_config(path)
    store = Store.open(patient(config), config.data_dir, write=False)
    try:
        if not store.is_made():
            raise StoreMissing("there is no store yet; fairlead run or fairlead db upgrade makes it")
        if not store.is_current():
            raise StoreError("the store has the schema of another version; fairlead db upgrade brings it up to date")
        yield config, store.reader()
    finally:
        store.close()


@contextmanager
def writing(config: Config) -> Iterator[Store]:
    """The store with its writer lock, at the newest schema. Raises ConfigError, or StoreLocked while another writes."""
    from broker.config.data_folder import make_data_dir
    from broker.store import Store

    make_data_dir(config)
    store = Store.open(config.store, config.data_dir, write=True)
    try:
        store.upgrade()
        yield store
    finally:
        store.close()
