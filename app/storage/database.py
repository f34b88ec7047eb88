"""The database: one engine per process, sessions to read and to write, and the only commit.

SQLite's write-ahead log can corrupt a database that two connections write at once in versions
3.7.0 to 3.51.2 (https://www.sqlite.org/wal.html#walresetbug), so the log is used only where the
library at hand carries the fix; otherwise the rollback journal is, which is slower and safe.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import SQLAlchemyError as DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from app.settings import Settings
from app.storage.patience import bound

__all__ = [
    "UNAVAILABLE",
    "Database",
    "DatabaseError",
    "Session",
    "clock",
    "create_database_engine",
    "database_of",
    "is_sqlite",
    "own_connection",
    "take_turn",
]

# What a request meets when the database is away, full or locked, through no fault of its own.
# InternalError: PostgreSQL takes no writes just now, or ended a transaction that slept too long.
UNAVAILABLE = (InterfaceError, InternalError, OperationalError, PoolTimeoutError)
# A server that vanishes without a word is noticed in tens of seconds, not in TCP's quarter of an
# hour.
POSTGRES_CONNECTION = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
LOCK_POLL_SECONDS = 0.001
FIXED_VERSIONS = (((3, 51, 3), None), ((3, 50, 7), (3, 51, 0)), ((3, 44, 6), (3, 45, 0)))


def log_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite carries the fix of the write-ahead-log corruption."""
    return any(version >= first and (end is None or version < end) for first, end in FIXED_VERSIONS)


def sqlite_driver() -> ModuleType:
    """Python's own SQLite if it carries the fix, else the bundled one where there is one."""
    if log_is_safe(sqlite3.sqlite_version_info):
        return sqlite3
    try:
        # Not on every platform (no wheel for some), and then the rollback journal is used.
        return import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3


def create_database_engine(url: str, *, busy_seconds: float, call_seconds: float) -> Engine:
    """An engine that has not connected yet.

    `busy_seconds` bounds every wait for SQLite's lock or a pooled connection, `call_seconds` every
    call to PostgreSQL.
    """
    pool: dict[str, Any] = {
        "pool_size": 10,
        "max_overflow": 30,
        "pool_timeout": busy_seconds,
        "hide_parameters": True,  # they hold callers' texts, which have no place in logs
    }
    if make_url(url).get_backend_name() != "sqlite":
        # Of several addresses the next is tried in time; psycopg's least are two seconds.
        connection = POSTGRES_CONNECTION | {"connect_timeout": max(2, int(call_seconds / 2))}
        engine = create_engine(url, **pool, pool_pre_ping=True, connect_args=connection)
        bound(engine, call_seconds=call_seconds)
        return engine
    driver = sqlite_driver()
    engine = create_engine(url, **pool, module=driver)
    journal = "wal" if log_is_safe(driver.sqlite_version_info) else "delete"

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # BEGIN is ours: the driver's own would come too late
        for pragma in (
            f"busy_timeout = {int(busy_seconds * 1000)}",
            f"journal_mode = {journal}",
            "synchronous = full",
            "foreign_keys = on",
        ):
            connection.execute(f"PRAGMA {pragma}")

    # SQLite's own waiting is by polling, and unfair: of forty threads one may wait for ever. So
    # the threads of a process take turns here, and only processes meet there.
    turn = threading.Lock()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("writes", False):
            connection.exec_driver_sql("BEGIN")
            return
        if not turn.acquire(timeout=busy_seconds):
            raise PoolTimeoutError("the write lock was not free in time")
        connection.info["has_turn"] = True
        # A read that turns into a write later cannot wait for the lock: SQLite refuses it at once.
        wait_for_lock(connection.connection.driver_connection, busy_seconds, driver)

    @event.listens_for(engine, "checkin")
    def end_turn(_: Any, record: ConnectionPoolEntry) -> None:
        if record.info.pop("has_turn", False):
            turn.release()

    return engine


def wait_for_lock(connection: Any, seconds: float, driver: ModuleType) -> None:
    """Begins a transaction that writes. Raises OperationalError if the lock was not free in time.

    SQLite itself looks every tenth of a second after a while, which a process that writes again and
    again does not leave to another.
    """
    deadline = time.monotonic() + seconds
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except driver.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() >= deadline:
                    raise OperationalError("BEGIN IMMEDIATE", None, error) from error
            time.sleep(LOCK_POLL_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


class Database:
    """Sessions on one engine. A session begins at its first statement, not when it is made."""

    def __init__(self, url: str, *, busy_seconds: float, call_seconds: float = 5.0) -> None:
        self.url = url
        self.engine = create_database_engine(
            url, busy_seconds=busy_seconds, call_seconds=call_seconds
        )
        self._writes = self.engine.execution_options(writes=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction that only reads."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with Session(self._writes, expire_on_commit=False) as session:
            yield session
            session.commit()

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def dispose(self) -> None:
        self.engine.dispose()


def database_of(settings: Settings) -> Database:
    """The database that the settings name. Nothing connects yet."""
    return Database(
        settings.resolved_database_url,
        busy_seconds=settings.database_busy_seconds,
        call_seconds=settings.database_seconds,
    )


def is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


@contextmanager
def own_connection(database: Database) -> Iterator[Any]:
    """A connection of the driver's, in autocommit, that no pool will give to anybody else.

    The driver's errors are raised as DatabaseError, those of the block included.
    """
    driver_error = database.engine.dialect.loaded_dbapi.Error
    try:
        pooled = database.engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        with closing(connection):
            if not database.is_sqlite:
                connection.autocommit = True
            yield connection
    except driver_error as error:
        raise DatabaseError(str(error)) from error


def take_turn(session: Session, name: str) -> None:
    """Until this transaction ends, others that take this turn wait for it.

    On SQLite the write lock is everybody's turn, and is held already.
    """
    if not is_sqlite(session):
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        session.execute(lock, {"name": name})


def clock(session: Session) -> datetime:
    """Now, by the database's clock: the only one that leases are judged by."""
    if is_sqlite(session):
        return datetime.now(UTC)  # SQLite runs in this process
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)
