"""How a process learns at once that another one changed the jobs.

PostgreSQL carries a notification in the transaction that makes the change. SQLite has no such
thing, but tells cheaply (`PRAGMA data_version`) whether any other connection has committed.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from app.storage.database import Database, Session, is_sqlite, own_connection

CHANNEL = "backsolve_jobs"
SQLITE_POLL_SECONDS = 0.01
# One change is often followed by the next: for a moment it is asked more often.
SQLITE_BRISK_POLL_SECONDS = 0.002
BRISK_SECONDS = 0.1
STOP_POLL_SECONDS = 0.2
# A connection that carries nothing for so long is asked whether it still can.
SILENCE_SECONDS = 5.0

Wait = Callable[[float], None]


def announce(session: Session) -> None:
    """Wakes the waiters when this transaction commits."""
    if not is_sqlite(session):
        session.execute(text(f"NOTIFY {CHANNEL}"))


@contextmanager
def wakeups(database: Database, stopping: threading.Event) -> Iterator[Wait]:
    """Gives `wait(seconds)`, which returns early when jobs changed or `stopping` is set.

    A change that came between two waits ends the second at once, so none is missed.
    """
    with own_connection(database) as connection:
        if database.is_sqlite:
            yield data_version_wait(connection, stopping)
        else:
            connection.execute(f"LISTEN {CHANNEL}")
            yield notification_wait(connection, stopping)


def notification_wait(connection: Any, stopping: threading.Event) -> Wait:
    heard_at = time.monotonic()

    def wait(seconds: float) -> None:
        nonlocal heard_at
        deadline = time.monotonic() + seconds
        while not stopping.is_set() and (left := deadline - time.monotonic()) > 0:
            for _ in connection.notifies(timeout=min(left, STOP_POLL_SECONDS), stop_after=1):
                heard_at = time.monotonic()
                return
            if time.monotonic() - heard_at > SILENCE_SECONDS:
                # Raises if nobody is there; what is notified meanwhile is kept for the next wait.
                connection.execute("SELECT 1")
                heard_at = time.monotonic()

    return wait


def data_version_wait(connection: Any, stopping: threading.Event) -> Wait:
    def data_version() -> int:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])

    seen, seen_at = data_version(), time.monotonic()

    def wait(seconds: float) -> None:
        nonlocal seen, seen_at
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            is_brisk = now - seen_at < BRISK_SECONDS
            if stopping.wait(SQLITE_BRISK_POLL_SECONDS if is_brisk else SQLITE_POLL_SECONDS):
                return
            if (version := data_version()) != seen:
                seen, seen_at = version, now
                return

    return wait
