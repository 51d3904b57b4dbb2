"""Databases for the store's tests: a file for SQLite, a throw-away cluster for PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from broker.store import Store, StoreOptions
from tests.waiting import PATIENT_STORE


@pytest.fixture(scope="session")
def cluster(need: Callable[[str], str]) -> Iterator[str]:
    """URL of a PostgreSQL server of this test run, without a database name; ends with the session."""
    initdb, pg_ctl = need("initdb"), need("pg_ctl")
    need("postgres")
    # a socket's path is short, and initdb refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="fl-pg-"))
    prefix: list[str] = []
    user = "postgres"
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        prefix = [need("setpriv"), "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = folder / "data"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(folder)}

    def run(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, env=environment, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        run(initdb, "-D", str(data), "-U", user, "-A", "trust", "-E", "UTF8", "--no-sync")
        settings = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=30 -c shared_buffers=32MB"
        run(pg_ctl, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", settings, "start")
        try:
            yield f"postgresql://{user}@/{{name}}?host={folder}"
        finally:
            run(pg_ctl, "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_database(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Make a database that holds no row and return its URL; the migrations run once, the rest are copies."""
    import psycopg

    numbers = count(1)
    with psycopg.connect(cluster.format(name="postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated")
    migrated = StoreOptions(url=cluster.format(name="migrated"))
    store = Store.open(migrated, tmp_path_factory.mktemp("migrated"), write=True)
    store.upgrade()
    store.close()

    def make() -> str:
        name = f"t{next(numbers)}"
        with psycopg.connect(cluster.format(name="postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE migrated')
        return cluster.format(name=name)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """URL of an empty database of each kind; None is the default, SQLite in the data directory."""
    return None if request.param == "sqlite" else request.getfixturevalue("new_database")()


Opener = Callable[..., Store]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Opener]:
    """Open a store for writing (upgraded) in a folder below tmp_path; closed at the end."""
    opened: list[Store] = []

    def make(url: str | None = None, name: str = "data", **options: object) -> Store:
        clock = count(1_700_000_000_000_000_000)
        store = Store.open(
            StoreOptions.model_validate({"url": url, **PATIENT_STORE, **options}),
            tmp_path / name,
            write=True,
            now_ns=lambda: next(clock),
        )
        opened.append(store)
        store.upgrade()
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Opener, url: str | None) -> Store:
    """An empty store on each kind of database."""
    return open_store(url)
