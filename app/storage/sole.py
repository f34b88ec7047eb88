"""A lock on a database that its holder cannot leave behind: it goes when the process does."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.storage.database import Database, own_connection

# Any number will do, as long as nothing else on the server uses it for an advisory lock.
LOCK = 7_203_114_887


class AlreadyHeld(RuntimeError):
    """Another process holds the lock."""

    def __init__(self) -> None:
        super().__init__(
            "Another dispatcher already has workers of its own on this database. Stop it, or name "
            "a scheduler that both use in BACKSOLVE_SCHEDULER_ADDRESS."
        )


@contextmanager
def sole_holder(database: Database, path: Path) -> Iterator[None]:
    """Holds the lock: a lock on the file `path` for SQLite, an advisory lock on PostgreSQL.

    Raises AlreadyHeld at once if another process has it.
    """
    if database.is_sqlite:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyHeld from None
            yield
        return
    with own_connection(database) as connection:
        if not connection.execute(f"SELECT pg_try_advisory_lock({LOCK})").fetchone()[0]:
            raise AlreadyHeld
        yield
