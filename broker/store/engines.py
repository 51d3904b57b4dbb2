"""
Engines: one connection that writes, a few that only read.

Traps: S1 (only the writer checkpoints), S2 (BEGIN IMMEDIATE), S3 (readers are bounded in time), S5 (synchronous
FULL); library-traps of SQLite are named there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from broker.config.secrets import resolve_secret
from broker.store import bulk
from broker.store.options import StoreOptions
from schemas.errors import Refused, StoreError

if TYPE_CHECKING:
    import psycopg

#: WAL pages after which a commit of the writer checkpoints (16 MiB).
CHECKPOINT_PAGES: Final = 4000
#: How long the writer waits for a lock; readers of a WAL take none, so only a stray tool can hold one.
BUSY_MS: Final = 2000
#: How long a reader waits for one of eight connections.
POOL_WAIT_S: Final = 5.0
#: SQLite asks the deadline each so many steps of its virtual machine (about 0.1 ms).
STEPS: Final = 4000
#: Key of the advisory lock that keeps a second writer, on whatever machine, from one PostgreSQL database.
ADVISORY_KEY: Final = 0x666169726C656164


def address(options: StoreOptions, data_dir: Path) -> sa.URL:
    """
    The database of *options*: relative SQLite files lie in *data_dir*, the driver of PostgreSQL is psycopg.

    Raises:
        ConfigError: the password cannot be read.
    """
    url = sa.make_url(options.url or "sqlite:///store.db")
    if url.get_backend_name() == "sqlite":
        return url.set(database=str(data_dir / (url.database or "store.db")))
    url = url.set(drivername="postgresql+psycopg")
    password = options.password
    if password is not None and password.startswith(("env:", "file:", "cred:")):
        password = resolve_secret(password, data_dir)
    return url.set(password=password) if password is not None else url


class AlreadyWritten(Exception):
    """Another connection holds the advisory lock of the writer."""


def sql_errors() -> tuple[type[Exception], ...]:
    """What drivers and pool raise; a statement that cannot be compiled is our own fault and not among them."""
    return (sa.exc.DBAPIError, sa.exc.TimeoutError, sqlite3.Error, AlreadyWritten, *bulk.postgres_errors("Error"))


def is_already_written(error: BaseException) -> bool:
    """Whether a connection of the write engine failed because there is another writer."""
    return isinstance(getattr(error, "orig", None) or error, AlreadyWritten)


def write_engine(url: sa.URL) -> sa.Engine:
    """The engine with the one connection that writes and checkpoints."""
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(
            url,
            connect_args={"check_same_thread": False, "isolation_level": None, "timeout": BUSY_MS / 1000},
            poolclass=sa.QueuePool,
            pool_size=1,
            max_overflow=0,
        )
        sa.event.listen(engine, "connect", _prepare_writer)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    engine = sa.create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, pool_reset_on_return="rollback")
    sa.event.listen(engine, "connect", _take_advisory_lock)
    return engine


def _prepare_writer(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=OFF",
        "cache_size=-8192",
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        "journal_size_limit=67108864",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _take_advisory_lock(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.autocommit = True
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (ADVISORY_KEY,)).fetchone()
    # a commit that the server confirms before it is on disk would break "position and records commit together"
    connection.execute("SET synchronous_commit = on")
    connection.autocommit = False
    if row is None or not row[0]:
        raise AlreadyWritten("the database is in use by another process")


def read_engine(url: sa.URL, query_limit_s: float) -> sa.Engine:
    """An engine whose connections cannot write; each query ends after *query_limit_s*."""
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(
            url,
            connect_args={"check_same_thread": False, "isolation_level": None, "timeout": query_limit_s},
            poolclass=sa.QueuePool,
            pool_size=4,
            max_overflow=4,
            pool_timeout=POOL_WAIT_S,
        )
        sa.event.listen(engine, "connect", _prepare_reader)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine
    limits = f"-c default_transaction_read_only=on -c statement_timeout={int(query_limit_s * 1000)}"
    return sa.create_engine(
        url,
        connect_args={"options": limits},
        pool_size=4,
        max_overflow=4,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
    )


def _prepare_reader(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in ("query_only=1", "wal_autocheckpoint=0", "cache_size=-8192"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def bounded(engine: sa.Engine, limit_s: float) -> Iterator[sa.Connection]:
    """
    A read-only transaction in which all queries together may take *limit_s* (SQLite) or each (PostgreSQL).

    Raises:
        Refused: the time is up; the text says what to do.
        StoreError: the database cannot be read.
    """
    try:
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            if not isinstance(raw, sqlite3.Connection):
                yield connection
                return
            deadline = time.monotonic() + limit_s
            raw.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
            try:
                yield connection
            finally:
                raw.set_progress_handler(None, 0)
    except sql_errors() as error:
        if _ran_out_of_time(error):
            raise Refused(f"the query took longer than {limit_s:g} s; ask for a shorter span or fewer tags") from error
        raise StoreError(f"the store cannot be read: {_first_line(error)}") from error


def _ran_out_of_time(error: BaseException) -> bool:
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
    return isinstance(cause, bulk.postgres_errors("errors.QueryCanceled"))


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).partition("\n")[0]


def failure(error: BaseException) -> StoreError:
    """The StoreError for a failed write; never contains a value or a password."""
    return StoreError(f"the store cannot be written: {_first_line(error)}")
