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
STOP_POLL_SECONDS = 0.2

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
            yield lambda seconds: wait_for_notification(connection, seconds, stopping)


def wait_for_notification(connection: Any, seconds: float, stopping: threading.Event) -> None:
    deadline = time.monotonic() + seconds
    while not stopping.is_set() and (left := deadline - time.monotonic()) > 0:
        for _ in connection.notifies(timeout=min(left, STOP_POLL_SECONDS), stop_after=1):
            return


def data_version_wait(connection: Any, stopping: threading.Event) -> Wait:
    def data_version() -> int:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])

    seen = data_version()

    def wait(seconds: float) -> None:
        nonlocal seen
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stopping.wait(SQLITE_POLL_SECONDS):
            if (version := data_version()) != seen:
                seen = version
                return

    return wait
