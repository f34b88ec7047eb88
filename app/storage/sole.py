"""A lock on a database that its holder cannot leave behind: it goes when the process does."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from app.storage.database import Database, DatabaseError, own_connection

# Any number will do, as long as nothing else on the server uses it for an advisory lock.
LOCK = 7_203_114_887
END_HOLDER = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (%s, %s, 1) AND pid = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# The server notices in half a minute that a machine is gone, and frees the lock of its process.
KEEPALIVES = """
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3
"""


class AlreadyHeld(RuntimeError):
    """Another process holds the lock."""

    def __init__(self) -> None:
        super().__init__(
            "Another dispatcher already has workers of its own on this database. Stop it, or name "
            "a scheduler that both use in BACKSOLVE_SCHEDULER_ADDRESS."
        )


@contextmanager
def sole_holder(database: Database, path: Path) -> Iterator[Callable[[], None]]:
    """Holds the lock: a lock on the file `path` for SQLite, an advisory lock on PostgreSQL.

    Raises AlreadyHeld at once if another process has it. A lock on PostgreSQL goes with its
    connection, whatever breaks that: the function that is given makes sure of the lock, takes it
    again if need be, and raises AlreadyHeld if another process was faster.
    """
    if database.is_sqlite:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyHeld from None
            yield lambda: None
        return
    with ExitStack() as held:
        connection, backend = held.enter_context(locked(database, former=0))

        def make_sure() -> None:
            nonlocal connection, backend
            with suppress(psycopg.Error):
                connection.execute("SELECT 1")
                return
            held.close()
            connection, backend = held.enter_context(locked(database, former=backend))

        yield make_sure


@contextmanager
def locked(database: Database, *, former: int) -> Iterator[tuple[Any, int]]:
    """A connection that holds the lock, and the process of the server that serves it.

    One that we have lost without the server's noticing, `former`, still holds the lock: it is
    ended, and DatabaseError raised, since that takes a moment.
    """
    with own_connection(database) as connection:
        connection.execute(KEEPALIVES)
        row = connection.execute(
            f"SELECT pg_backend_pid(), pg_try_advisory_lock({LOCK})"
        ).fetchone()
        if not row[1]:
            ended = connection.execute(END_HOLDER, (LOCK >> 32, LOCK & 0xFFFFFFFF, former))
            if ended.fetchone():
                raise DatabaseError("the connection that held the lock is being ended")
            raise AlreadyHeld
        yield connection, row[0]
