"""The store: opening, upgrading, the write transaction, upkeep."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from broker.store import engines, layout, retention, tables
from broker.store.engines import failure, sql_errors
from broker.store.lock import WriterLock
from broker.store.memory import Memory
from broker.store.options import StoreOptions
from broker.store.reader import Reader
from broker.store.rebuild import NOTED
from broker.store.transaction import Transaction
from schemas.entries import START, Position
from schemas.errors import StoreError, StoreLocked

#: A WAL longer than this is cut when nobody reads.
WAL_BYTES: Final = 64 << 20


class Store:
    """
    One database, opened for writing by one process at a time, or for reading.

    ``position``, ``stage`` and ``transaction`` belong to the writer; ``reader`` to everybody.
    """

    def __init__(self, options: StoreOptions, url: sa.URL, lock: WriterLock | None, now_ns: Callable[[], int]) -> None:
        self._options = options
        self._lock = lock
        self._now_ns = now_ns
        self._write = engines.write_engine(url) if lock is not None else None
        self._read = engines.read_engine(url, options.query_limit)
        self._memory: Memory | None = None
        self._busy = threading.Lock()
        self._owner: int | None = None
        self._trimmed: set[retention.Done] = set()
        self._behind_ns = 0

    @classmethod
    def open(
        cls, options: StoreOptions, data_dir: Path, *, write: bool, now_ns: Callable[[], int] = time.time_ns
    ) -> Store:
        """
        Open the database of *options*; ``write=True`` takes the lock ``data_dir/store.lock``.

        *now_ns* stamps audit rows only; everything else carries the times of the stream.

        Raises:
            StoreLocked: another process writes this store.
            StoreError: the directory cannot be made.
            ConfigError: the password cannot be read.
        """
        url = engines.address(options, data_dir)
        lock: WriterLock | None = None
        if write:
            try:
                data_dir.mkdir(parents=True, exist_ok=True)
                if url.get_backend_name() == "sqlite":
                    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{data_dir}: cannot be made: {error.strerror}") from error
            lock = WriterLock(data_dir / "store.lock")
            lock.acquire()
        store = cls(options, url, lock, now_ns)
        try:
            store._claim()
        except StoreLocked:
            store.close()
            raise
        return store

    def _claim(self) -> None:
        """Connect to a database server at once, for its lock; one that is down is claimed when it comes back."""
        if self._write is None or self._write.dialect.name == "sqlite":
            return
        try:
            self._write.connect().close()
        except sql_errors() as error:
            if engines.is_already_written(error):
                raise StoreLocked("the database is in use by another process") from error

    def upgrade(self) -> None:
        """
        Bring tables and views to what this program expects; a current store is left as it is.

        Raises:
            StoreError: a newer program made the store, or the migration failed (then nothing was changed).
        """
        if self.is_current():
            return
        from broker.store import migrate  # with Alembic, which a current store does not need

        with self._writing() as connection:
            made = layout.current(connection)
            if made is not None and not migrate.is_known(made):
                raise StoreError(f"the store was made by a newer version (migration {made}); use that version")
            migrate.upgrade(connection)
            self._memory = None

    def is_current(self) -> bool:
        """Whether tables and views are what this program expects. Raises StoreError."""
        if self._write is None and not self._exists():
            return False
        with engines.bounded(self._read, self._options.query_limit) as connection:
            return layout.is_current(connection)

    def is_made(self) -> bool:
        """Whether there are tables at all, of this or another version. Raises StoreError."""
        if self._write is None and not self._exists():
            return False
        with engines.bounded(self._read, self._options.query_limit) as connection:
            return layout.current(connection) is not None

    def _exists(self) -> bool:
        # opening an SQLite file makes it; a reader shall not
        url = self._read.url
        return url.get_backend_name() != "sqlite" or Path(str(url.database)).exists()

    def position(self) -> Position:
        """The place up to which the stream is in SQL. Raises StoreError."""
        with engines.bounded(self._read, self._options.query_limit) as connection:
            query = sa.select(tables.counters).where(tables.counters.c.name.in_(["epoch", "seq"]))
            found: dict[str, int] = dict(connection.execute(query).all())
        return Position(found.get("epoch", START.epoch), found.get("seq", START.seq))

    def stage(self, name: str) -> bytes | None:
        """The state a stage saved last. Raises StoreError."""
        with engines.bounded(self._read, self._options.query_limit) as connection:
            state = connection.execute(sa.select(tables.stages.c.state).where(tables.stages.c.name == name)).scalar()
        return None if state is None else bytes(state)

    @contextmanager
    def transaction(self, *, later: bool = False) -> Iterator[Transaction]:
        """
        Everything written inside commits together when the block ends without an error.

        Transactions of several threads run one after another; they do not nest. Where *later*, roll-ups of the records
        may wait for a transaction in which ``Transaction.roll_up`` is called; a crash between loses nothing.

        Raises:
            StoreError: SQL failed, nothing was committed. Only where the connection to a database server is lost
                during the commit itself may the commit have happened: ``position`` tells.
        """
        with self._writing() as connection:
            transaction = Transaction(connection, self._remembered(connection), self._now_ns, later=later)
            yield transaction
            transaction.finish()

    @property
    def has_stale_rollups(self) -> bool:
        """Whether ``Transaction.rebuild`` has work to do; not known before the first transaction."""
        return self._memory is not None and bool(self._memory.last(NOTED))

    def _remembered(self, connection: sa.Connection) -> Memory:
        if self._memory is None:
            self._memory = Memory.load(connection)
        return self._memory

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        if self._write is None:
            raise StoreError("the store is open for reading only")
        if self._owner == threading.get_ident():
            raise RuntimeError("transactions do not nest")
        with self._busy:
            self._owner = threading.get_ident()
            try:
                with self._write.begin() as connection:
                    yield connection
            except BaseException as error:
                # what memory says may be ahead of SQL now
                self._memory = None
                if engines.is_already_written(error):
                    raise StoreLocked("the database is in use by another process") from error
                if isinstance(error, sql_errors()):
                    raise failure(error) from error
                raise
            finally:
                self._owner = None

    def reader(self) -> Reader:
        """A reader; thread-safe, may be kept."""
        return Reader(self._read, self._options.query_limit, self._options.page_limit)

    def maintain(self, now_ns: int, *, budget_s: float = retention.BUDGET_S) -> None:
        """
        Retention for *budget_s*, slice by slice, and a checkpoint of a long WAL. Call it every half minute or so.

        *now_ns* is the newest time of arrival in the journal, so that a stream that stands still removes nothing;
        retention follows it by an hour a call at most (``retention.advance``).

        Raises:
            StoreError: SQL failed; the slices before are removed.
        """
        deadline = time.monotonic() + budget_s
        with self._writing() as connection:
            memory = self._remembered(connection)
            limit_ns = retention.advance(memory, now_ns)
            memory.flush(connection)
        self._behind_ns = 0 if limit_ns is None else now_ns - limit_ns
        more = True
        while limit_ns is not None and more:
            with self._writing() as connection:
                memory = self._remembered(connection)
                keep = self._options.keep
                done, more = retention.trim(connection, memory, keep, limit_ns, now_ns, self._trimmed)
                memory.flush(connection)
            self._trimmed = done
            if time.monotonic() >= deadline:
                break
        if self._write is not None and self._write.dialect.name == "sqlite":
            self._checkpoint(self._write)

    def _checkpoint(self, engine: sa.Engine) -> None:
        wal = Path(f"{engine.url.database}-wal")
        try:
            with self._busy:
                if not wal.exists() or wal.stat().st_size < WAL_BYTES:
                    return
                raw = engine.raw_connection()
                try:
                    cursor = raw.cursor()
                    # a reader postpones the cut; the writer has no time to wait for it
                    cursor.execute("PRAGMA busy_timeout=50")
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    cursor.execute(f"PRAGMA busy_timeout={engines.BUSY_MS}")
                finally:
                    raw.close()
        except OSError as error:
            raise failure(error) from error
        except sql_errors() as error:
            raise failure(error) from error

    @property
    def warnings(self) -> list[str]:
        """What a person should know about this database; empty when all is well."""
        found = []
        if self._read.dialect.name == "sqlite" and (3, 7, 0) <= sqlite3.sqlite_version_info < (3, 51, 3):
            found.append(
                f"SQLite {sqlite3.sqlite_version} can damage its WAL when two connections checkpoint at once "
                "(fixed in 3.51.3); only one connection here does, so let no other program write to the file"
            )
        if self._behind_ns >= retention.DAY_NS:
            found.append(
                f"retention is {self._behind_ns // retention.DAY_NS} days behind the clock and follows by an hour each "
                "half minute: the plant was off for long, or the clock is wrong; correct it before old rows go"
            )
        return found

    def close(self) -> None:
        """Close every connection and give the lock back. Never raises."""
        for engine in (self._read, self._write):
            if engine is not None:
                engine.dispose()
        if self._lock is not None:
            self._lock.release()
